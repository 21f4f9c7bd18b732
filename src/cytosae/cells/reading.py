"""`read_cells`: from a folder or a manifest to a cell table, every image decoded once to be sure of it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cytosae.cells.cell_types import harmonise
from cytosae.cells.decoding.decode import SUFFIXES, Probe, probe, probe_mask, quiet
from cytosae.cells.layouts import Rows, read_rows
from cytosae.cells.layouts.medmnist import unpack_medmnist
from cytosae.cells.manifest import NAMES, find_manifest, read_manifest
from cytosae.cells.scan import scan_folder
from cytosae.cells.table import COLUMNS, DUPLICATE_COLUMNS, SKIPPED_COLUMNS, TEXT_COLUMNS, CellTable, safe_name
from cytosae.common.errors import InputError, UsageError
from cytosae.common.progress import progress

CHUNK = 32
"""Images a worker takes at a time."""


def read_cells(
    path: Path | str,
    *,
    name: str | None = None,
    layout: str | None = None,
    max_unusable: float = 0.10,
    workers: int | None = None,
    unpack: Path | str | None = None,
) -> CellTable:
    """Read a data set of single-cell images.

    Parameters
    ----------
    path : a folder (class folders at any depth, a flat folder, one of the field's data sets, or one with a
        `manifest.csv` / `manifest.parquet`), the path of a manifest, or a BloodMNIST `.npz`
    name : name of the data set; by default the folder's
    layout : name of a layout (`cytosae.cells.LAYOUTS`), where recognition by itself is wrong
    max_unusable : largest share of unusable images with which to go on, 0 to 1
    workers : threads that decode, by default one for each processor (8 at most)
    unpack : folder for the images of a `.npz`, by default `<its name>_images` beside it

    Returns
    -------
    CellTable; images that cannot be used are in `.skipped`, dropped exact copies in `.duplicates`.

    Raises
    ------
    InputError
        where there is nothing to read, a manifest is faulty, or more than ``max_unusable`` of the images are unusable.
    """
    path = Path(path).expanduser()
    if not 0 <= max_unusable <= 1:
        raise UsageError(f"max_unusable is {max_unusable}; give a share from 0 to 1.")
    listing = list_cells(path, layout=layout, unpack=unpack)
    chosen = safe_name(name or listing.name)
    probes = list(_probe_all(listing.root, listing.rows.frame, workers, f"Reading {chosen}"))
    return _assemble(chosen, listing.root, listing.rows, probes, max_unusable=max_unusable)


@dataclass(frozen=True)
class Listing:
    """The images of a data set before any is decoded.

    Attributes
    ----------
    name : of the data set, by its folder or file
    root : folder that paths are relative to
    rows : the images and what their paths and tables tell
    """

    name: str
    root: Path
    rows: Rows


def list_cells(path: Path | str, *, layout: str | None = None, unpack: Path | str | None = None) -> Listing:
    """List the images that `read_cells` would decode, exact copies and broken files among them."""
    path = Path(path).expanduser()
    if path.suffix.lower() == ".npz" and path.is_file():
        return _list_arrays(path, layout, unpack)
    root, manifest = _locate(path, layout)
    rows = _rows_of_manifest(root, manifest) if manifest else read_rows(scan_folder(root), layout)
    name = root.resolve().name if manifest is None or manifest.name in NAMES else manifest.stem
    return Listing(name, root, rows)


def _list_arrays(path: Path, layout: str | None, unpack: Path | str | None) -> Listing:
    if layout not in (None, "bloodmnist"):
        raise UsageError(f"{path} holds arrays, for which there is no layout {layout!r}; leave layout out.")
    folder = Path(unpack) if unpack is not None else path.with_name(f"{path.stem}_images")
    try:
        root = unpack_medmnist(path, folder)
    except OSError as problem:
        raise InputError(
            f"{path} cannot be unpacked into {folder} ({problem.strerror}); name another folder with unpack=."
        ) from problem
    rows = _rows_of_manifest(root, root / NAMES[0])
    words = f"BloodMNIST arrays ({path.name}), unpacked into {root}"
    return Listing(path.stem, root, replace(rows, layout=words, dataset="bloodmnist", source=path))


def _locate(path: Path, layout: str | None) -> tuple[Path, Path | None]:
    """Root folder, and the manifest to read from it (None: read the folder itself)."""
    if path.is_dir():
        return path, find_manifest(path) if layout in (None, "manifest") else None
    if not path.exists():
        raise InputError(
            f"{path} does not exist; give a folder of cell images, a manifest (.csv, .parquet) or a BloodMNIST .npz."
        )
    if path.suffix.lower() in {".csv", ".parquet"}:
        return path.parent, path
    what = "is a single image" if path.suffix.lower() in SUFFIXES else "is no manifest"
    raise InputError(f"{path} {what}; give a folder of cell images or a manifest (.csv, .parquet).")


def _rows_of_manifest(root: Path, manifest: Path) -> Rows:
    frame: Any = read_manifest(manifest)
    base = os.path.normpath(root.absolute())
    problems: list[tuple[str, str]] = []
    keep = np.ones(len(frame), dtype=bool)
    images = frame["image"].astype(object).to_numpy()
    for row, image in enumerate(images):
        problem = f"no image is named in row {row + 2} of {manifest.name}" if pd.isna(image) else None
        if problem is None:
            images[row], problem = _relative(base, image)
        if problem is not None:
            keep[row] = False
            problems.append(("" if pd.isna(image) else str(image), problem))
    frame["image"] = pd.array(images, dtype="string")
    masks = frame["mask"].astype(object).to_numpy()
    for row, mask in enumerate(masks):
        if not pd.isna(mask):
            masks[row] = _relative(base, mask)[0]
    frame["mask"] = pd.array(masks, dtype="string")
    skipped = pd.DataFrame(problems, columns=pd.Index(SKIPPED_COLUMNS), dtype="string")
    return Rows(frame[keep].reset_index(drop=True), skipped, f"manifest ({manifest.name})", "any", manifest)


def _relative(root: str, text: str) -> tuple[str, str | None]:
    """Path relative to ``root`` (posix), and what is wrong with it: it must not leave the manifest's folder."""
    if "\\" in text and not os.path.exists(os.path.join(root, text)):  # noqa: PTH110, PTH118 - a million rows
        text = text.replace("\\", "/")
    full = os.path.normpath(os.path.join(root, text))  # noqa: PTH118
    if not full.startswith(root.rstrip(os.sep) + os.sep):
        return text, "outside the manifest's folder (put the manifest into a folder above the images)"
    return full[len(root.rstrip(os.sep)) + 1 :].replace(os.sep, "/"), None


def _probe_all(
    root: Path, frame: pd.DataFrame, workers: int | None, description: str
) -> Iterator[tuple[Probe | str, str | None]]:
    """For each row, in order: the probe or the reason against it, and what is wrong with its mask."""
    images = frame["image"].astype(object).tolist()
    masks = [None if pd.isna(mask) else mask for mask in frame["mask"].astype(object)]
    pairs = list(zip(images, masks, strict=True))
    chunks = [pairs[start : start + CHUNK] for start in range(0, len(pairs), CHUNK)]
    # Decoders release the interpreter lock, so threads do; they start at once and need no guarded main module.
    pool = ThreadPoolExecutor(workers or min(8, os.cpu_count() or 1), thread_name_prefix="cytosae-read")
    with quiet(), progress(description, len(pairs), "images") as bar:
        try:
            for results in pool.map(lambda chunk: [_probe_one(root, *pair) for pair in chunk], chunks):
                bar.advance(len(results))
                yield from results
        finally:
            pool.shutdown(cancel_futures=True)


def _probe_one(root: Path, image: str, mask: str | None) -> tuple[Probe | str, str | None]:
    try:
        result = probe(root / image)
    except InputError as problem:
        return str(problem), None
    if mask is None:
        return result, None
    _, outside = _relative(os.path.normpath(root.absolute()), mask)
    return result, outside or probe_mask(root / mask, (result.height, result.width))


def _assemble(
    name: str,
    root: Path,
    rows: Rows,
    probes: Sequence[tuple[Probe | str, str | None]],
    *,
    max_unusable: float,
) -> CellTable:
    frame: Any = rows.frame  # pandas' own annotations do not follow these chains
    usable = np.array([isinstance(result, Probe) for result, _ in probes], dtype=bool)
    bad = [
        (image, result) for image, (result, _) in zip(frame["image"], probes, strict=True) if isinstance(result, str)
    ]
    failed = pd.DataFrame(bad, columns=pd.Index(SKIPPED_COLUMNS), dtype="string")
    skipped = pd.concat([rows.skipped, failed], ignore_index=True)
    _check_share(rows, skipped, total=len(frame) + len(rows.skipped), max_unusable=max_unusable)
    good = [(result, mask) for result, mask in probes if isinstance(result, Probe)]
    frame = frame[usable].reset_index(drop=True)
    frame["cell_id"] = [result.cell_id for result, _ in good]
    frame["width"] = np.array([result.width for result, _ in good], dtype=np.int64)
    frame["height"] = np.array([result.height for result, _ in good], dtype=np.int64)
    notes = [[*result.notes, *([f"mask not used: {mask}"] if mask else [])] for result, mask in good]
    frame["status"] = ["; ".join(note) or "ok" for note in notes]
    frame["mask"] = frame["mask"].mask(np.array([bool(mask) for _, mask in good], dtype=bool))
    frame["cell_type"] = harmonise(
        frame["sublabel"].fillna(frame["label"]) if "sublabel" in frame else frame["label"], rows.dataset
    )
    others = [column for column in frame.columns if column not in COLUMNS]
    frame = frame[[*COLUMNS, *others]].astype(dict.fromkeys(TEXT_COLUMNS, "string"))
    first = _first_of_each(frame["cell_id"])
    copies = first != np.arange(len(frame))
    duplicates = _duplicates(frame, first, copies)
    return CellTable(name, root, frame[~copies].reset_index(drop=True), skipped, duplicates, rows.layout)


def _first_of_each(ids: pd.Series) -> np.ndarray:
    """Row of the first occurrence of each row's value."""
    codes, _ = pd.factorize(ids)
    first = np.full(codes.max(initial=-1) + 1, len(codes), dtype=np.intp)
    np.minimum.at(first, codes, np.arange(len(codes)))
    return first[codes]


def _duplicates(frame: Any, first: np.ndarray, copies: np.ndarray) -> pd.DataFrame:
    kept, dropped = frame.iloc[first[copies]], frame[copies]
    facts = [name for name in frame.columns if name not in {"image", "mask", "cell_id", "status"}]
    unlike = np.column_stack(
        [(kept[name].astype(str).to_numpy() != dropped[name].astype(str).to_numpy()).astype(bool) for name in facts]
    )
    names = [" ".join(name for name, other in zip(facts, row, strict=True) if other) or None for row in unlike]
    return pd.DataFrame(
        {
            "cell_id": dropped["cell_id"].to_numpy(),
            "kept": kept["image"].to_numpy(),
            "dropped": dropped["image"].to_numpy(),
            "kept_label": kept["label"].array,
            "dropped_label": dropped["label"].array,
            "differs": np.array(names, dtype=object),
            "labels_differ": unlike[:, facts.index("label")],
        },
        columns=pd.Index(DUPLICATE_COLUMNS),
    ).astype(dict.fromkeys(DUPLICATE_COLUMNS[:-1], "string"))


def _check_share(rows: Rows, skipped: pd.DataFrame, *, total: int, max_unusable: float) -> None:
    if len(skipped) <= max_unusable * total and len(skipped) < total:
        return
    examples = "; ".join(f"{path or '(no path)'}: {why}" for path, why in skipped.head(3).itertuples(index=False))
    more = f"; and {len(skipped) - 3:,} more" if len(skipped) > 3 else ""
    raise InputError(
        f"{len(skipped):,} of {total:,} images of {rows.source} are unusable, more than the allowed "
        f"{max_unusable:.0%} ({examples}{more}); mend or remove them, or raise max_unusable."
    )

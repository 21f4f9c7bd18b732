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
from cytosae.cells.columns import differing_in_case, storable_names
from cytosae.cells.decoding.decode import SUFFIXES, Probe, probe, probe_mask, quiet
from cytosae.cells.layouts import Rows, read_rows
from cytosae.cells.layouts.medmnist import unpack_medmnist
from cytosae.cells.manifest import NAMES, find_manifest, read_manifest
from cytosae.cells.named_files import OUTSIDE, NamedFiles
from cytosae.cells.scan import fingerprint_files, scan_folder
from cytosae.cells.table import COLUMNS, DUPLICATE_COLUMNS, SKIPPED_COLUMNS, TEXT_COLUMNS, CellTable
from cytosae.cells.table_files import SUFFIXES as TABLE_SUFFIXES
from cytosae.common.artifact import digest
from cytosae.common.errors import InputError, UsageError
from cytosae.common.names import short_name
from cytosae.common.progress import progress

ARCHIVES = frozenset({".zip", ".tar", ".gz", ".tgz", ".7z", ".rar"})
CHUNK = 32
"""Images a worker takes at a time."""


def read_cells(
    path: Path | str,
    *,
    name: str | None = None,
    layout: str | None = None,
    images_root: Path | str | None = None,
    max_unusable: float = 0.10,
    workers: int | None = None,
    unpack: Path | str | None = None,
) -> CellTable:
    """Read a data set of single-cell images.

    Parameters
    ----------
    path : Path or str
        A folder (class folders at any depth, a flat folder, one of the field's data sets, or one with a manifest), the
        path of a manifest (CSV, Excel or Parquet), or a BloodMNIST `.npz`.
    name : str or None
        Name of the data set; by default the folder's.
    layout : str or None
        Name of a layout (`cytosae.cells.LAYOUTS`), where recognition by itself is wrong.
    images_root : Path or str or None
        Folder of the images that a manifest names, by default its own; paths of another machine are looked for below.
    max_unusable : float
        Largest share of unusable images with which to go on, 0 to 1.
    workers : int or None
        Threads that decode, by default one for each processor (8 at most).
    unpack : Path or str or None
        Folder for the images of a `.npz`, by default `<its name>_images` beside it.

    Returns
    -------
    CellTable
        Images that cannot be used are in `.skipped`, dropped exact copies in `.duplicates`, and what was taken for
        what in `.remarks`.

    Raises
    ------
    InputError
        There is nothing to read, a manifest is faulty, or more than ``max_unusable`` of the images are unusable.

    Examples
    --------
    >>> import tempfile
    >>> import cytosae
    >>> from cytosae.cells.synthetic import synthesize
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     cells = cytosae.read_cells(synthesize(folder, patients=2, cells=3))
    >>> len(cells), cells.frame["patient"].nunique()
    (6, 2)
    """
    if not 0 <= max_unusable <= 1:
        raise UsageError(f"max_unusable is {max_unusable}; give a share from 0 to 1.")
    listing = list_cells(path, layout=layout, images_root=images_root, unpack=unpack)
    chosen = short_name(name or listing.name)
    probes = list(_probe_all(listing.root, listing.rows.frame, workers, f"Reading {chosen}"))
    return _assemble(chosen, listing.root, listing.rows, probes, max_unusable=max_unusable)


@dataclass(frozen=True)
class Listing:
    """The images of a data set before any is decoded.

    Attributes
    ----------
    name : str
        Name of the data set, by its folder or file.
    root : Path
        Folder that paths are relative to.
    rows : Rows
        The images and what their paths and tables tell.
    """

    name: str
    root: Path
    rows: Rows


def list_cells(
    path: Path | str,
    *,
    layout: str | None = None,
    images_root: Path | str | None = None,
    unpack: Path | str | None = None,
) -> Listing:
    """List the images that `read_cells` would decode, exact copies and broken files among them."""
    path = Path(path).expanduser()
    if path.suffix.lower() == ".npz" and path.is_file():
        return _list_arrays(path, layout, unpack)
    root, manifest = _locate(path, layout, images_root)
    if manifest is None:
        return Listing(path.resolve().name, root, read_rows(scan_folder(root), layout))
    name = manifest.parent.resolve().name if manifest.name.lower() in NAMES else manifest.stem
    return Listing(name, root, _rows_of_manifest(root, manifest, moved=images_root is not None))


def listing_fingerprint(path: Path | str, *, layout: str | None = None, images_root: Path | str | None = None) -> str:
    """SHA-256 over path, size and time of change of every file that reading ``path`` looks at."""
    path = Path(path).expanduser()
    if path.suffix.lower() == ".npz" and path.is_file():  # whatever lies beside it is no part of it
        return digest([str(path), path.stat().st_size, path.stat().st_mtime_ns])
    root, manifest = _locate(path, layout, images_root)
    if manifest is None:
        return scan_folder(root).fingerprint
    rows = _rows_of_manifest(root, manifest, moved=images_root is not None)
    named = [*rows.frame["image"], *rows.frame["mask"].dropna()]
    return digest([fingerprint_files(manifest.parent, [manifest.name]), fingerprint_files(root, named)])


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
    rows = _rows_of_manifest(root, root / NAMES[0], moved=False)
    words = f"BloodMNIST arrays ({path.name}), unpacked into {root}"
    return Listing(path.stem, root, replace(rows, layout=words, dataset="bloodmnist", source=path))


def _locate(path: Path, layout: str | None, images_root: Path | str | None) -> tuple[Path, Path | None]:
    """Root folder of the images, and the manifest to read (None: read the folder itself)."""
    manifest = None
    if path.is_dir():
        manifest = find_manifest(path) if layout in (None, "manifest") else None
    elif not path.exists():
        raise InputError(
            f"{path} does not exist; give a folder of cell images, a manifest (.csv, .xlsx, .parquet) or a BloodMNIST "
            ".npz."
        )
    elif path.suffix.lower() in TABLE_SUFFIXES:
        manifest = path
    else:
        suffix = path.suffix.lower()
        what = (
            "is a single image" if suffix in SUFFIXES else "is an archive" if suffix in ARCHIVES else "is no manifest"
        )
        unpack = "unpack it and " if suffix in ARCHIVES else ""
        raise InputError(f"{path} {what}; {unpack}give a folder of cell images or a manifest (.csv, .xlsx, .parquet).")
    if images_root is None:
        return (path if manifest is None else manifest.parent), manifest
    root = Path(images_root).expanduser()
    if manifest is None:
        raise UsageError(f"images_root says where the images of a manifest are, but {path} has none; leave it out.")
    if not root.is_dir():
        raise InputError(f"{root} is no folder; give the one below which the images of {manifest} are.")
    return root, manifest


def _rows_of_manifest(root: Path, path: Path, *, moved: bool) -> Rows:
    manifest = read_manifest(path)
    frame: Any = manifest.frame
    images = frame["image"].astype(object).to_numpy(copy=True)  # filled below; pandas 3 gives what cannot be written
    masks = frame["mask"].astype(object).to_numpy(copy=True)
    files = NamedFiles(root, [text for text in images if not pd.isna(text)], moved=moved)
    problems: dict[int, tuple[str, str]] = {}
    for row, image in enumerate(images):
        if pd.isna(image):
            problems[row] = ("", f"no image is named in row {manifest.rows[row]} of {path.name}")
            continue
        images[row], problem = files.find(image)
        if problem is not None:
            problems[row] = (image, problem)
        if not pd.isna(masks[row]):
            masks[row] = files.find(masks[row])[0]
    frame["image"], frame["mask"] = pd.array(images, dtype="string"), pd.array(masks, dtype="string")
    skipped = pd.DataFrame(list(problems.values()), columns=pd.Index(SKIPPED_COLUMNS), dtype="string")
    frame = frame.drop(index=list(problems)).reset_index(drop=True)
    notes = (*manifest.notes, *files.notes)
    return Rows(frame, skipped, f"manifest ({path.name})", "any", path, notes)


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
    if mask.startswith(("..", "/")):
        return result, f"{mask}: {OUTSIDE}"
    try:
        notes = probe_mask(root / mask, (result.height, result.width))
    except InputError as problem:
        return result, f"{mask}: {problem}"
    return replace(result, notes=(*result.notes, *notes)), None


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
    renamed = storable_names(column for column in frame.columns if column not in COLUMNS)
    frame = frame.rename(columns=renamed)
    others = [column for column in frame.columns if column not in COLUMNS]
    frame = frame[[*COLUMNS, *others]].astype(dict.fromkeys(TEXT_COLUMNS, "string"))
    first = _first_of_each(frame["cell_id"])
    copies = first != np.arange(len(frame))
    duplicates = _duplicates(frame, first, copies)
    said = [f"The column {old!r} is called {new!r}: an atlas cannot hold its name." for old, new in renamed.items()]
    said += [sentence for column in ("label", "patient", "diagnosis") for sentence in differing_in_case(frame[column])]
    cells = frame[~copies].reset_index(drop=True)
    return CellTable(name, root, cells, skipped, duplicates, rows.layout, (*rows.notes, *said))


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
    differ = np.empty(len(dropped), dtype=object)
    for row, flags in enumerate(unlike):
        differ[row] = tuple(name for name, other in zip(facts, flags, strict=True) if other)
    return pd.DataFrame(
        {
            "cell_id": dropped["cell_id"].to_numpy(),
            "kept": kept["image"].to_numpy(),
            "dropped": dropped["image"].to_numpy(),
            "kept_label": kept["label"].array,
            "dropped_label": dropped["label"].array,
            "differs": differ,
            "labels_differ": unlike[:, facts.index("label")],
        },
        columns=pd.Index(DUPLICATE_COLUMNS),
    ).astype(dict.fromkeys(DUPLICATE_COLUMNS[:-2], "string"))


def _check_share(rows: Rows, skipped: pd.DataFrame, *, total: int, max_unusable: float) -> None:
    if len(skipped) <= max_unusable * total and len(skipped) < total:
        return
    examples = "; ".join(f"{path or '(no path)'}: {why}" for path, why in skipped.head(3).itertuples(index=False))
    more = f"; and {len(skipped) - 3:,} more" if len(skipped) > 3 else ""
    missing = rows.source.is_file() and (skipped["reason"] == "file not found").any()
    mend = "name the folder where they are with --images-root, " if missing else ""
    raise InputError(
        f"{len(skipped):,} of {total:,} images of {rows.source} are unusable, more than the allowed "
        f"{max_unusable:.0%} ({examples}{more}); {mend}mend or remove them, or raise max_unusable."
    )

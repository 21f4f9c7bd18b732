"""A data set on disk against what is published of it: what is missing, foreign, broken, or there twice."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd

from cytosae.cells.datasets import PublishedDataset
from cytosae.cells.layouts import KNOWN
from cytosae.cells.layouts.layout import Rows, read_table
from cytosae.cells.manifest import NAMES, find_manifest
from cytosae.cells.reading import ARCHIVES, list_cells, read_cells
from cytosae.cells.scan import Scan, scan_folder
from cytosae.cells.table import CellTable
from cytosae.common.errors import InputError

_TEXTS = re.compile(r"(readme|licen[cs]e|changelog|citation)(\.\w+)?|.*\.(md|txt|pdf)", re.IGNORECASE)
_SHOWN = 3


@dataclass(frozen=True)
class Finding:
    """One thing that a check has found.

    Attributes
    ----------
    kind : str
        Counts, patients, foreign, undecodable, conflict, shared, archive, tokens, attributes; or, of no harm, broken
        (known of the original), reading (what was done to read it), duplicate, litter, folder, file, unknown.
    wrong : bool
        Whether something is to be mended; False for what reading copes with by itself.
    sentence : str
        What it is.
    files : tuple of str
        The files in question, as far as there are such.
    """

    kind: str
    wrong: bool
    sentence: str
    files: tuple[str, ...] = ()


@dataclass(frozen=True)
class DatasetCheck:
    """What `check_dataset` found.

    Attributes
    ----------
    cells : CellTable
        The table as `read_cells` gives it.
    counts : DataFrame
        Index class; columns files and published (NA where it is not known).
    findings : tuple of Finding
        In the order of their weight.
    """

    cells: CellTable
    counts: pd.DataFrame
    findings: tuple[Finding, ...]

    @property
    def wrong(self) -> bool:
        """Whether any finding is to be mended."""
        return any(finding.wrong for finding in self.findings)


def check_dataset(
    path: Path | str,
    published: PublishedDataset | None = None,
    *,
    layout: str | None = None,
    images_root: Path | str | None = None,
    against: Sequence[CellTable] = (),
) -> DatasetCheck:
    """Read a data set and compare it with what is published of it.

    Parameters
    ----------
    path : str or Path
        Folder, manifest or BloodMNIST `.npz`; the images of the latter are unpacked into a temporary folder.
    published : PublishedDataset or None
        The data set that it is meant to be; None to look for faults that need no such knowledge.
    layout : str or None
        Overrules the recognition of the layout.
    images_root : str or Path or None
        Folder of the images that a manifest names.
    against : sequence of CellTable
        Tables of other data sets, searched for the same images.

    Raises
    ------
    InputError
        where there is nothing that can be read.
    """
    path = Path(path).expanduser()
    if layout is None and published is not None and published.name in KNOWN and path.is_dir():
        layout = None if find_manifest(path) else published.name
    with tempfile.TemporaryDirectory() as unpacked:
        folder = Path(unpacked) / "images"
        rows = list_cells(path, layout=layout, images_root=images_root, unpack=folder).rows
        cells = read_cells(path, layout=layout, images_root=images_root, max_unusable=1.0, unpack=folder)
    scan = scan_folder(path) if path.is_dir() else None
    findings: list[Finding] = []
    if published is not None:
        findings += _against_published(rows, published, path)
    findings += _unusable(rows, cells, published)
    findings += [Finding("reading", False, sentence) for sentence in (*cells.notes, *cells.image_notes)]
    findings += _copies(cells)
    findings += [finding for other in against for finding in _shared(cells, other)]
    if scan is not None:
        findings += _litter(scan, published)
    findings.sort(key=lambda finding: not finding.wrong)
    return DatasetCheck(cells, _counts(rows, published), tuple(findings))


def shared_images(tables: Sequence[CellTable]) -> list[Finding]:
    """Images that occur in more than one of the data sets, compared pair by pair."""
    pairs = [(first, other) for i, first in enumerate(tables) for other in tables[i + 1 :]]
    return [finding for first, other in pairs for finding in _shared(first, other)]


def check_attributes(path: Path | str, published: PublishedDataset) -> list[Finding]:
    """Compare WBCAtt's tables (a folder of CSV files, or one of them) with the published counts."""
    path = Path(path)
    files = sorted(path.glob("*.csv")) if path.is_dir() else [path]
    tables = {file: read_table(file, needed=()) for file in files}
    tables = {file: table for file, table in tables.items() if {"img_name", "label"} <= set(table.columns)}
    if not tables:
        raise InputError(f"{path} holds no table with the columns img_name and label; give the folder of WBCAtt.")
    whole: Any = pd.concat(tables.values(), ignore_index=True)
    found: Mapping[str, int] = whole["label"].str.lower().value_counts().to_dict()
    findings = list(_differing(found, published.counts, "rows of"))
    for split, number in published.splits.items():
        rows = sum(len(table) for file, table in tables.items() if file.stem.lower().endswith(split))
        findings += _differing({split: rows}, {split: number}, "rows of the split")
    twice = whole["img_name"][whole["img_name"].duplicated()].tolist()
    if twice:
        findings.append(
            Finding("attributes", True, f"{_these(len(twice), 'row')} for an image that had one: {_list(twice)}.")
        )
    gaps = int(whole.drop(columns="label").isna().any(axis=1).sum())
    if gaps:
        findings.append(Finding("attributes", True, f"{_these(gaps, 'row')} without a value of some attribute."))
    return findings


def _against_published(rows: Rows, published: PublishedDataset, path: Path) -> Iterator[Finding]:
    frame: Any = rows.frame  # pandas' own annotations do not follow these chains
    known = frame[published.counted].dropna()
    if published.counts:
        found = known.value_counts().to_dict()
        yield from _differing(found, published.counts, "files of")
        yield from _missing_names(frame, published, found)
        yield from _prefixes(frame, published, found)
    else:
        yield Finding("unknown", False, f"No source tells the number of files per class of {published.title}.")
        yield from _differing({published.images_are: len(known)}, {published.images_are: published.images}, "")
    if published.splits and "split" in frame:
        yield from _differing(frame["split"].value_counts().to_dict(), published.splits, "images of the split")
    yield from _patients(frame, published, path)


def _differing(found: Mapping[Any, int], published: Mapping[str, int], what: str) -> Iterator[Finding]:
    """A finding for each class whose count is another one than published, and for classes that are not published."""
    for name, number in published.items():
        here = int(found.get(name, 0))
        if here == number:
            continue
        much = f"{number - here:,} missing" if here < number else f"{here - number:,} too many"
        yield Finding("counts", True, f"{here:,} of {number:,} {what} {name}: {much}.".replace("  ", " "))
    for name in sorted(set(map(str, found)) - set(published)):
        yield Finding("counts", True, f"{found[name]:,} {what} {name}, which is not published.")


def _missing_names(frame: Any, published: PublishedDataset, found: Mapping[Any, int]) -> Iterator[Finding]:
    if not published.names:
        return
    there = {PurePosixPath(image).name for image in frame["image"]}
    for label, number in published.counts.items():
        expected = [published.names.format(label=label, number=i) for i in range(1, number + 1)]
        missing = [name for name in expected if name not in there]
        if 0 < len(missing) == number - int(found.get(label, 0)) < number:  # else the numbers run otherwise here
            sentence = f"{_these(len(missing), 'file')} of {label} missing: {_list(missing)}."
            yield Finding("missing", True, sentence, tuple(missing))


def _prefixes(frame: Any, published: PublishedDataset, found: Mapping[Any, int]) -> Iterator[Finding]:
    complete = all(found.get(name, 0) == number for name, number in published.counts.items())
    if published.prefixes and complete and "sublabel" in frame:
        counts = frame["sublabel"].value_counts()
        here = {name: int(counts.get(name, 0)) for name in published.prefixes}
        yield from _differing(here, published.prefixes, "files with the prefix")


def _patients(frame: Any, published: PublishedDataset, path: Path) -> Iterator[Finding]:
    there = set(frame["patient"].dropna())
    if published.patients is None or not there:
        return
    if len(there) != published.patients:
        yield Finding("patients", True, f"{len(there):,} of {published.patients:,} published patients.")
    for label, number in published.patient_counts.items():
        here = frame["patient"][frame[published.counted] == label].nunique()
        if here != number:
            yield Finding("patients", True, f"{here:,} of {number:,} published patients of {label}.")
    table = path / published.patient_table
    if not path.is_dir() or not published.patient_table or find_manifest(path):
        return
    if not table.is_file():
        yield Finding("patients", True, f"{table.name}, the table of the patients, is missing.")
        return
    listed = set(read_table(table, needed=(published.patient_column,))[published.patient_column].dropna())
    for names, words in ((listed - there, "without an image"), (there - listed, f"not in {table.name}")):
        if names:
            yield Finding("patients", True, f"{_these(len(names), 'patient')} {words}: {_list(sorted(names))}.")


def _unusable(rows: Any, cells: CellTable, published: PublishedDataset | None) -> Iterator[Finding]:
    outside = rows.skipped["reason"].str.startswith("outside the layout").fillna(value=False).astype(bool)
    foreign = rows.skipped["path"][outside].tolist()
    if foreign:
        yield Finding(
            "foreign",
            True,
            f"{_these(len(foreign), 'image')} outside the layout ({rows.layout}): {_list(foreign)}.",
            tuple(foreign),
        )
    known, passed = published.broken if published else {}, set(foreign)
    for image, reason in cells.skipped.itertuples(index=False):
        words = known.get(PurePosixPath(image).name)
        if words is not None:
            yield Finding("broken", False, f"{image} {words} and is left out ({reason}).", (image,))
        elif image not in passed:
            yield Finding("undecodable", True, f"{image or 'a row'} cannot be used: {reason}.", (image,))


def _copies(cells: CellTable) -> Iterator[Finding]:
    for kind, differ in (("conflict", True), ("duplicate", False)):
        some: Any = cells.duplicates[cells.duplicates["labels_differ"] == differ]
        if some.empty:
            continue
        pairs = [f"{kept} = {dropped}" for kept, dropped in some[["kept", "dropped"]].itertuples(index=False)]
        words = "Copies under another label" if differ else "Exact copies"
        sentence = f"{words} of {_these(len(some), 'image')}, of which the first is kept: {_list(pairs)}."
        yield Finding(kind, differ, sentence, tuple(some["dropped"]))


def _shared(cells: CellTable, other: CellTable) -> Iterator[Finding]:
    place: Any = other.frame.set_index("cell_id")["image"]
    common: Any = cells.frame[cells.frame["cell_id"].isin(list(place.index))]
    if len(common):
        pairs = [f"{image} = {place[cell]}" for image, cell in common[["image", "cell_id"]].itertuples(index=False)]
        sentence = f"{_these(len(common), 'image')} of {cells.name} also in {other.name}: {_list(pairs)}."
        yield Finding("shared", True, sentence, tuple(common["image"]))


def _litter(scan: Scan, published: PublishedDataset | None) -> Iterator[Finding]:
    if scan.litter:
        sentence = f"{_these(len(scan.litter), 'piece')} of litter, passed over: {_list(scan.litter)}."
        yield Finding("litter", False, sentence, scan.litter)
    archives = [name for name in scan.others if PurePosixPath(name).suffix.lower() in ARCHIVES]
    for name in archives:
        unpacked = (scan.root / name).with_suffix("").is_dir()
        words = "lies beside its unpacked folder" if unpacked else "is not unpacked; unpack it or take it away"
        yield Finding("archive", not unpacked, f"{name} {words}.", (name,))
    doubled = sorted({"/".join(pair) for image in scan.images for pair in _doubled(PurePosixPath(image).parts[:-1])})
    if doubled:
        sentence = f"{_these(len(doubled), 'folder')} inside one of the same name, as unpacking leaves them: "
        yield Finding("folder", False, f"{sentence}{_list(doubled)}.", tuple(doubled))
    tables = set(published.tables if published else ()) | set(NAMES)
    foreign = [
        name
        for name in scan.others
        if name not in archives
        and PurePosixPath(name).name not in tables
        and not _TEXTS.fullmatch(PurePosixPath(name).name)
    ]
    if foreign:
        sentence = f"{_these(len(foreign), 'file')} other than images, passed over: {_list(foreign)}."
        yield Finding("file", False, sentence, tuple(foreign))


def _doubled(parts: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    return ((first, second) for first, second in pairwise(parts) if first == second)


def _counts(rows: Rows, published: PublishedDataset | None) -> pd.DataFrame:
    column = published.counted if published else "label"
    found: dict[str, int] = rows.frame[column].value_counts().to_dict()
    known = published.counts if published else {}
    classes = sorted({*found, *known})
    return pd.DataFrame(
        {
            "files": pd.array([int(found.get(name, 0)) for name in classes], dtype="Int64"),
            "published": pd.array([known.get(name, pd.NA) for name in classes], dtype="Int64"),
        },
        index=pd.Index(classes, name="class", dtype="string"),
    )


def _these(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def _list(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more

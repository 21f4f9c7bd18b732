"""What a layout is: a pattern of paths whose named groups are columns, and the tables that come along."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from cytosae.cells.columns import typed
from cytosae.cells.scan import Scan
from cytosae.common.errors import InputError

RECOGNISED_FROM = 0.9
"""Share of the images that must fit the pattern for a layout to be recognised."""
_CORE = ("image", "label", "patient", "diagnosis", "mask")


@dataclass(frozen=True)
class Rows:
    """What a reader found before anything was decoded.

    Attributes
    ----------
    frame : DataFrame
        One row an image, columns image, label, patient, diagnosis, mask (strings), then others.
    skipped : DataFrame
        Columns path, reason.
    layout : str
        In words.
    dataset : str
        Name under which the labels stand in `cell_types.csv`.
    source : Path
        Folder or manifest, for messages.
    notes : tuple of str
        Sentences about what was done to read it.
    """

    frame: pd.DataFrame
    skipped: pd.DataFrame
    layout: str
    dataset: str
    source: Path
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Layout:
    """One data set's way of lying on disk.

    Attributes
    ----------
    name, title : str
        Short name and full name.
    shape : str
        The layout in words.
    pattern : Pattern
        Matched against the whole relative path; its named groups become columns.
    classes : frozenset of str or None
        Labels that count; None admits any.
    proof : callable or None
        What besides the paths must speak for the layout, such as a table that names the same patients: takes the scan
        and the frame of matched images.
    columns : callable or None
        Adds columns to the frame of matched images, from tables of the data set.
    """

    name: str
    title: str
    shape: str
    pattern: re.Pattern[str]
    classes: frozenset[str] | None = None
    proof: Callable[[Scan, pd.DataFrame], bool] | None = None
    columns: Callable[[Scan, pd.DataFrame], pd.DataFrame] | None = None

    def fits(self, scan: Scan) -> bool:
        """Whether nearly all images of the folder lie in this layout."""
        found = self._matched(scan)
        return len(found) >= RECOGNISED_FROM * len(scan.images) and (self.proof is None or self.proof(scan, found))

    def rows(self, scan: Scan) -> Rows:
        """Rows of the images that fit; the others are skipped with the reason."""
        frame = self._matched(scan)
        foreign = sorted(set(scan.images) - set(frame["image"]))
        reason = f"outside the layout of {self.title} ({self.shape})"
        frame["mask"] = pd.array([scan.mask_of(image) for image in frame["image"]], dtype="string")
        if self.columns is not None and len(frame):
            frame = self.columns(scan, frame)
        skipped = pd.DataFrame({"path": foreign, "reason": reason}, dtype="string")
        return Rows(frame, skipped, f"{self.title}: {self.shape}", self.name, scan.root)

    def _matched(self, scan: Scan) -> pd.DataFrame:
        found = [{"image": image, **match.groupdict()} for image in scan.images if (match := self._match(image))]
        return pd.DataFrame(found, columns=pd.Index(dict.fromkeys([*_CORE, *self.pattern.groupindex])), dtype="string")

    def _match(self, image: str) -> re.Match[str] | None:
        match = self.pattern.fullmatch(image)
        if match is None or self.classes is None:
            return match
        return match if match["label"] in self.classes else None


def read_table(path: Path, *, needed: tuple[str, ...]) -> pd.DataFrame:
    """Read a data set's own CSV table (all as text) and check that it has the columns ``needed``."""
    try:
        table = pd.read_csv(path, dtype="string", encoding="utf-8-sig", encoding_errors="replace")
    except (ValueError, OSError) as problem:
        raise InputError(
            f"{path} cannot be read ({' '.join(str(problem).split())}); fetch the original file again."
        ) from problem
    missing = [name for name in needed if name not in table]
    if missing:
        raise InputError(
            f"{path} has no column {missing[0]!r}; fetch the original file again, or read the folder with "
            "--layout folders."
        )
    return table


def join_by(frame: pd.DataFrame, table: pd.DataFrame, key: str) -> pd.DataFrame:
    """Add the columns of ``table`` to the rows of ``frame`` by the column ``key``; the frame's own columns win."""
    extra = table.drop_duplicates(key).set_index(key)
    extra = extra.drop(columns=[name for name in extra if name in frame or name in {"width", "height", "status"}])
    return frame.join(extra.apply(typed), on=key)

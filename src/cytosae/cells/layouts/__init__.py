"""How the field's data sets lie on disk; a layout is one entry here and, where it has tables, one small file."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import PurePosixPath

import pandas as pd

from cytosae.cells.columns import text_of, written_twice
from cytosae.cells.layouts.acevedo import ACEVEDO
from cytosae.cells.layouts.apl_cohort import APL_COHORT
from cytosae.cells.layouts.bmc import BMC
from cytosae.cells.layouts.folders import rows_of_folders
from cytosae.cells.layouts.hehr import HEHR
from cytosae.cells.layouts.layout import Layout, Rows
from cytosae.cells.layouts.matek19 import MATEK19
from cytosae.cells.layouts.mll23 import MLL23
from cytosae.cells.manifest import NAMES
from cytosae.cells.scan import Scan
from cytosae.common.errors import InputError, UsageError

__all__ = ["KNOWN", "LAYOUTS", "Layout", "Rows", "read_rows"]

KNOWN: dict[str, Layout] = {entry.name: entry for entry in (APL_COHORT, HEHR, ACEVEDO, MATEK19, BMC, MLL23)}
"""In the order in which they are tried."""
UNREAD = frozenset(".heic .heif .avif .svs .ndpi .czi .lif .nd2 .vsi .mrxs .scn .dcm .raw .cr2 .nef .psd".split())  # noqa: SIM905
"""Suffixes of pictures that are not read."""
LAYOUTS = ("manifest", "folders", *KNOWN)
"""Names that `read_cells(layout=)` takes."""


def read_rows(scan: Scan, layout: str | None) -> Rows:
    """Rows of a folder by the layout of that name, or by the one that it is recognised to have."""
    rows = _rows(scan, layout)
    folders = [(name, f"a folder that cannot be listed ({why})") for name, why in scan.unreadable]
    unreadable = pd.DataFrame(folders, columns=pd.Index(["path", "reason"]), dtype="string")
    notes: list[str] = []
    for name in ("label", "patient", "diagnosis"):
        notes += written_twice(rows.frame[name])
        rows.frame[name] = text_of(rows.frame[name])
    skipped = pd.concat([rows.skipped, unreadable], ignore_index=True)
    return replace(rows, skipped=skipped, notes=(*rows.notes, *notes, *_passed_over(scan, rows)))


def _rows(scan: Scan, layout: str | None) -> Rows:
    if layout is not None and layout not in LAYOUTS:
        raise UsageError(f"there is no layout {layout!r}; choose one of: {', '.join(LAYOUTS)}.")
    if layout == "manifest":
        raise InputError(f"{scan.root} holds no {' or '.join(NAMES)}; write one, or leave layout out.")
    if not scan.images:
        raise InputError(_no_images(scan))
    if layout in KNOWN:
        rows = KNOWN[layout].rows(scan)
        if rows.frame.empty:
            raise InputError(
                f"{scan.root} has no image in the layout {layout!r} ({KNOWN[layout].shape}); leave layout out."
            )
        return rows
    if layout is None:
        for entry in KNOWN.values():
            if entry.fits(scan):
                return entry.rows(scan)
    return rows_of_folders(scan)


def _no_images(scan: Scan) -> str:
    unreadable = [f"{name} cannot be listed ({why})" for name, why in scan.unreadable[:1]]
    masks = [f"{len(scan.masks):,} in folders for masks, such as {min(scan.masks)}"] if scan.masks else []
    suffixes = Counter(PurePosixPath(name).suffix.lower() or "no suffix" for name in scan.others)
    others = [f"{count:,} files with {suffix}" for suffix, count in suffixes.most_common(1)]
    there = [*unreadable, *masks, *others]
    held = f" ({'; '.join(there)})" if there else ""
    return f"{scan.root} holds no images{held}; give a folder of image files (.jpg, .png, .tif, ...) or a manifest."


def _passed_over(scan: Scan, rows: Rows) -> list[str]:
    """What looks like cells and is not read."""
    orphans = sorted(scan.masks - set(rows.frame["mask"].dropna()))
    unread = [name for name in scan.others if PurePosixPath(name).suffix.lower() in UNREAD]
    return [
        *(f"{name} belongs to a study of cytosae and is passed over." for name in scan.own),
        *(
            f"{len(names):,} {what} are passed over ({names[0]})."
            for names, what in (
                (orphans, "images in folders for masks belong to no image and"),
                (unread, "files of a format that is not read"),
            )
            if names
        ),
    ]

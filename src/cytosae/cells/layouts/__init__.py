"""How the field's data sets lie on disk; a layout is one entry here and, where it has tables, one small file."""

from __future__ import annotations

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
LAYOUTS = ("manifest", "folders", *KNOWN)
"""Names that `read_cells(layout=)` takes."""


def read_rows(scan: Scan, layout: str | None) -> Rows:
    """Rows of a folder by the layout of that name, or by the one that it is recognised to have."""
    if layout is not None and layout not in LAYOUTS:
        raise UsageError(f"there is no layout {layout!r}; choose one of: {', '.join(LAYOUTS)}.")
    if layout == "manifest":
        raise InputError(f"{scan.root} holds no {' or '.join(NAMES)}; write one, or leave layout out.")
    if not scan.images:
        raise InputError(
            f"{scan.root} holds no images; give a folder of image files (.jpg, .png, .tif, ...) or a manifest."
        )
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

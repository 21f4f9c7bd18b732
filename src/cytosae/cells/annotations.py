"""Tables about cells that other people published, and how they are joined to a cell table."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path, PurePosixPath

import pandas as pd

from cytosae.cells.cell_types import harmonise
from cytosae.cells.layouts.layout import read_table
from cytosae.cells.scan import plain_form
from cytosae.cells.table import CellTable

_FILE = "file\0"
"""A name that no column has."""
PATHOGNOMONIC = ("faggot", "auer rod", "atypical promyelocyte", "cup-like blast")
"""Parts of the expert labels of AML_Hehr that name cells which prove a subtype."""


def read_expert_annotations(path: Path | str) -> pd.DataFrame:
    """Read the expert labels of AML_Hehr cells (SCEMILA).

    Returns
    -------
    DataFrame
        One row a cell: `patient`, `file` (name of the image), `expert_label`, `expert_cell_type` (harmonised),
        `expert_pathognomonic` (bool), `scemila_prediction`.
    """
    table = read_table(Path(path), needed=("mll_annotation", "prediction", "ID", "im_tiffname"))
    label = table["mll_annotation"].str.strip()
    proves = [any(part in text for part in PATHOGNOMONIC) for text in label.fillna("")]
    return pd.DataFrame(
        {
            "patient": table["ID"],
            "file": table["im_tiffname"],
            "expert_label": label,
            "expert_cell_type": harmonise(label, "hehr"),
            "expert_pathognomonic": proves,
            "scemila_prediction": table["prediction"],
        }
    )


def read_attributes(path: Path | str) -> pd.DataFrame:
    """Read WBCAtt's eleven morphological attributes of Acevedo cells: `file` (name of the image) and the attributes."""
    path = Path(path)
    table = read_table(path, needed=())
    source = "image" if "image" in table else "img_name"
    table = read_table(path, needed=(source,))
    table = table.dropna(subset=source)
    table["file"] = table[source].map(lambda text: PurePosixPath(text).name).astype("string")
    return table.drop(columns=[name for name in (source, "label", "path", "Unnamed: 0") if name in table])


def join_annotations(cells: CellTable, table: pd.DataFrame) -> CellTable:
    """Add a table's columns to the cells by file name (and patient, where the table has one).

    File names are compared without regard to case, suffix and Unicode form (`103.TIF` is `103.tif`); cells that the
    table does not name get NA. The order and number of cells, and the columns that they have, stay as they are.
    """
    keys = [_FILE, "patient"] if "patient" in table else [_FILE]
    right = table.assign(**{_FILE: table["file"].map(_stem)}).drop(columns="file").drop_duplicates(keys)
    left = cells.frame.assign(**{_FILE: cells.frame["image"].map(_stem)})
    right = right[[*keys, *(name for name in right if name not in left)]]
    frame = left.merge(right, on=keys, how="left", validate="many_to_one").drop(columns=_FILE)
    return replace(cells, frame=frame)


def _stem(path: str) -> str:
    return plain_form(PurePosixPath(path).stem).casefold()

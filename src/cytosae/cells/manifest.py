"""Manifests: a table that lists images, written by the user."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from cytosae.cells.columns import clean, of_objects, text_of, typed, written_twice
from cytosae.cells.table_files import read_table_file
from cytosae.common.errors import InputError

NAMES = ("manifest.csv", "manifest.parquet", "manifest.tsv", "manifest.xlsx")
"""What a manifest in a folder is called, in capitals or not."""
TEXT_COLUMNS = ("image", "label", "patient", "diagnosis", "mask")
OWN_COLUMNS = ("cell_id", "width", "height", "status", "cell_type")
"""Columns that reading measures anew; a manifest's own values of these are not taken over."""
_COLUMNS_SENTENCE = "the columns are image (needed), label, patient, diagnosis, mask and any others"


@dataclass(frozen=True)
class Manifest:
    """What a manifest says.

    Attributes
    ----------
    frame : DataFrame
        One row an image in the file's order: `image`, `label`, `patient`, `diagnosis`, `mask` as strings (missing as
        NA; "007" stays "007"), then the other columns.
    rows : list of int
        Number of each row in the file.
    notes : tuple of str
        Sentences about what was done to read it.
    """

    frame: pd.DataFrame
    rows: list[int]
    notes: tuple[str, ...]


def find_manifest(folder: Path) -> Path | None:
    """Path of the manifest in ``folder``, None without one; a workbook counts where there is no other.

    Raises
    ------
    InputError
        There are two.
    """
    try:
        found = [path for path in sorted(folder.iterdir()) if path.name.lower() in NAMES and path.is_file()]
    except OSError:  # said by whoever lists its images
        return None
    found = [path for path in found if path.suffix.lower() != ".xlsx"] or found
    if len(found) > 1:
        raise InputError(f"{folder} holds both {found[0].name} and {found[1].name}; give the path of the one to read.")
    return found[0] if found else None


def read_manifest(path: Path) -> Manifest:
    """Read a CSV, Excel or Parquet manifest.

    Raises
    ------
    InputError
        In one sentence that names the file and the mend.
    """
    table = read_table_file(path, lambda names: "image" in map(_known_name, names))
    frame: Any = table.frame.rename(columns={name: _known_name(name) for name in table.frame.columns})
    index = [at for at, name in enumerate(frame.columns) if _is_index(name, frame.iloc[:, at])]
    frame = frame.iloc[:, [at for at in range(len(frame.columns)) if at not in index]]
    _check_columns(path, frame)
    twice = [sentence for name in frame if name not in {"image", "mask"} for sentence in written_twice(frame[name])]
    result = pd.DataFrame({name: _text(frame, name) for name in TEXT_COLUMNS}, index=frame.index).astype("string")
    others = [name for name in frame.columns if name not in TEXT_COLUMNS and name not in OWN_COLUMNS]
    for name in others:
        result[name] = of_objects(frame[name]) if table.typed else typed(frame[name], comma=table.comma)
    commas = [name for name in others if table.comma and _has_commas(frame[name], result[name])]
    notes = [*table.notes]
    notes += ["a column without a name left out, which is empty or numbers the rows"] if index else []
    notes += [f"decimal commas in {', '.join(commas)}"] if commas else []
    said = [f"How {path.name} was read: {'; '.join(notes)}."] if notes else []
    return Manifest(result.reset_index(drop=True), table.rows, (*said, *twice))


def _check_columns(path: Path, frame: pd.DataFrame) -> None:
    if not len(frame.columns):
        raise InputError(f"{path} is empty; {_COLUMNS_SENTENCE}.")
    twice = frame.columns[frame.columns.duplicated()]
    if len(twice):
        raise InputError(f"{path} has the column {twice[0]!r} twice; remove or rename one of them.")
    if "image" not in frame and path.suffix.lower() == ".txt":
        raise InputError(f"{path} is no manifest; give a folder of cell images, or a table with the column 'image'.")
    if "image" not in frame:
        names = ", ".join(map(str, frame.columns[:8]))
        raise InputError(f"{path} has no column 'image' (it has: {names}); {_COLUMNS_SENTENCE}.")
    if frame.empty:
        raise InputError(f"{path} lists no images; add a row for each image.")


def _known_name(name: object) -> str:
    text = " ".join(clean(str(name)).split())  # a spreadsheet's headers have lines
    return text.lower() if text.lower() in TEXT_COLUMNS else text


def _is_index(name: str, column: Any) -> bool:
    """Whether a column without a name is empty, or numbers the rows as pandas does when it saves its index."""
    if name and not re.fullmatch(r"Unnamed: \d+|__index_level_\d+__", name):
        return False
    values = text_of(column).dropna()
    return not len(values) or bool(
        values.str.fullmatch(r"\d+").all() and values.is_unique and len(values) == len(column)
    )


def _text(frame: pd.DataFrame, name: str) -> Any:
    if name not in frame:
        return pd.NA
    # Names of files are left in the form in which they are written.
    return text_of(frame[name], str.strip) if name in {"image", "mask"} else text_of(frame[name])


def _has_commas(text: Any, column: Any) -> bool:
    return pd.api.types.is_numeric_dtype(column.dtype) and bool(text.str.contains(",").any())

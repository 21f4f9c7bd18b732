"""Manifests: a table that lists images, written by the user."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

import pandas as pd

from cytosae.common.errors import InputError

NAMES = ("manifest.csv", "manifest.parquet")
TEXT_COLUMNS = ("image", "label", "patient", "diagnosis", "mask")
OWN_COLUMNS = ("cell_id", "width", "height", "status", "cell_type")
"""Columns that reading measures anew; a manifest's own values of these are not taken over."""
_COLUMNS_SENTENCE = "the columns are image (needed), label, patient, diagnosis, mask and any others"


def find_manifest(folder: Path) -> Path | None:
    """Path of the manifest in ``folder``, None without one; `InputError` where there are two."""
    found = [folder / name for name in NAMES if (folder / name).is_file()]
    if len(found) > 1:
        raise InputError(f"{folder} holds both {NAMES[0]} and {NAMES[1]}; give the path of the one to read.")
    return found[0] if found else None


def read_manifest(path: Path) -> pd.DataFrame:
    """Read a CSV or Parquet manifest.

    Returns
    -------
    One row an image in the file's order: `image`, `label`, `patient`, `diagnosis`, `mask` as strings (missing as NA;
    "007" stays "007"), then the other columns.

    Raises
    ------
    InputError
        in one sentence that names the file and the mend.
    """
    frame = _read_parquet(path) if path.suffix.lower() == ".parquet" else _read_csv(path)
    frame = frame.rename(columns={name: _known_name(name) for name in frame.columns})
    twice = frame.columns[frame.columns.duplicated()]
    if len(twice):
        raise InputError(f"{path} has the column {twice[0]!r} twice; remove or rename one of them.")
    if "image" not in frame:
        names = ", ".join(map(str, frame.columns[:8]))
        raise InputError(f"{path} has no column 'image' (it has: {names}); {_COLUMNS_SENTENCE}.")
    if frame.empty:
        raise InputError(f"{path} lists no images; add a row for each image.")
    result = pd.DataFrame(
        {name: _text(frame[name]) if name in frame else pd.NA for name in TEXT_COLUMNS}, index=frame.index
    ).astype("string")
    others = [name for name in frame.columns if name not in TEXT_COLUMNS and name not in OWN_COLUMNS]
    for name in others:
        result[str(name)] = typed(frame[name])
    return result.reset_index(drop=True)


def _known_name(name: object) -> str:
    text = str(name).strip()
    return text.lower() if text.lower() in TEXT_COLUMNS else text


def _text(column: Any) -> Any:
    text = column.astype("string").str.strip()
    return text.mask(text == "")


def typed(column: Any) -> Any:
    """Numbers where every value is one; text such as "007" stays text."""
    if column.dtype != object and not pd.api.types.is_string_dtype(column):
        return column
    text = _text(column)
    values = text.dropna()
    if len(values) and values.str.fullmatch(r"-?(0|[1-9]\d*)(\.\d+)?([eE][-+]?\d+)?").all():
        # plain numpy types, which AnnData and every other reader take
        return pd.to_numeric(text.astype(object).where(text.notna(), None))
    return text


def _read_parquet(path: Path) -> pd.DataFrame:
    try:
        return pd.read_parquet(path)
    except Exception as problem:  # pyarrow has no single error type
        raise InputError(f"{path} cannot be read as Parquet; write it again, or save the table as CSV.") from problem


def _read_csv(path: Path) -> pd.DataFrame:
    try:
        raw = path.read_bytes()
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        raise InputError(f"{path} is not UTF-8 text; save it as CSV with the encoding UTF-8.") from problem
    except OSError as problem:
        raise InputError(
            f"{path} cannot be read ({problem.strerror}); check the path and its permissions."
        ) from problem
    if not text.strip():
        raise InputError(f"{path} is empty; {_COLUMNS_SENTENCE}.")
    if "\0" in text:
        raise InputError(f"{path} is no text file (it holds NUL bytes); save it as CSV with the encoding UTF-8.")
    return _parse_csv(path, text)


def _parse_csv(path: Path, text: str) -> pd.DataFrame:
    try:
        rows = list(csv.reader(text.splitlines(keepends=True), strict=True))
    except csv.Error as problem:
        raise InputError(
            f"{path} cannot be read as CSV ({problem}); save it again with a spreadsheet or pandas."
        ) from problem
    rows = [row for row in rows if row]
    header = rows[0]
    if len(header) == 1 and re.search(r"[;\t|]", header[0]):
        separator = next(s for s in ";\t|" if s in header[0])
        raise InputError(f"{path} is separated by {separator!r}; save it with commas.")
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != len(header):
            raise InputError(
                f"{path} has {len(row)} values in row {number} where the header names {len(header)} columns; "
                "mend the row (values with a comma need quotes)."
            )
    return pd.DataFrame(rows[1:], columns=pd.Index(header), dtype=object)

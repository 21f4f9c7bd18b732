"""Tables as people really have them: CSV of any country and encoding, Excel, Parquet; one reading, or a sentence."""

from __future__ import annotations

import codecs
import csv
import datetime
import io
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from cytosae.common.errors import InputError

SUFFIXES = (".csv", ".tsv", ".txt", ".parquet", ".xlsx", ".xlsm")
"""What a table may be called; what it is, its first bytes say."""
SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_OLD_EXCEL = b"\xd0\xcf\x11\xe0"
_TEXT_MEND = "save it as CSV with the encoding UTF-8"

Header = Callable[[Sequence[str]], bool]
"""Whether these are the names of the columns that are looked for."""


@dataclass(frozen=True)
class TableFile:
    """A table as its file holds it.

    Attributes
    ----------
    frame : DataFrame
        One row a record, empty ones left out; values are text (of CSV) or what Excel and Parquet know them to be.
    rows : list of int
        Number of each record in the file, from 1, the header and empty rows counted.
    notes : list of str
        What was done to read it, where that is worth saying.
    typed : bool
        Whether text is meant as text; False for CSV, where everything is.
    comma : bool
        Whether `3,5` may be a number.
    """

    frame: pd.DataFrame
    rows: list[int]
    notes: list[str]
    typed: bool
    comma: bool = False


def read_table_file(path: Path, is_header: Header) -> TableFile:
    """Read a table by what it is, whatever it is called.

    Parameters
    ----------
    path : Path
        The file.
    is_header : callable
        Says whether a row holds the names of the columns: it settles separator, sheet and first row.

    Raises
    ------
    InputError
        The file has no single reading; the sentence says what to save it as.
    """
    try:
        raw = path.read_bytes()
    except OSError as problem:
        raise InputError(
            f"{path} cannot be read ({problem.strerror}); check the path and its permissions."
        ) from problem
    if raw.startswith(b"PAR1") or path.suffix.lower() == ".parquet":
        return _read_parquet(path)
    if raw.startswith(b"PK\x03\x04") or path.suffix.lower() in {".xlsx", ".xlsm"}:
        return _read_excel(path, raw, is_header)
    if raw.startswith(_OLD_EXCEL):
        raise InputError(
            f"{path} is a workbook of an old Excel (.xls) or one with a password; save it as .xlsx or CSV."
        )
    text, notes = _decode(path, raw)
    return _read_csv(path, text, is_header, notes)


def _decode(path: Path, raw: bytes) -> tuple[str, list[str]]:
    """Text of the bytes, by their mark, as UTF-8, as UTF-16 without a mark, or as Windows-1252."""
    encoding = next((name for mark, name in _MARKS.items() if raw.startswith(mark)), "utf-8")
    if encoding == "utf-8" and b"\0" in raw:
        # Two bytes a letter, of which one is empty in all of the West: what is left of UTF-16 without its mark.
        empty = [raw[start::2].count(0) * 2 / len(raw) for start in (0, 1)]
        encoding = {(True, False): "utf-16-be", (False, True): "utf-16-le"}.get(
            (empty[0] > 0.8 and empty[1] < 0.1, empty[1] > 0.8 and empty[0] < 0.1), encoding
        )
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as problem:
        if encoding != "utf-8":
            raise InputError(f"{path} is damaged {encoding.upper()} text; {_TEXT_MEND}.") from problem
        return _decode_western(path, raw, row=raw[: problem.start].count(b"\n") + 1)
    if "\0" in text:
        raise InputError(f"{path} is no text file (it holds NUL bytes); {_TEXT_MEND}.")
    text = text.lstrip("\ufeff")  # written twice by some programs
    return text, [f"{encoding[:6].upper()} text"] if encoding.startswith(("utf-16", "utf-32")) else []


def _decode_western(path: Path, raw: bytes, row: int) -> tuple[str, list[str]]:
    """Windows-1252, which Excel writes in the West, where nothing speaks for UTF-8, as up to ``row`` it may."""
    valid = {character for character in raw.decode("utf-8", "replace") if character > "\x7f"} - {"\ufffd"}
    if b"\0" in raw or valid:
        what = "holds NUL bytes" if b"\0" in raw else f"is UTF-8 in part, but not in row {row}"
        raise InputError(f"{path} is not UTF-8 text (it {what}); {_TEXT_MEND}.")
    try:
        text = raw.decode("cp1252")
    except UnicodeDecodeError as problem:
        raise InputError(f"{path} is not UTF-8 text, nor Windows-1252 (row {row}); {_TEXT_MEND}.") from problem
    word = re.search(r"\w*[^\x00-\x7f]\w*", text)
    return text, [f"Windows-1252 text (it has {word[0]!r}; {_TEXT_MEND} if that is wrong)"] if word else []


def _read_csv(path: Path, text: str, is_header: Header, notes: list[str]) -> TableFile:
    text, skipped, said, separator = _skip_preamble(text, is_header)
    notes += said
    if not text.strip():
        return TableFile(pd.DataFrame(), [], notes, typed=False)
    separator = separator or _find_separator(text, is_header)
    if separator != ",":
        notes.append(f"separated by {SEPARATORS.get(separator, repr(separator))}")
    try:
        records = list(_records(text, separator))
    except (csv.Error, ValueError) as problem:
        raise InputError(
            f"{path} cannot be read as CSV ({problem}); save it again with a spreadsheet or pandas."
        ) from problem
    header, *records = records
    filled = [(number, row) for number, row in enumerate(records, start=skipped + 2) if any(map(str.strip, row))]
    for number, row in filled:
        surplus = row[len(header) :]
        if len(row) < len(header) or any(map(str.strip, surplus)):
            raise InputError(
                f"{path} has {len(row)} values in row {number} where the header names {len(header)} columns; "
                "mend the row (values with a comma need quotes)."
            )
    empty = sum(1 for row in records if row) - len(filled)
    notes += [f"{empty:,} empty rows passed over"] * bool(empty)
    frame = pd.DataFrame([row[: len(header)] for _, row in filled], columns=pd.Index(header), dtype=object)
    return TableFile(frame, [number for number, _ in filled], notes, typed=False, comma=separator in ";\t")


def _skip_preamble(text: str, is_header: Header) -> tuple[str, int, list[str], str | None]:
    """The text from its header on, the rows before it, what they were, and the separator that Excel's line names."""
    skipped, notes, separator = 0, [], None
    while (line := re.match(r"([^\r\n]*)(\r\n|\r|\n)", text)) is not None:
        content = line[1].strip()
        named = re.fullmatch(r'"?sep=(.)"?', line[1], re.IGNORECASE)
        if named:
            separator = named[1]
            notes.append(f"a line that names the separator {separator!r}")
        elif content.startswith("#") and not any(is_header(content.split(other)) for other in SEPARATORS):
            notes.append(f"a comment ({content[:40]})")
        elif content.strip("".join(SEPARATORS)):
            break
        text, skipped = text[line.end() :], skipped + 1
    return text, skipped, notes, separator


def _find_separator(text: str, is_header: Header) -> str:
    """The separator that makes a header of the first row; without one the separator that occurs in it most."""
    headers: dict[str, list[str]] = {}
    for separator in SEPARATORS:
        try:
            headers[separator] = next(_records(text, separator), [])
        except csv.Error:
            continue
    fitting = [separator for separator, header in headers.items() if is_header(header)]
    return next(iter(fitting or sorted(headers, key=lambda separator: -len(headers[separator]))), ",")


def _records(text: str, separator: str) -> Iterator[list[str]]:
    # Rows end where lines of a file do, not at the vertical tabs and U+2028 at which str.splitlines cuts.
    return csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)


def _read_excel(path: Path, raw: bytes, is_header: Header) -> TableFile:
    import openpyxl

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about formats of cells, which no value depends on
            workbook = openpyxl.load_workbook(io.BytesIO(raw), read_only=True, data_only=True)
            sheets = {sheet.title: _sheet(sheet) for sheet in workbook.worksheets if sheet.sheet_state == "visible"}
            workbook.close()
    except Exception as problem:  # openpyxl has no single error type
        raise InputError(
            f"{path} cannot be read as an Excel workbook; save it again as .xlsx, or as CSV with the encoding UTF-8."
        ) from problem
    starts = {title: _header_row(rows, is_header) for title, rows in sheets.items()}
    fitting = [title for title, start in starts.items() if start is not None]
    if len(fitting) > 1:
        raise InputError(f"{path} has the sheets {fitting[0]!r} and {fitting[1]!r} to read; leave one of them.")
    title = fitting[0] if fitting else next((name for name, rows in sheets.items() if rows), None)
    if title is None:
        return TableFile(pd.DataFrame(), [], [], typed=True)
    return _of_sheet(path, title, sheets, starts[title] or 0)


def _sheet(sheet: Any) -> list[tuple[int, list[Any]]]:
    """Number and values of each row that is not empty; errors such as `#N/A` are `_ERROR`."""
    sheet.reset_dimensions()  # some programs write wrong ones
    rows = ((number, [_cell_value(cell) for cell in row]) for number, row in enumerate(sheet.iter_rows(), start=1))
    return [(number, row) for number, row in rows if any(value is not None for value in row)]


_ERROR = object()


def _cell_value(cell: Any) -> Any:
    value = cell.value
    if isinstance(value, str):
        return _ERROR if cell.data_type == "e" else value if value.strip() else None
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        whole = int(value) if float(value).is_integer() else value
        # A format of zeros is how Excel shows 7 as 007.
        return str(whole).zfill(len(cell.number_format)) if re.fullmatch("0{2,}", cell.number_format) else whole
    if isinstance(value, datetime.datetime) and value.time() == datetime.time():
        return value.date()
    return value


def _header_row(rows: Sequence[tuple[int, list[Any]]], is_header: Header) -> int | None:
    """Position of the names of the columns among the first rows: titles may stand above them."""
    for position, (_, row) in enumerate(rows[:20]):
        if is_header(["" if value is None else str(value) for value in row]):
            return position
    return None


def _of_sheet(path: Path, title: str, sheets: dict[str, list[tuple[int, list[Any]]]], start: int) -> TableFile:
    rows = sheets[title]
    header = ["" if value is None else str(value) for value in rows[start][1]]
    while header and not header[-1].strip():
        header.pop()
    records = [(number, (row + [None] * len(header))[: len(header)]) for number, row in rows[start + 1 :]]
    records = [(number, row) for number, row in records if any(value is not None for value in row)]
    wide = next((n for n, row in rows[start + 1 :] if any(value is not None for value in row[len(header) :])), None)
    if wide is not None:
        raise InputError(f"{path} has values in row {wide} to the right of its {len(header)} columns; name the column.")
    errors = sum(value is _ERROR for _, row in records for value in row)
    values = [[None if value is _ERROR else value for value in row] for _, row in records]
    frame = pd.DataFrame(values, columns=pd.Index(header), dtype=object)
    notes = [f"sheet {title!r} of {len(sheets)}"] if len(sheets) > 1 else []
    notes += [f"its header found in row {rows[start][0]}"] if start else []
    notes += [f"errors such as #N/A taken as empty ({errors:,} times)"] if errors else []
    notes += ["an Excel workbook by its content"] if path.suffix.lower() not in {".xlsx", ".xlsm"} else []
    return TableFile(frame, [number for number, _ in records], notes, typed=True)


def _read_parquet(path: Path) -> TableFile:
    import pyarrow as pa
    import pyarrow.parquet as pq

    # As pandas' own types integers with gaps would become floats and lose digits.
    types = {getattr(pa, name.lower())(): getattr(pd, f"{name}Dtype")() for name in _INTEGERS}
    types[pa.bool_()] = pd.BooleanDtype()
    try:
        frame = pq.ParquetFile(path).read().to_pandas(types_mapper=types.get)
    except Exception as problem:  # pyarrow has no single error type
        raise InputError(f"{path} cannot be read as Parquet; write it again, or save the table as CSV.") from problem
    notes = []
    if named := [name for name in frame.index.names if name is not None and name not in frame]:
        frame = frame.reset_index(level=named)
        notes.append(f"its index {named[0]!r} is a column")
    return TableFile(frame, list(range(1, len(frame) + 1)), notes, typed=True)


_INTEGERS = ("Int8", "Int16", "Int32", "Int64", "UInt8", "UInt16", "UInt32", "UInt64")

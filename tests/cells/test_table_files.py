"""Manifests in every form that spreadsheets write: one content, read the same, and what was done is said."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openpyxl
import pandas as pd
import pytest

from cytosae.cells.manifest import find_manifest, read_manifest
from cytosae.common.errors import InputError

ROWS = [["image", "label", "patient", "age"], ["a.png", "Bläst", "007", "61"], ["b.png", "x, y", "1E3", ""]]


def written(rows: list[list[str]] = ROWS, separator: str = ",", end: str = "\n") -> str:
    quoted = [[f'"{value}"' if separator in value else value for value in row] for row in rows]
    return end.join(separator.join(row) for row in quoted) + end


FORMS: dict[str, tuple[bytes, str | None]] = {
    "plain": (written().encode(), None),
    "byte-order mark": (written().encode("utf-8-sig"), None),
    "two byte-order marks": (b"\xef\xbb\xbf" + written().encode("utf-8-sig"), None),
    "Windows line ends": (written(end="\r\n").encode(), None),
    "old Mac line ends": (written(end="\r").encode(), None),
    "no line end": (written().rstrip().encode(), None),
    "semicolons": (written(separator=";").encode(), "separated by semicolons"),
    "tabs": (written(separator="\t").encode(), "separated by tabs"),
    "bars": (written(separator="|").encode(), "separated by bars"),
    "Windows-1252": (written().encode("cp1252"), "Windows-1252 text (it has 'Bläst'"),
    "Windows-1252 with semicolons": (written(separator=";").encode("cp1252"), "Windows-1252 text"),
    "UTF-16": (written().encode("utf-16"), "UTF-16 text"),
    "UTF-16, big end first": (b"\xfe\xff" + written().encode("utf-16-be"), "UTF-16 text"),
    "UTF-16 with tabs, as Excel's Unicode text": (written(separator="\t", end="\r\n").encode("utf-16"), "UTF-16 text"),
    "UTF-16 without its mark": (written().encode("utf-16-le"), "UTF-16 text"),
    "UTF-32": (written().encode("utf-32"), "UTF-32 text"),
    "Excel's line for semicolons": (b"sep=;\r\n" + written(separator=";").encode(), "names the separator ';'"),
    "Excel's line for tabs": (b"sep=\t\n" + written(separator="\t").encode(), "names the separator '\\t'"),
    "Excel's line, quoted, after a mark": (b'\xef\xbb\xbf"sep=;"\n' + written(separator=";").encode(), "';'"),
    "comments and blank lines above": (b"\n# made by X\n\n" + written().encode(), "a comment (# made by X)"),
    "a column called #": (
        written([[name, *row] for name, row in zip(["#", "x1", "x2"], ROWS, strict=True)]).encode(),
        None,
    ),
    "blank lines": (written(end="\n\n").encode(), None),
    "empty rows": (written().encode() + b",,,\n , ,,\n", "2 empty rows passed over"),
    "empty rows in between": (written(ROWS[:2]).encode() + b",,,\n" + written(ROWS[2:]).encode(), "1 empty rows"),
    "columns without a name or content": (
        written([[*row, "", ""] for row in ROWS], ";").encode(),
        "a column without a name left out",
    ),
    "more separators than columns": (written(ROWS[:2]).encode() + b'b.png,"x, y",1E3,,,\n', None),
    "zero-width space in the header": (("\u200b" + written()).encode(), None),
    "capitals in the header": (written([["Image", "LABEL", "Patient", "age"], *ROWS[1:]]).encode(), None),
    "an index of pandas": (
        written([[name, *row] for name, row in zip(["", "5", "9"], ROWS, strict=True)]).encode(),
        "a column without a name left out",
    ),
    "an index of pandas, saved twice": (
        written([[name, *row] for name, row in zip(["Unnamed: 0", "0", "1"], ROWS, strict=True)]).encode(),
        "a column without a name left out",
    ),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_one_content_is_read_the_same_in_every_form(tmp_path: Path, form: str) -> None:
    content, note = FORMS[form]
    (tmp_path / "manifest.csv").write_bytes(content)
    manifest = read_manifest(tmp_path / "manifest.csv")
    frame = manifest.frame
    assert frame["image"].tolist() == ["a.png", "b.png"]
    assert frame["label"].tolist() == ["Bläst", "x, y"]
    assert frame["patient"].tolist() == ["007", "1E3"]
    assert frame["age"].tolist() == [61, pd.NA]
    assert [name for name in frame if name != "#"] == ["image", "label", "patient", "diagnosis", "mask", "age"]
    assert (note in " ".join(manifest.notes)) if note else not manifest.notes


@pytest.mark.parametrize("character", ["\v", "\f", "\x1c", "\x85", "\u2028", "\u2029"])
def test_only_line_ends_end_a_row(tmp_path: Path, character: str) -> None:
    (tmp_path / "m.csv").write_text(f"image,note,label\na.png,first{character}second,x\n", encoding="utf-8")
    frame = read_manifest(tmp_path / "m.csv").frame
    assert frame.loc[0, ["note", "label"]].tolist() == [f"first{character}second", "x"]


@pytest.mark.parametrize(
    ("text", "row"),
    [
        ("image,label\na.png,x\nb.png,y,z\n", 3),
        ("image,label\n\n\na.png,x\nb.png,y,z\n", 5),
        ("sep=,\nimage,label\nb.png,y,z\n", 3),
        ("# made by X\n\nimage,label\nb.png,y,z\n", 4),
        ("image,label\n,,\n,\nb.png,y,z\n", 4),
        ('image,label\na.png,"two\nlines"\nb.png,y,z\n', 3),
        ("image,label\na.png,x\nb.png\n", 3),
    ],
)
def test_a_wrong_row_is_called_by_its_number_in_the_file(tmp_path: Path, text: str, row: int) -> None:
    (tmp_path / "m.csv").write_text(text)
    with pytest.raises(InputError, match=rf"m\.csv has \d values in row {row} where the header names 2 columns"):
        read_manifest(tmp_path / "m.csv")


def test_rows_are_numbered_as_in_the_file(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("sep=,\n\nimage,label\na.png,x\n,,\n\nb.png,y\n")
    assert read_manifest(tmp_path / "m.csv").rows == [4, 7]


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("image;wbc\na;3,5\nb;12\nc;\n", [3.5, 12.0, None]),
        ("image\twbc\na\t3,5\nb\t1,250\n", [3.5, 1.25]),
        ("image;wbc\na;1,250\nb;3,125\n", ["1,250", "3,125"]),  # thousands, perhaps
        ('image,wbc\na,"3,5"\n', ["3,5"]),  # where commas separate, they are no points
    ],
)
def test_decimal_commas_are_numbers_where_nothing_else_is_meant(tmp_path: Path, text: str, values: list) -> None:
    (tmp_path / "m.csv").write_text(text)
    found = read_manifest(tmp_path / "m.csv").frame["wbc"]
    assert [None if pd.isna(value) else value for value in found] == values


@pytest.mark.parametrize("name", ["Manifest.CSV", "MANIFEST.csv", "manifest.tsv", "Manifest.xlsx", "manifest.Parquet"])
def test_a_manifest_is_found_whatever_the_case(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    assert find_manifest(tmp_path) == tmp_path / name


def test_a_workbook_counts_where_there_is_no_other_manifest(tmp_path: Path) -> None:
    for name in ("manifest.xlsx", "manifest.csv", "~$manifest.xlsx"):
        (tmp_path / name).write_bytes(b"x")
    assert find_manifest(tmp_path) == tmp_path / "manifest.csv"
    (tmp_path / "Manifest.CSV").write_bytes(b"x")
    with pytest.raises(InputError, match=r"holds both Manifest\.CSV and manifest\.csv; give the path"):
        find_manifest(tmp_path)


@pytest.fixture
def workbook(tmp_path: Path) -> Callable[..., Path]:
    def write(*sheets: list[list[Any]], name: str = "m.xlsx", formats: dict[str, str] | None = None) -> Path:
        book = openpyxl.Workbook()
        for number, rows in enumerate(sheets):
            sheet = book.create_sheet(f"sheet {number}") if number else book.active
            for row in rows:
                sheet.append(row)
        for cell, style in (formats or {}).items():
            book.worksheets[0][cell].number_format = style
        book.save(tmp_path / name)
        return tmp_path / name

    return write


def test_a_workbook_gives_what_excel_shows(workbook) -> None:
    day = datetime.datetime(2024, 1, 2)
    path = workbook(
        [
            ["Patients of 2024"],
            [],
            [" Image", "LABEL", "patient", "mask", "age", "code", "day", "treated", "ratio", "wbc"],
            ["a.png", "x", 7, None, 61, "1E3", day, True, 0.5, 3],
            ["b.png", "NA", 12, None, None, 5, day, False, None, 3.25],
            [None] * 9 + ["  "],
            ["c.png", " y ", 7.5, None, 63, "01", day, True, 2.0, 4],
        ],
        formats={"C4": "000", "C5": "000"},
    )
    manifest = read_manifest(path)
    frame = manifest.frame
    assert frame["label"].tolist() == ["x", "NA", "y"]
    assert frame["patient"].tolist() == ["007", "012", "7.5"]
    assert frame["age"].tolist() == [61, pd.NA, 63]
    assert frame["code"].tolist() == ["1E3", "5", "01"]
    assert frame["day"].tolist() == ["2024-01-02"] * 3
    assert frame["treated"].tolist() == [True, False, True]
    assert frame["ratio"].tolist()[::2] == [0.5, 2.0]
    assert frame["wbc"].tolist() == [3.0, 3.25, 4.0]
    assert manifest.rows == [4, 5, 7]
    assert manifest.notes == ("How m.xlsx was read: its header found in row 3.",)


def test_the_one_sheet_with_images_is_read(workbook) -> None:
    other, images = [["name", "age"], ["x", 1]], [["image", "label"], ["a.png", "x"]]
    manifest = read_manifest(workbook(other, images))
    assert manifest.frame["label"].tolist() == ["x"]
    assert "sheet 'sheet 1' of 2" in manifest.notes[0]
    with pytest.raises(InputError, match=r"has the sheets 'Sheet' and 'sheet 1' to read; leave one of them"):
        read_manifest(workbook(images, images))
    with pytest.raises(InputError, match=r"no column 'image' \(it has: name, age\)"):
        read_manifest(workbook(other))
    with pytest.raises(InputError, match=r"m\.xlsx is empty; the columns are image"):
        read_manifest(workbook([]))


def test_errors_of_formulas_are_no_patients(workbook) -> None:
    path = workbook([["image", "patient"], ["a.png", "#N/A"], ["b.png", "#REF!"], ["c.png", "P1"]])
    manifest = read_manifest(path)
    assert manifest.frame["patient"].isna().tolist() == [True, True, False]
    assert "errors such as #N/A taken as empty (2 times)" in manifest.notes[0]


def test_values_beside_the_named_columns_are_a_sentence(workbook) -> None:
    with pytest.raises(InputError, match=r"has values in row 3 to the right of its 2 columns; name the column"):
        read_manifest(workbook([["image", "label"], ["a.png", "x"], ["b.png", "y", "z"]]))


def test_a_table_is_read_by_what_it_is_not_by_its_name(workbook, tmp_path: Path) -> None:
    path = workbook([["image", "label"], ["a.png", "x"]])
    path.rename(tmp_path / "m.csv")
    manifest = read_manifest(tmp_path / "m.csv")
    assert manifest.frame["label"].tolist() == ["x"]
    assert "an Excel workbook by its content" in manifest.notes[0]
    pd.DataFrame({"image": ["a.png"]}).to_parquet(tmp_path / "p.csv")
    assert read_manifest(tmp_path / "p.csv").frame["image"].tolist() == ["a.png"]


def test_integers_of_parquet_keep_their_digits(tmp_path: Path) -> None:
    big = 12345678901234567
    frame = pd.DataFrame(
        {
            "image": ["a", "b", "c"],
            "label": [7.0, None, 8.0],  # what pandas makes of integers with a gap
            "patient": pd.array([big, None, big + 2], dtype="Int64"),
            "case": [7.0, None, 8.0],
            "count": pd.array([big, None, big + 2], dtype="Int64"),
            "text": ["10", "011", "1E3"],
            "whole": [1, 2, 3],
        }
    )
    frame.to_parquet(tmp_path / "m.parquet")
    read = read_manifest(tmp_path / "m.parquet").frame
    assert read["label"].tolist() == ["7", pd.NA, "8"]
    assert read["patient"].tolist() == [str(big), pd.NA, str(big + 2)]
    assert read["case"].tolist() == [7, pd.NA, 8]
    assert [str(value) for value in read["case"]][:1] == ["7"]
    assert read["count"].tolist() == [big, pd.NA, big + 2]
    assert read["text"].tolist() == ["10", "011", "1E3"]
    assert str(read["whole"].dtype) == "int64"

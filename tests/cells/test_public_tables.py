"""Manifests and folders as public reports describe them (`../shared/public_inputs`): each has its value or sentence."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from cytosae.cells import CellTable, read_cells
from cytosae.common.errors import InputError

FOLDER = Path(__file__).resolve().parents[2].parent / "shared" / "public_inputs"


@dataclass(frozen=True)
class Read:
    """What reading gives: number of cells, labels, values of columns, a note."""

    cells: int | None = 12
    labels: list[str] | None = None
    note: str | None = None
    columns: dict[str, Any] = field(default_factory=dict)

    def check(self, cells: CellTable) -> None:
        assert self.cells in (None, len(cells))
        assert self.labels in (None, cells.labels)
        for name, values in self.columns.items():
            found = cells.frame[name]
            assert (set(found.dropna()) if isinstance(values, set) else found.tolist()) == values
        remarks = " ".join(cells.remarks)
        assert self.note is None or self.note in remarks, remarks
        assert self.note is not None or not cells.notes


IDS = ["007", "7", "1e5", "100000", "1E5", "0x10", "+7", "7.0", "00", "True", "3-1", "1/2"]
MISSING = ["NA", "None", "null", "nan", "NaN", "N/A", "True", "False", pd.NA, "<NA>", "-", "0"]
EXPECTED: dict[str, Read | str] = {
    "m_bom_crlf": Read(columns={"patient": {"007"}}),
    "m_semicolon": Read(note="separated by semicolons", columns={"patient": {"1"}}),
    "m_semicolon_decimal_comma": Read(note="decimal commas in wbc", columns={"wbc": {3.5}}),
    "m_tab": Read(note="separated by tabs", labels=["a"]),
    "m_cp1252": Read(note="Windows-1252 text (it has 'Knochenmärk'", labels=["Knochenmärk"]),
    "m_xlsx_named_csv": r"manifest\.csv cannot be read as an Excel workbook; save it again",
    "m_xlsx_given": r"cells\.xlsx cannot be read as an Excel workbook; save it again",
    "m_xlsx_in_folder": r"manifest\.xlsx cannot be read as an Excel workbook; save it again",
    "m_capital_name": Read(columns={"patient": {"1"}}),
    "m_leading_zeros_and_exp": Read(columns={"patient": IDS}, note="'1e5' and '1E5' in patient differ in case only"),
    "m_na_labels": Read(columns=dict.fromkeys(("label", "patient", "diagnosis"), MISSING), note="'nan' and 'NaN'"),
    "m_header_case_spaces": Read(labels=["a b"], columns={"patient": {"p1"}}),
    "m_unnamed_index_column": Read(labels=["a"], note="a column without a name left out"),
    "m_two_unnamed_columns": Read(labels=["a"], note="a column without a name left out"),
    "m_trailing_blank_rows": Read(note="40 empty rows passed over"),
    "m_duplicate_rows": Read(),
    "m_duplicate_row_other_label": Read(labels=["a"]),
    "m_quoted_newline": Read(columns={"note": {"two\nlines"}}),
    "m_vertical_tab": Read(columns={"note": {"x", "first\x0bsecond"}}),
    "m_line_separator": Read(columns={"note": {"x", "first\u2028second"}}),
    "m_nel_last_column": Read(labels=["a"]),
    "m_form_feed_splits_silently": Read(),
    "m_cr_only": Read(labels=["a"]),
    "m_nul": r"manifest\.csv is no text file \(it holds NUL bytes\); save it as CSV",
    "m_comma_in_path_unquoted": r"has 3 values in row 14 where the header names 2 columns; mend the row",
    "m_blank_lines_row_number": r"has 3 values in row 16 where the header names 2 columns; mend the row",
    "m_windows_paths": Read(),
    "m_absolute_other_machine": r"lab\\img\\c00\.png: a path of another machine \(name the folder .* --images-root",
    "m_absolute_posix_other": r"/mnt/other/img/c00\.png: a path of another machine \(name the folder .* --images-root",
    "m_file_url": Read(note="12 files are found under another spelling than the table's (file:///"),
    "m_absolute_through_link": Read(),
    "m_suffix_case": Read(note="(img/c00.png is img/c00.PNG)"),
    "m_without_suffix": Read(note="(img/c00 is img/c00.png)"),
    "m_parquet_index_image": Read(labels=["a"], note="its index 'image' is a column"),
    "m_parquet_categorical_bool_date": Read(
        columns={"label": ["a", "b"] * 6, "patient": {"7"}, "treated": {True, False}, "alive": {True}}
    ),
    "m_parquet_list_column": Read(columns={"box": {"[1 2 3 4]"}}),
    "m_parquet_bytes_label": Read(labels=["NEU"]),
    "m_missing_three_of_twelve": r"2 of 14 images .* img/x2\.png: file not found\); name the folder .* --images-root",
    "m_mixed_int_str_labels": Read(labels=["01", "1", "1.0", "blast"]),
    "m_sep_line": Read(labels=["a"], note="a line that names the separator ','"),
    "m_comment_line": Read(labels=["a"], note="a comment (# exported 2024)"),
    "m_only_header": r"manifest\.csv lists no images; add a row for each image",
    "m_other_column_name": r"has no column 'image' \(it has: filename, class\); the columns are image \(needed\)",
    "m_patient_trailing_nbsp": Read(columns={"patient": {"P1"}}),
    "m_patient_nfc_nfd": Read(columns={"patient": {"Mü1"}}, note="patient 'Mü1' is written in two ways"),
    "m_patient_case": Read(columns={"patient": {"p1", "P1"}}, note="'p1' and 'P1' in patient differ in case only"),
    "m_extra_code_column": Read(columns={"sample": ["1E3", "1000", "2E3", "7"] * 3}),
    "m_extra_int_with_gap": Read(columns={"case": {"20190000", "20190001", "20190002", "20190003"}}),
    "m_extra_long_ids": Read(columns={"accession": {str(12345678901234567890 + i) for i in range(6)}}),
    "f_bytes_name": r"holds blast/M\\xfcller\.png, a name that is not UTF-8 \(perhaps 'blast/Müller\.png'.*rename it",
    "f_bytes_class": r"holds Promyeloz\\xfct, a name that is not UTF-8 \(perhaps 'Promyelozüt'.*rename it",
    "f_odd_names": Read(cells=15, labels=["b l a s t"]),
    "f_litter": Read(cells=10, labels=["blast"]),
    "f_link_loop": r"1 of 7 images .*\(blast/gone\.png: file not found\); mend",
    "f_case_twins": Read(cells=10, labels=["Blast", "blast"], note="'Blast' and 'blast' in label differ in case only"),
    "f_train_test_split": Read(labels=["blast", "mono"]),
    "f_mask_class": Read(cells=4, labels=["mono"], note="4 images in folders for masks belong to no image"),
    "f_hidden_class": Read(cells=4, labels=["mono"]),
    "f_linked_same_folder_twice": Read(cells=4, labels=["z_mono"]),
    "f_heic_and_svs_only": r"holds no images \(3 files with \.heic\); give a folder of image files",
    "f_czi_beside_png": Read(cells=10, note="10 files of a format that is not read are passed over (blast/0.czi)"),
    "f_btf_suffix": Read(cells=4, labels=["a"]),
    "f_no_suffix": r"holds no images \(4 files with no suffix\); give a folder of image files",
    "f_all_identical": Read(cells=1),
    "f_one_image": Read(cells=1, labels=["a"]),
    "f_single_file_given": r"x\.png is a single image; give a folder",
    "f_zip_given": r"x\.zip is an archive; unpack it and give a folder",
    "f_unreadable_class": Read(labels=["blast", "mono"]),  # who runs tests as root may look into every folder
    "f_masks_other_suffix": Read(cells=6, note="6 of 6 cells have a mask"),
    "f_hf_imagefolder_tif": Read(cells=None, labels=["blast", "mono"]),
    "f_own_metadata_two_levels": Read(cells=None, labels=["blast", "mono"], columns={"patient": set()}),
    "f_camera_names_in_acevedo_classes": Read(
        cells=None, labels=(classes := ["lymphocyte", "monocyte", "neutrophil"]), columns={"cell_type": set(classes)}
    ),
    "f_camera_names_control": Read(cells=None, labels=classes, columns={"cell_type": set(classes)}),
    "f_ij_composites": Read(labels=["blast"]),
    "f_train_numeric_classes": Read(cells=16, labels=["0", "1"]),
    "f_class_codes_with_digits": Read(cells=8, labels=["01_blast", "1a"]),
}


@pytest.fixture(scope="module")
def makers() -> Iterator[dict[str, Callable[[Path], tuple[Path, object]]]]:
    path = FOLDER / "make_tables.py"
    if not path.is_file():
        pytest.skip("the inputs after public reports (../shared/public_inputs) are not here")
    before = list(sys.path)
    spec: Any = importlib.util.spec_from_file_location("make_tables", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module.T
    sys.path[:] = before


def test_every_table_has_its_expectation(makers) -> None:
    assert set(makers) == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_public_table_is_read_rightly_or_refused_in_a_sentence(makers, tmp_path: Path, name: str) -> None:
    path, _ = makers[name](tmp_path)
    expected = EXPECTED[name]
    if isinstance(expected, Read):
        cells = read_cells(path)
        expected.check(cells)
        cells.save(tmp_path / "saved")
        pd.testing.assert_frame_equal(CellTable.load(tmp_path / "saved").frame, cells.frame)
    else:
        with pytest.raises(InputError, match=expected) as caught:
            read_cells(path)
        assert "\n" not in str(caught.value)

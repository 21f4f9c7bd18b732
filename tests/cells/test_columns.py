from __future__ import annotations

from decimal import Decimal

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cytosae.cells.columns import storable_names, text_of, typed


def column(values: list[str | None], name: str = "x") -> pd.Series:
    return pd.Series(values, name=name, dtype=object)


@pytest.mark.parametrize(
    "values",
    [
        ["007", "008"],
        ["1E3", "2E3"],
        ["1E3", "1000"],
        ["1", "1.0"],
        ["0.1", "0.10"],
        ["12345678901234567890", "12345678901234567891"],
        ["0.12345678901234567890123", "0.1"],
        ["+7", "7"],
        ["0x10", "1"],
        ["1_000", "2"],
        ["inf", "1"],
        ["1,5", "2"],
        ["-0", "0"],
        ["٣", "4"],
        ["True", "False"],
    ],
)
def test_codes_stay_text(values: list[str]) -> None:
    assert typed(column(values)).tolist() == values


@pytest.mark.parametrize(
    "name", ["case", "SampleID", "sample_id", "Slide no", "slide_nr", "accession", "patientId", "MRN"]
)
def test_columns_that_identify_stay_text(name: str) -> None:
    assert typed(column(["20190000", None], name)).tolist() == ["20190000", pd.NA]


@pytest.mark.parametrize("name", ["age", "patient_age", "number", "paid", "idea"])
def test_other_columns_may_be_numbers(name: str) -> None:
    assert typed(column(["61", "7"], name)).tolist() == [61, 7]


@pytest.mark.parametrize(
    ("values", "dtype", "numbers"),
    [
        (["61", "7"], "int64", [61, 7]),
        (["12345678901234567", None], "Int64", [12345678901234567, pd.NA]),
        (["0.5", "1e-05", "1.5e3", "-2"], "float64", [0.5, 1e-5, 1500.0, -2.0]),
        (["0.30000000000000004", "0.1"], "float64", [0.1 + 0.2, 0.1]),
        (["1.000000000000000056e-01", "2.500000000000000000e-01"], "float64", [0.1, 0.25]),  # numpy.savetxt
        (["0.10", "0.25"], "float64", [0.1, 0.25]),
        (["7.0", None], "Int64", [7, pd.NA]),
    ],
)
def test_numbers_are_numbers(values: list, dtype: str, numbers: list) -> None:
    found = typed(column(values))
    assert (str(found.dtype), found.tolist()) == (dtype, numbers)


@given(st.lists(st.from_regex(r"\A-?\d{1,22}(\.\d{1,20})?([eE][-+]?\d{1,2})?\Z") | st.none(), min_size=1, max_size=6))
def test_no_two_texts_become_one_value_and_no_digit_is_lost(values: list[str | None]) -> None:
    found = typed(column(values))
    given_texts = {value for value in values if value is not None}
    assert found.nunique() == len(given_texts)
    for value, number in zip(values, found, strict=True):
        assert pd.isna(number) == (value is None)
        if isinstance(number, (int, np.integer)):
            assert Decimal(int(number)) == Decimal(str(value))


@pytest.mark.parametrize(
    "text", ["Mu\u0308ller", "M\u00fcller", " Müller\u00a0", "Mül\u200bler", "\ufeffMüller", "Müller\0"]
)
def test_what_looks_the_same_is_the_same(text: str) -> None:
    assert text_of(column([text])).tolist() == ["Müller"]


@given(
    st.lists(
        st.sampled_from(["_index", ".", "..", "", "a/b", "a_b", "__categories", "x", "/", "a\0b", "y" * 900]),
        unique=True,
    )
)
def test_an_atlas_can_hold_every_column(tmp_path_factory: pytest.TempPathFactory, names: list[str]) -> None:
    frame = pd.DataFrame({name: [1, 2] for name in names}, index=["0", "1"])
    frame = frame.rename(columns=storable_names(names))
    assert frame.columns.is_unique
    assert {"a_b", "x"} & set(names) <= set(frame.columns)
    path = tmp_path_factory.mktemp("atlas") / "a.h5ad"
    ad.AnnData(np.zeros((2, 1)), obs=frame).write_h5ad(path)
    assert list(ad.read_h5ad(path).obs) == list(frame)

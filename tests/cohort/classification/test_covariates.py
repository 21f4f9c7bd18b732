from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from cytosae.cohort.classification.covariates import known_covariates, years


@pytest.mark.parametrize(
    ("text", "age"),
    [
        ("45", 45),
        ("45.0", 45),
        ("45 y", 45),
        ("45 years old", 45),
        (" 45Y ", 45),
        ("045Y", 45),
        ("45 y/o", 45),
        ("45 J.", 45),
        ("4,5", 4.5),
        ("006M", 0.5),
        ("18 months", 1.5),
        ("365.25 d", 1),
        ("adult", np.nan),
        ("90+", np.nan),
        ("45-50", np.nan),
        ("-1", np.nan),
        ("", np.nan),
    ],
)
def test_an_age_is_read_as_people_and_scanners_write_it(text, age):
    assert years(text) == pytest.approx(age, nan_ok=True)


def test_ages_with_a_unit_are_known_and_those_that_are_not_understood_are_named():
    obs = pd.DataFrame({"age": pd.Categorical(["45 y", "006M", "adult", None])}, index=list("abcd"))
    found, notes = known_covariates(obs, None, "patient")
    np.testing.assert_allclose(found["age"][:, 0], [45, 0.5, np.nan, np.nan])
    assert "The age of 1 of 4 patients is not understood ('adult'); write it in years." in notes
    assert not any(note.startswith("The age was not asked about") for note in notes)


def test_plain_numbers_stay_as_they_are():
    obs = pd.DataFrame({"age": [45, 3.5, np.nan]}, index=list("abc"))
    np.testing.assert_allclose(known_covariates(obs, None, "patient")[0]["age"][:, 0], [45, 3.5, np.nan])

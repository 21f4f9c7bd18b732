"""The diagnosis column: one diagnosis a patient, groups to compare, and spellings that look like slips."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import combinations

import anndata as ad
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rapidfuzz.distance import OSA

from cytosae.common.errors import InputError, UsageError

REST = "rest"
"""All patients with a diagnosis other than the group's, even where some of them have one of this very name."""


def near_duplicates(values: Iterable[str]) -> list[tuple[str, str]]:
    """Pairs of different values that may be one, spelled twice; each pair and the list in alphabetical order.

    They differ in case, blanks or punctuation only; or by one slip (a letter too many, too few, wrong, or two swapped)
    in words of at least 6 letters, two in at least 12. Values whose digits differ are different (NPM1 and NPM2), and so
    are short ones (AML and APL).
    """
    return [(a, b) for a, b in combinations(sorted(set(values)), 2) if _alike(a, b)]


def diagnosis_of_patients(
    of_cells: pd.DataFrame, codes: NDArray[np.int64], patients: NDArray[np.str_], column: str
) -> list[str | None]:
    """Diagnosis of each patient, None where no cell has one.

    Parameters
    ----------
    of_cells : DataFrame
        Obs of the cells.
    codes : ndarray of int64, shape (cells,)
        Position of each cell's patient in ``patients``.

    Raises
    ------
    InputError
        the column is missing, or a patient has two diagnoses.
    """
    if column not in of_cells:
        raise InputError(
            f"The cells have no column {column!r}; name the column of the diagnosis (there are: "
            f"{', '.join(map(str, of_cells.columns))})."
        )
    values = of_cells[column].astype(object).map(str, na_action="ignore").to_numpy()
    table: pd.DataFrame = pd.DataFrame({"patient": codes, "diagnosis": values}).dropna().drop_duplicates()
    twice: pd.DataFrame = table.loc[table["patient"].duplicated(keep=False)]
    if len(twice):
        patient = twice["patient"].iloc[0]
        names = sorted(twice.loc[twice["patient"] == patient, "diagnosis"])
        raise InputError(
            f"Patient {str(patients[patient])!r} has {len(names)} diagnoses in column {column!r} ({', '.join(names)}); "
            "give each patient one, or the two patients different names."
        )
    found: dict[int, str] = dict(zip(table["patient"], table["diagnosis"], strict=True))
    return [found.get(code) for code in range(len(patients))]


def group_rows(barcodes: ad.AnnData, a: str, b: str, diagnosis: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of the patients of two groups; ``b`` may be `REST`.

    Raises
    ------
    InputError
        the column is missing, a group has no patient, or all patients have one diagnosis.
    UsageError
        a group is compared with itself.
    """
    if diagnosis not in barcodes.obs:
        raise InputError(f"The barcodes have no column {diagnosis!r}; make them with the column of the diagnosis.")
    values = barcodes.obs[diagnosis].astype(object).map(str, na_action="ignore")
    names = sorted(values.dropna().unique())
    if len(names) < 2:
        raise InputError(
            f"All patients have the same diagnosis ({', '.join(names) or 'none at all'}); comparing needs two groups."
        )
    if a == b != REST:
        raise UsageError(f"{a!r} is compared with itself; choose two different groups among: {', '.join(names)}.")
    for name in (a, b) if b != REST else (a,):
        if name not in names:
            raise InputError(f"No patient has the diagnosis {name!r}; choose among: {', '.join(names)}.")
    known, of_a = values.notna().to_numpy(), (values == a).to_numpy()
    of_b = known & ~of_a if b == REST else (values == b).to_numpy()
    return np.flatnonzero(of_a), np.flatnonzero(of_b)


def _alike(a: str, b: str) -> bool:
    # A sign at the end has a meaning (FLT3+, FLT3-), a hyphen inside a word has none.
    plain_a, plain_b = (re.sub(r"[\s_.,;:/()]+|(?<=\w)-(?=\w)", "", text.casefold()) for text in (a, b))
    if plain_a == plain_b:
        return True
    if re.findall(r"\d+", a) != re.findall(r"\d+", b):
        return False
    shorter = min(len(plain_a), len(plain_b))
    allowed = 0 if shorter < 6 else 1 if shorter < 12 else 2
    # optimal string alignment: a swap of two neighbours is one slip
    return OSA.distance(plain_a, plain_b, score_cutoff=allowed) <= allowed

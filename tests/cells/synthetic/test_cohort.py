from __future__ import annotations

import numpy as np
import pytest

from cytosae.cells.synthetic import (
    BITS,
    DIAGNOSES,
    DOMAINS,
    TYPES,
    CohortModel,
    generate_cohort,
    specific_structures,
    structure_mask,
)
from cytosae.common.errors import UsageError


def test_every_diagnosis_meets_every_laboratory_equally_often() -> None:
    cohort = generate_cohort(patients=len(DIAGNOSES) * len(DOMAINS) * 2, cells=1, domain="mixed")
    pairs = {(p.diagnosis, p.laboratory) for p in cohort.patients}
    assert pairs == {(diagnosis, domain) for diagnosis in DIAGNOSES for domain in DOMAINS}


def test_a_planted_laboratory_goes_with_the_diagnosis() -> None:
    cohort = generate_cohort(patients=60, cells=1, domain="mixed", planted=1.0)
    assert len({(p.diagnosis, p.laboratory) for p in cohort.patients}) == len(DIAGNOSES)
    some = generate_cohort(patients=200, cells=1, domain="mixed", planted=0.5).patients
    own = {p.diagnosis: p.laboratory for p in cohort.patients}
    share = np.mean([p.laboratory == own[p.diagnosis] for p in some])
    assert share == pytest.approx(0.5 + 0.5 / len(DOMAINS), abs=0.12)


def test_shares_differ_between_patients_and_diagnoses() -> None:
    patients = generate_cohort(patients=50, cells=1, difficulty=0.3).patients
    blasts = {
        name: [p.shares.get("myeloblast", 0) + p.shares.get("promyelocyte", 0) for p in patients if p.diagnosis == name]
        for name in DIAGNOSES
    }
    assert np.mean(blasts["control"]) < 0.1 < np.mean(blasts["CBFB::MYH11-like"]) < np.mean(blasts["NPM1-like"])
    assert np.std(blasts["NPM1-like"]) > 0.05
    assert all(sum(p.shares.values()) == pytest.approx(1) for p in patients)


def test_difficulty_makes_diagnoses_alike_and_pathognomonic_cells_rare() -> None:
    def pathognomonic(difficulty: float) -> float:
        return float(generate_cohort(patients=100, cells=60, difficulty=difficulty).cells["pathognomonic"].mean())

    easy, hard = pathognomonic(0.0), pathognomonic(1.0)
    assert easy > 1.5 * hard > 0

    def promyelocytes(difficulty: float) -> float:
        cells = generate_cohort(patients=100, cells=60, difficulty=difficulty).cells
        share = (cells["label"] == "promyelocyte").groupby(cells["diagnosis"]).mean()
        return float(share["PML::RARA-like"] - share["NPM1-like"])

    assert promyelocytes(0.0) > 1.5 * promyelocytes(1.0)


def test_pathognomonic_cells_are_those_of_the_patients_own_diagnosis() -> None:
    cells = generate_cohort(patients=25, cells=80, difficulty=0.0).cells
    assert set(cells.loc[cells["pathognomonic"], "diagnosis"]) == set(DIAGNOSES) - {"control"}
    for label, rows in cells.groupby("label"):
        of = TYPES[str(label)].characteristic_of
        assert (rows["pathognomonic"] == (rows["diagnosis"] == of)).all()
    # an Auer rod is seen in other leukemias, too: those cells mislead
    misleading = (cells["characteristic_of"] != "") & ~cells["pathognomonic"]
    assert 0 < misleading.mean() < 0.02


def test_specific_structures_are_drawn_in_their_diagnosis_only() -> None:
    specific = specific_structures()
    assert specific == {
        "abnormal_granules": "CBFB::MYH11-like",
        "cup": "NPM1-like",
        "auer_bundles": "PML::RARA-like",
        "giant_granules": "RUNX1::RUNX1T1-like",
    }
    cohort = generate_cohort(patients=10, cells=70, size=64, difficulty=0.0)
    chosen = cohort.cells[cohort.cells["characteristic_of"] != ""].index
    seen: dict[str, set[str]] = {structure: set() for structure in specific}
    for name, drawing in zip(chosen, cohort.drawings(list(chosen)), strict=True):
        for structure, found in seen.items():
            if structure_mask(drawing.structures, structure).any():
                found.add(cohort.cells.at[name, "diagnosis"])
    assert seen == {structure: {diagnosis} for structure, diagnosis in specific.items()}


def test_arrays_are_the_drawings_in_order() -> None:
    cohort = generate_cohort(patients=2, cells=3, size=40, seed=8)
    arrays = cohort.arrays()
    assert arrays.images.shape == (6, 40, 40, 3)
    assert list(arrays.attributes.index) == list(cohort.cells.index)
    one = cohort.draw("P001/0002")
    np.testing.assert_array_equal(arrays.images[5], one.image)
    np.testing.assert_array_equal(arrays.structures[5], one.structures)
    assert arrays.attributes.loc["P001/0002"].to_dict() == one.attributes
    assert sum(BITS.values()) == 2**16 - 1


def test_more_cells_and_patients_leave_the_earlier_ones_as_they_were() -> None:
    few, many = (generate_cohort(patients=p, cells=c, size=40, seed=5) for p, c in ((1, 2), (3, 4)))
    assert few.patients[0].labels == many.patients[0].labels[:2]
    np.testing.assert_array_equal(few.draw("P000/0001").image, many.draw("P000/0001").image)


def test_spread_varies_the_number_of_cells() -> None:
    counts = [len(p.labels) for p in generate_cohort(patients=40, cells=50, spread=0.4).patients]
    assert np.mean(counts) == pytest.approx(50, rel=0.2)
    assert np.std(np.log(counts)) == pytest.approx(0.4, rel=0.3)
    assert {len(p.labels) for p in generate_cohort(patients=5, cells=7).patients} == {7}


def test_diagnoses_can_be_chosen() -> None:
    names = ("NPM1-like", "control")
    assert [p.diagnosis for p in generate_cohort(patients=3, cells=1, diagnoses=names).patients] == [*names, names[0]]


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"domain": "mars"}, "there is no domain 'mars'; choose one of: reference"),
        ({"cells": 0}, "cells is 0; give 1 or more"),
        ({"difficulty": 2.0}, r"difficulty is 2\.0; give a number from 0 to 1"),
        ({"planted": 0.5}, "needs several laboratories; give the domain mixed"),
        ({"diagnoses": ("flu",)}, "there is no diagnosis 'flu'; choose among: control"),
        ({"diagnoses": ()}, "there are no diagnoses"),
        ({"spread": float("nan")}, "spread is nan; give 0 or more"),
    ],
)
def test_wrong_models_are_sentences(wrong: dict, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        CohortModel(**wrong)

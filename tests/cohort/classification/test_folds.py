from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cytosae.cohort.classification.folds import Fold, check_folds, make_folds, refuse_shared_cells
from cytosae.common.errors import InputError

NAMES = ("AML", "APL")


@settings(max_examples=25, deadline=None)
@given(few=st.integers(5, 9), many=st.integers(9, 30), folds=st.integers(2, 5), seed=st.integers(0, 100))
def test_every_patient_is_tested_once_in_each_repetition(few, many, folds, seed):
    y = np.r_[np.zeros(many, int), np.ones(few, int)]
    made = make_folds(y, NAMES, folds=folds, repeats=2, seed=seed)
    for repeat in range(2):
        tested = np.concatenate([fold.test for fold in made if fold.repeat == repeat])
        assert sorted(tested) == list(range(len(y)))
    for fold in made:
        assert not set(fold.train) & set(fold.test)
        assert abs(y[fold.test].sum() - few / folds) < 1
    check_folds(made, [str(i) for i in range(len(y))])


def test_repetitions_differ_and_the_seed_repeats_them():
    y = np.arange(20) % 2
    first, again = make_folds(y, NAMES, folds=4, repeats=2), make_folds(y, NAMES, folds=4, repeats=2)
    assert all((a.test == b.test).all() for a, b in zip(first, again, strict=True))
    assert any((a.test != b.test).any() for a, b in zip(first[:4], first[4:], strict=True))


def test_patients_of_a_site_stay_together():
    y = np.arange(40) % 2
    sites = np.array([f"site{i // 4}" for i in range(40)])
    for fold in make_folds(y, NAMES, folds=5, groups=sites):
        assert not set(sites[fold.train]) & set(sites[fold.test])


def test_sites_that_are_the_diagnosis_are_refused():
    y = np.r_[np.zeros(10, int), np.ones(10, int)]
    sites = np.array(["a"] * 10 + ["b"] * 10)
    with pytest.raises(InputError, match="among the training patients; use fewer folds"):
        make_folds(y, NAMES, folds=2, groups=sites)


def test_fewer_sites_than_folds_says_the_most_possible():
    with pytest.raises(InputError, match="3 is the most possible"):
        make_folds(np.arange(30) % 2, NAMES, folds=5, groups=np.arange(30) // 10)


def test_single_class_is_refused_by_name():
    with pytest.raises(InputError, match=r"same diagnosis \(AML\)"):
        make_folds(np.zeros(10, int), NAMES, folds=2)


def test_class_with_fewer_patients_than_folds_says_the_most_possible():
    with pytest.raises(InputError, match="5 folds are more than the 3 patients of 'APL'; 3 is the most possible"):
        make_folds(np.r_[np.zeros(10, int), np.ones(3, int)], NAMES, folds=5)


def test_class_of_one_patient_is_refused():
    with pytest.raises(InputError, match="only 1 patient has the diagnosis 'APL'"):
        make_folds(np.r_[np.zeros(10, int), 1], NAMES, folds=2)


def test_patient_on_both_sides_is_named():
    folds = [Fold(0, 0, np.array([0, 1, 2]), np.array([3]))]
    with pytest.raises(InputError, match="the patient 'P1' is in training and test patients"):
        check_folds(folds, ["P0", "P1", "P2", "P1"])


def test_patient_tested_twice_is_named():
    folds = [Fold(0, 0, np.array([1]), np.array([0])), Fold(0, 1, np.array([1]), np.array([0]))]
    with pytest.raises(InputError, match="the patient 'P0' is in two test folds"):
        check_folds(folds, ["P0", "P1"])


def test_image_under_two_patients_is_named():
    cells = pd.DataFrame({"cell_id": ["aa", "bb", "aa", "cc"], "patient": ["P1", "P1", "P2", "P2"]})
    with pytest.raises(InputError, match="the image aa stands under the patients 'P1' and 'P2'"):
        refuse_shared_cells(cells)


def test_image_twice_under_one_patient_is_no_leak():
    refuse_shared_cells(pd.DataFrame({"cell_id": ["aa", "aa", "bb"], "patient": ["P1", "P1", "P2"]}))


def test_same_picture_in_another_file_is_found_by_its_tokens():
    cells = pd.DataFrame({"patient": ["P1", "P2", "P3"]}, index=["aa", "bb", "cc"])
    tokens = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    refuse_shared_cells(cells, tokens=tokens)
    tokens[2] = tokens[0]
    with pytest.raises(InputError, match="the picture aa stands under the patients 'P1' and 'P3'"):
        refuse_shared_cells(cells, tokens=tokens)


def test_blank_stand_ins_are_no_pictures():
    cells = pd.DataFrame({"patient": ["P1", "P2"]}, index=["aa", "bb"])
    refuse_shared_cells(cells, tokens=np.zeros((2, 5), np.float32))

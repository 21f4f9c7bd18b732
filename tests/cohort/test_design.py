"""Folds, resamples and shuffles of patients who belong together: what must hold of every one of them."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cytosae.cohort import Design, Intervals
from cytosae.cohort.classification.scores import auroc
from cytosae.common.errors import InputError

NAMES = ("AML", "APL")


@st.composite
def designs(draw, most: int = 24, classes: int = 3) -> Design:
    """Any classes in any groups, large and small, of one class and mixed."""
    n = draw(st.integers(2, most))
    y = draw(st.lists(st.integers(0, classes - 1), min_size=n, max_size=n))
    groups = draw(st.lists(st.integers(0, n - 1), min_size=n, max_size=n))
    assume(len(set(y)) > 1)
    return Design(np.unique(y, return_inverse=True)[1], np.array(groups))


@settings(max_examples=25, deadline=None)
@given(few=st.integers(5, 9), many=st.integers(9, 30), folds=st.integers(2, 5), seed=st.integers(0, 100))
def test_every_patient_is_tested_once_in_each_repetition(few, many, folds, seed):
    y = np.r_[np.zeros(many, int), np.ones(few, int)]
    made = Design(y).folds(folds, repeats=2, seed=seed)
    for repeat in range(2):
        tested = np.concatenate([fold.test for fold in made if fold.repeat == repeat])
        assert sorted(tested) == list(range(len(y)))
    for fold in made:
        assert not set(fold.train) & set(fold.test)
        assert abs(y[fold.test].sum() - few / folds) < 1


def test_repetitions_differ_and_the_seed_repeats_them():
    design = Design(np.arange(20) % 2)
    first, again = design.folds(4, repeats=2), design.folds(4, repeats=2)
    assert all((a.test == b.test).all() for a, b in zip(first, again, strict=True))
    assert any((a.test != b.test).any() for a, b in zip(first[:4], first[4:], strict=True))
    assert len({fold.seed for fold in first}) == 8


@settings(max_examples=150, deadline=None)
@given(design=designs(), number=st.integers(2, 4), seed=st.integers(0, 50))
def test_no_group_is_on_two_sides_and_every_training_set_has_every_class(design, number, seed):
    present = set(design.y)
    inner = design.inner_folds(number, seed)
    try:
        made = design.folds(number, seed=seed)
    except InputError:
        made = []
    else:
        assert sorted(np.concatenate([fold.test for fold in made])) == list(range(len(design.y)))
    for train, test in [*inner, *((fold.train, fold.test) for fold in made)]:
        assert not set(design.codes[train]) & set(design.codes[test])
        assert set(design.y[train]) == present
        assert len(test)


@settings(max_examples=60, deadline=None)
@given(design=designs(), seed=st.integers(0, 50))
def test_copies_of_a_patient_are_on_one_side_of_inner_folds(design, seed):
    drawn = design.bootstrap(1, np.random.default_rng(seed))[1].astype(int)
    rows = np.repeat(np.arange(len(drawn)), drawn)
    for train, test in design.take(rows).inner_folds(3, seed):
        assert not set(rows[train]) & set(rows[test])
        assert not set(design.codes[rows[train]]) & set(design.codes[rows[test]])


@settings(max_examples=60, deadline=None)
@given(design=designs(), seed=st.integers(0, 50))
def test_groups_are_drawn_as_wholes_and_no_resample_lacks_a_class(design, seed):
    weights = design.bootstrap(20, np.random.default_rng(seed))
    assert (weights[0] == 1).all()
    for group in np.unique(design.codes):
        assert (np.ptp(weights[:, design.codes == group], axis=1) == 0).all()
    firsts = np.unique(design.codes, return_index=True)[1]
    assert (weights[:, firsts].sum(1) == len(firsts)).all()
    for k in np.unique(design.y):
        assert (weights[:, design.y == k].sum(1) > 0).all()


@settings(max_examples=60, deadline=None)
@given(design=designs())
def test_every_group_is_left_out_of_some_resamples_and_drawn_twice_in_others(design):
    """A stratum of one group would never vary, and an interval over such strata would have no width."""
    assume(design.most_folds > 1)
    weights = design.bootstrap(400, np.random.default_rng(0))
    assert (weights.max(0) > 1).all()
    assert (weights.min(0) == 0).all()


def test_groups_of_one_class_are_drawn_within_it():
    y = np.r_[np.zeros(12, int), np.ones(5, int)]
    weights = Design(y).bootstrap(30, np.random.default_rng(0))
    assert (weights[:, y == 1].sum(1) == 5).all()
    assert (weights.sum(1) == 17).all()
    pairs = Design(np.repeat([0, 1], [6, 4]), np.arange(10) // 2).bootstrap(30, np.random.default_rng(0))
    assert (pairs[:, [0, 2, 4]].sum(1) == 3).all()
    assert (pairs[:, [6, 8]].sum(1) == 2).all()


def allowed(z: tuple[int, ...], design: Design) -> bool:
    """Whether diagnoses z are an arrangement that the rule allows, by its words."""
    kinds: dict[int, tuple[list[int], list[int]]] = {}
    for group in np.unique(design.codes):
        rows = np.flatnonzero(design.codes == group)
        old, new = design.y[rows].tolist(), [z[row] for row in rows]
        if len(set(old)) > 1:
            if sorted(old) != sorted(new):
                return False
        elif len(set(new)) > 1:
            return False
        else:
            before, after = kinds.setdefault(len(rows), ([], []))
            before.append(old[0])
            after.append(new[0])
    return all(sorted(before) == sorted(after) for before, after in kinds.values())


@settings(max_examples=60, deadline=None)
@given(design=designs(most=6))
def test_shuffles_are_the_allowed_arrangements_and_all_of_them(design):
    expected = {z for z in set(permutations(design.y.tolist())) if allowed(z, design)}
    assert design.arrangements == len(expected)
    rng = np.random.default_rng(0)
    found = {tuple(design.shuffled(rng).y.tolist()) for _ in range(60 * len(expected))}
    assert found <= expected
    assert len(expected) > 30 or found == expected


@settings(max_examples=80, deadline=None)
@given(design=designs(), number=st.integers(2, 4), seed=st.integers(0, 50))
def test_where_folds_can_be_made_they_can_be_made_of_every_shuffle(design, number, seed):
    try:
        design.folds(number)
    except InputError:
        return
    shuffled = design.shuffled(np.random.default_rng(seed))
    assert np.bincount(shuffled.y).tolist() == np.bincount(design.y).tolist()
    assert ((shuffled.table > 0).sum(0) == (design.table > 0).sum(0)).all()
    assert len(shuffled.folds(number)) == number


def test_diagnoses_that_cannot_be_shuffled_are_one_sentence():
    design = Design(np.repeat([0, 1, 0, 1], [2, 3, 4, 5]), np.repeat(np.arange(4), [2, 3, 4, 5]), NAMES, "site")
    assert design.arrangements == 1
    assert design.shuffles(0, 0) == []
    with pytest.raises(InputError, match=r"cannot be shuffled .*by site.*shuffles = 0"):
        design.shuffles(3, 0)


def p_of(design: Design, score: np.ndarray, rng: np.random.Generator, shuffles: int = 39) -> float:
    """P of the AUROC of a score under shuffles, two-sided."""

    def far(y: np.ndarray) -> float:
        return abs(auroc(score[None], y == 1)[0] - 0.5)

    return (1 + sum(far(design.shuffled(rng).y) >= far(design.y) - 1e-12 for _ in range(shuffles))) / (1 + shuffles)


@pytest.mark.parametrize("mixed", [False, True])
def test_an_effect_of_groups_gives_no_small_p(mixed):
    """Groups differ, diagnoses show in nothing: they are constant in a group, or their shares go with its effect."""
    rng = np.random.default_rng(0)
    groups, kept, free = np.repeat(np.arange(12), 5), [], []
    for _ in range(100):
        effect = rng.normal(size=12) * 2
        y = np.repeat(rng.permutation(12) % 2, 5)
        if mixed:  # one or four of five, four where the effect is large: the group tells, the patient does not
            y = np.concatenate([rng.permutation([0, high, high, high, 1]) for high in effect > np.median(effect)])
        score = effect[groups] + rng.normal(size=60) * 0.5
        kept.append(p_of(Design(y, groups), score, rng))
        free.append(p_of(Design(y), score, rng))
    assert np.mean(np.array(kept) <= 0.1) < 0.18  # of 0.1 expected, 100 times: 0.18 is 2.7 standard errors above
    assert np.mean(np.array(free) <= 0.1) > 0.3


def test_a_diagnosis_that_shows_within_groups_gives_a_small_p():
    rng = np.random.default_rng(1)
    groups, y = np.repeat(np.arange(10), 4), np.tile([0, 0, 1, 1], 10)
    score = rng.normal(size=10)[groups] * 3 + y + rng.normal(size=40) * 0.3
    assert p_of(Design(y, groups), score, rng, shuffles=199) == pytest.approx(1 / 200)


def test_intervals_of_clustered_patients_are_wider_and_cover():
    rng = np.random.default_rng(2)
    groups, y = np.repeat(np.arange(40), 4), np.repeat(np.arange(40) % 2, 4)
    covered, widths = {True: [], False: []}, {True: [], False: []}
    for _ in range(120):
        score = (rng.normal(size=40)[groups] + rng.normal(size=160) * 0.3)[None]
        for grouped in (True, False):
            weights = Design(y, groups if grouped else None).bootstrap(200, rng)
            low, high = np.quantile(auroc(score, y == 1, weights)[1:], [0.05, 0.95])
            covered[grouped].append(low <= 0.5 <= high)
            widths[grouped].append(high - low)
    assert np.mean(covered[True]) > 0.82  # 0.9 promised
    assert np.mean(covered[False]) < 0.75
    assert np.mean(widths[True]) > 1.5 * np.mean(widths[False])


def test_a_mean_over_patients_takes_their_groups_into_account():
    patients = [f"P{i:02d}" for i in range(40)]
    values = np.repeat(np.random.default_rng(0).normal(size=10), 4)
    groups = pd.Series(np.repeat(np.arange(10), 4), index=patients)
    mean, low, high = Intervals().mean(values, patients)
    same, lower, higher = Intervals(groups=groups).mean(values, patients)
    assert mean == same == pytest.approx(values.mean())
    assert higher - lower > 1.5 * (high - low)
    alone = Intervals(groups=groups[:4]).mean(values, patients)  # who is in no group is by itself
    assert high - low < alone[2] - alone[1] < higher - lower


@settings(max_examples=40, deadline=None)
@given(design=designs(), number=st.integers(1, 30))
def test_parts_hold_everybody_once_and_part_no_group(design, number):
    parts = design.parts(number)
    assert sorted(np.concatenate(parts)) == list(range(len(design.y)))
    assert sum(len(set(design.codes[part])) for part in parts) == len(set(design.codes))


def test_as_many_folds_as_the_rarest_class_has_groups():
    y = np.array([0, 0, 0, 1, 1, 1])
    assert Design(y).most_folds == 3
    assert Design(y, np.array([0, 1, 2, 3, 3, 4])).most_folds == 2


def test_a_class_in_one_group_gives_no_inner_folds():
    y, groups = np.arange(30) % 2, np.arange(30) // 3
    assert len(Design(y, groups).inner_folds(4, 0)) == 4
    assert Design(y, np.zeros(30)).inner_folds(4, 0) == []
    only_one = np.where(y == 1, 0, np.arange(30))  # the second class is one group: without it nothing can be trained
    assert all(1 in y[train] for train, _ in Design(y, only_one).inner_folds(4, 0))


def test_folds_that_a_greedy_search_misses_are_found():
    y, groups = np.array([1, 1, 0, 1, 1, 0, 1, 0]), np.array([0, 2, 1, 2, 0, 1, 0, 0])
    assert len(Design(y, groups)._split(2, 0)) < 2  # with this seed, both groups with class 0 are in one fold
    for fold in Design(y, groups).folds(2, seed=0):
        assert set(y[fold.train]) == {0, 1}


@pytest.mark.parametrize(
    ("y", "groups", "folds", "words"),
    [
        (np.zeros(10, int), None, 2, r"same diagnosis \(AML\)"),
        (np.r_[np.zeros(10, int), np.ones(3, int)], None, 5, "5 folds .* 3 patients of 'APL'; 3 is the most possible"),
        (np.r_[np.zeros(10, int), 1], None, 2, "only 1 patient has the diagnosis 'APL'"),
        (np.arange(20) % 2, None, 1, "2 is the least"),
        (np.repeat([0, 1], 10), np.repeat([0, 1], 10), 2, "all patients with 'AML' are in one of the groups"),
        (np.arange(30) % 2, np.arange(30) // 10, 5, "more than the 3 groups .*by site.*; 3 is the most possible"),
    ],
)
def test_what_cannot_be_split_is_one_sentence(y, groups, folds, words):
    with pytest.raises(InputError, match=words):
        Design(y, groups, NAMES, "site").folds(folds)

from __future__ import annotations

from itertools import combinations
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from cytosae.cohort.design import Design
from cytosae.cohort.explanation.counterfactual import counterfactual, smallest_removal
from cytosae.cohort.explanation.faithfulness import cell_curve, concept_curve, stability
from cytosae.cohort.explanation.patient_explanation import PatientExplanation, Residuals
from cytosae.common.errors import InputError, UsageError


def made_explanation(logits, classes=("AML", "APL"), intercept=-0.2, parts=(0.5, -0.1, 0.3), reference=None):
    """An explanation with these logits of each cell alone; its concept table is made up of ``parts``."""
    logits = np.asarray(logits, dtype=float).reshape(len(logits), -1)
    alone = logits[:, 0]
    order = np.argsort(-alone, kind="stable")
    typical = np.zeros(len(parts)) if reference is None else np.asarray(reference, float)
    concepts = pd.DataFrame(
        {
            "coefficient": 1.0,
            "barcode": parts,
            "contribution": parts,
            "reference": typical,
            "difference": np.asarray(parts) - typical,
            "cells": 1,
        },
        index=pd.Index(range(len(parts)), name="latent"),
    )
    cells = pd.DataFrame(
        {
            "row": order,
            "label": None,
            "contribution": (alone - intercept)[order] / len(alone),
            "alone": alone[order],
            "difference": alone[order] / len(alone),
        },
        index=pd.Index([f"c{i}" for i in order], name="cell_id"),
    )
    return PatientExplanation(
        patient="p",
        target=classes[-1],
        against=classes[0],
        kind="mean",
        value=float(alone.mean()),
        intercept=intercept,
        probabilities=pd.Series(0.5, index=list(classes)),
        population="the diagnoses are equally frequent",
        concepts=concepts,
        cells=cells,
        by_cell=sp.csr_array((len(alone), len(parts))),
        detailed=np.zeros(0, np.int64),
        by_token=None,
        logits=logits[order],
        classes=classes,
        left_out=0,
        grid=(4, 4),
        residuals=Residuals(0.0, 0.0, float("nan")),
    )


def brute_force(logits, decide):
    """Size of the smallest set whose removal changes the decision, trying them all; None where none does."""
    n = len(logits)
    now = decide(logits)
    for size in range(1, n):
        for removed in combinations(range(n), size):
            if decide(np.delete(logits, removed, axis=0)) != now:
                return size
    return None


def decide_two(logits):
    return int(logits.sum() > 0)


def decide_many(logits):
    return int(np.argmax(logits.sum(axis=0)))


quarters = st.integers(-8, 8).map(lambda i: i / 4)  # exact in binary: ties are ties


@given(st.lists(quarters, min_size=1, max_size=8))
def test_smallest_removal_of_cells_is_that_of_brute_force(values):
    found = counterfactual(made_explanation(values))
    expected = brute_force(np.array(values), decide_two)
    assert (len(found.cells) if found.flips else None) == expected
    if found.flips:
        kept = np.delete(np.array(values), [int(name[1:]) for name in found.cells.index])
        assert decide_two(kept) != decide_two(np.array(values))
        margin = kept.mean() if decide_two(np.array(values)) else -kept.mean()
        assert found.after == pytest.approx(margin)


@given(st.lists(st.tuples(quarters, quarters, quarters), min_size=1, max_size=7))
def test_smallest_removal_with_three_classes_is_that_of_brute_force(values):
    found = counterfactual(made_explanation(values, classes=("a", "b", "c")))
    assert (len(found.cells) if found.flips else None) == brute_force(np.array(values), decide_many)


def test_cells_that_all_agree_cannot_be_taken_away_to_change_the_decision():
    found = counterfactual(made_explanation([0.1, 2.0, 1.0]))
    assert (found.decided, found.becomes, len(found.cells)) == ("APL", None, 0)
    assert "each of the 3 cells by itself speaks for APL" in found.sentence()


def test_counterfactual_names_its_cells_and_says_how_many():
    found = counterfactual(made_explanation([-1.0, 5.0, -1.0, 0.5]))
    assert list(found.cells.index) == ["c1"]
    assert found.sentence().startswith("Without 1 of 4 cells (25 %) the decision would be AML, not APL")
    assert found.before == pytest.approx(3.5 / 4)
    assert found.after == pytest.approx(-0.5)


def test_a_tie_goes_to_the_first_class():
    assert list(smallest_removal(np.array([1.0, -1.0, 0.5]), strict=False)) == [0]
    assert list(smallest_removal(np.array([1.0, -0.5, 0.5]), strict=True)) == [0, 2]


@pytest.mark.parametrize("mode", ["deletion", "insertion"])
def test_cell_curve_is_the_decision_on_the_cells_that_are_there(mode):
    values = np.random.default_rng(0).normal(0.4, 1, 12)
    curve = cell_curve(made_explanation(values), mode, orders=50)
    ordered = np.sort(values)[::-1]
    for step, value in zip(curve.steps, curve.values, strict=True):
        there = ordered[:step] if mode == "insertion" else ordered[step:]
        assert value == pytest.approx(there.mean())
    assert curve.area > 0.2
    whole = curve.values[-1 if mode == "insertion" else 0]
    assert whole == pytest.approx(values.mean())
    assert (curve.random_low <= curve.random_mean + 1e-12).all()
    assert (curve.random_mean <= curve.random_high + 1e-12).all()


@pytest.mark.parametrize("mode", ["deletion", "insertion"])
def test_concept_curve_ends_at_the_decision_and_at_nothing(mode):
    parts = np.random.default_rng(1).normal(0.1, 1, 9)
    explanation = made_explanation([parts.sum() - 0.2], parts=parts)
    curve = concept_curve(explanation, mode, orders=40)
    ends = (explanation.value, explanation.intercept)
    first, last = ends if mode == "deletion" else ends[::-1]
    assert curve.values[0] == pytest.approx(first)
    assert curve.values[-1] == pytest.approx(last)
    sign = 1 if explanation.value > 0 else -1
    best = parts[np.argsort(-sign * parts)]
    step = best[0] if mode == "insertion" else -best[0]
    assert curve.values[1] == pytest.approx(first + step)
    assert curve.area > 0


def test_concept_curve_with_a_reference_replaces_by_it():
    explanation = made_explanation([0.5], parts=(0.5, -0.1, 0.3), reference=(0.1, 0.1, 0.3))
    curve = concept_curve(explanation, "deletion", orders=5)
    assert curve.values[0] == pytest.approx(0.5)
    assert curve.values[-1] == pytest.approx(-0.2 + 0.5) == pytest.approx(explanation.reference_value)
    assert len(curve.steps) == 3  # the concept at its reference does not take part


def test_orders_without_information_have_no_area():
    curve = cell_curve(made_explanation([0.3] * 6), "deletion")
    assert curve.area == pytest.approx(0)


def test_curves_repeat_with_the_seed():
    explanation = made_explanation(np.random.default_rng(0).normal(size=10))
    one, two, other = (cell_curve(explanation, "deletion", seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.random_mean, two.random_mean)
    assert not np.array_equal(one.random_mean, other.random_mean)


def least_squares(barcodes, y):
    """A linear model whose coefficients are the differences of group means."""

    def refit(rows):
        x, t = barcodes[rows], y[rows]
        return SimpleNamespace(
            latents=np.arange(x.shape[1]), coef=(x[t == 1].mean(0) - x[t == 0].mean(0))[None], classes=("a", "b")
        )

    return refit


def test_planted_concepts_are_stable_and_noise_is_not():
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1], 20)
    barcodes = rng.normal(size=(40, 60))
    barcodes[:, :3] += 3 * y[:, None]
    found = stability(least_squares(barcodes, y), barcodes, Design(y), top=3, resamples=20, seed=1)
    assert set(found.concepts.index[:3]) == {0, 1, 2}
    assert (found.concepts["selection_frequency"].iloc[:3] > 0.9).all()
    assert (found.concepts["same_sign"].iloc[:3] == 1).all()
    noise = rng.normal(size=(40, 60))
    without = stability(least_squares(noise, y), noise, Design(y), top=3, resamples=20, seed=1)
    assert without.overlap < 0.5 < found.overlap
    assert found.chance == pytest.approx(3 / 60)


def test_resamples_keep_the_size_of_each_group():
    sizes = []

    def refit(rows):
        sizes.append((int((rows < 4).sum()), len(rows)))
        return SimpleNamespace(latents=np.array([0]), coef=np.array([[1.0]]), classes=("a", "b"))

    found = stability(refit, np.eye(10)[:, :2], Design(np.repeat([0, 1], [4, 6])), resamples=5, top=2)
    assert set(sizes) == {(4, 10)}
    assert found.overlap == 1


def test_patients_who_belong_together_are_drawn_together():
    y, groups = np.repeat([0, 1], 6), np.arange(12) // 2
    drawn = []

    def refit(rows):
        drawn.append(np.bincount(rows, minlength=12))
        return SimpleNamespace(latents=np.array([0]), coef=np.array([[1.0]]))

    stability(refit, np.eye(12)[:, :2], Design(y, groups), resamples=8, top=2)
    assert (drawn[0] == 1).all()  # the model on all patients
    assert all((counts[::2] == counts[1::2]).all() for counts in drawn)
    assert any((counts > 1).any() for counts in drawn[1:])


def test_stability_refuses_what_cannot_be_resampled():
    with pytest.raises(InputError, match="only 1 patient has the diagnosis 'b'"):
        stability(least_squares, np.zeros((3, 2)), Design(np.array([0, 0, 1]), None, ("a", "b")))
    with pytest.raises(UsageError, match="at least 2"):
        stability(least_squares, np.zeros((4, 2)), Design(np.array([0, 0, 1, 1])), resamples=1)

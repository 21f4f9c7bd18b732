from __future__ import annotations

import numpy as np
import pytest
from scipy.special import logit
from scipy.stats import mannwhitneyu

from cytosae.cohort.validation.calibration import at_threshold, calibration, net_benefit, threshold_at
from cytosae.cohort.validation.shift import van_elteren

EVERYBODY = np.ones((1, 4))


def test_net_benefit_is_that_of_counting_by_hand():
    truth, probability = np.array([True, False, True, False]), np.array([0.9, 0.6, 0.4, 0.1])
    found = net_benefit(probability, truth, EVERYBODY, np.array([0.2, 0.5, 0.8]))[:, 0]
    # 2 of 4 right and 1 wrong at odds 1/4; 1 and 1 at odds 1; 1 and 0
    np.testing.assert_allclose(found, [2 / 4 - 1 / 4 / 4, 0.0, 1 / 4])
    acting_on_all = net_benefit(np.ones(4), truth, EVERYBODY, np.array([0.2]))[0, 0]
    assert acting_on_all == pytest.approx(1 / 2 - 1 / 2 / 4)


def test_net_benefit_counts_a_patient_as_often_as_it_is_drawn():
    truth, probability = np.array([True, False]), np.array([0.9, 0.8])
    assert net_benefit(probability, truth, np.array([[3.0, 1.0]]), np.array([0.5]))[0, 0] == pytest.approx(2 / 4)


def test_slope_and_intercept_of_two_groups_are_those_of_their_shares():
    # of 10 patients at log odds -1, 2 have the disease; of 10 at 1, 9 have: a line through two logits
    decision = np.repeat([-1.0, 1.0], 10)
    truth = np.array([True] * 2 + [False] * 8 + [True] * 9 + [False])
    slope, _ = calibration(decision, truth, np.ones((1, 20)))
    assert slope[0] == pytest.approx((logit(0.9) - logit(0.2)) / 2)


def test_the_intercept_makes_probabilities_right_on_average():
    rng = np.random.default_rng(0)
    decision = 2 * rng.normal(size=60)
    truth, weights = rng.random(60) < 0.7, rng.multinomial(60, np.full(60, 1 / 60), size=20).astype(float)
    _, intercept = calibration(decision, truth, weights)
    meant = (weights / (1 + np.exp(-(decision + intercept[:, None])))).sum(1)
    np.testing.assert_allclose(meant, weights @ truth, rtol=1e-8)


def test_calibration_agrees_with_a_generalised_linear_model_in_resamples():
    import statsmodels.api as sm

    rng = np.random.default_rng(1)
    decision = 2 * rng.normal(size=50)
    truth = rng.random(50) < 1 / (1 + np.exp(-(0.5 * decision + 0.3)))
    weights = np.vstack([np.ones(50), rng.multinomial(50, np.full(50, 0.02), size=5)]).astype(float)
    slope, intercept = calibration(decision, truth, weights)
    for row, a, b in zip(weights, slope, intercept, strict=True):
        terms, family = sm.add_constant(decision), sm.families.Binomial()
        assert a == pytest.approx(sm.GLM(truth, terms, family=family, freq_weights=row).fit().params[1], rel=1e-5)
        fixed = sm.GLM(truth, np.ones((50, 1)), offset=decision, family=family, freq_weights=row).fit()
        assert b == pytest.approx(fixed.params[0], abs=1e-6)


def test_what_has_no_slope_has_none():
    truth = np.array([False, False, True, True])
    assert calibration(np.array([-2.0, -1, 3, 4]), truth, EVERYBODY)[0] == np.inf
    assert calibration(np.array([3.0, 4, -2, -1]), truth, EVERYBODY)[0] == -np.inf
    assert np.isnan(calibration(np.zeros(4), truth, EVERYBODY)[0])
    assert np.isnan(calibration(np.array([-2.0, -1, 3, 4]), truth, np.array([[1.0, 1, 0, 0]]))).all()


def test_the_fixed_threshold_lets_the_share_of_negatives_pass_that_was_allowed():
    negatives = np.arange(10.0)
    decision, truth = np.concatenate([negatives, [8.5, 3.0]]), np.array([False] * 10 + [True] * 2)
    threshold = threshold_at(decision, truth, 0.9)
    assert threshold == 8.0
    sensitivity, specificity = at_threshold(decision, truth, np.ones((1, 12)), threshold)
    assert (sensitivity[0], specificity[0]) == (0.5, pytest.approx(0.9))


def test_with_one_stratum_the_test_of_shift_is_that_of_mann_and_whitney():
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=(20, 3)).round(1), rng.normal(size=(25, 3)).round(1)  # with ties
    delta, p = van_elteren(a, b, (np.zeros(20, int), np.zeros(25, int)))
    plain = mannwhitneyu(a, b, use_continuity=False, method="asymptotic")
    np.testing.assert_allclose(p, plain.pvalue)
    np.testing.assert_allclose(delta, 2 * plain.statistic / 500 - 1)


def test_more_patients_of_one_diagnosis_are_no_shift():
    rng = np.random.default_rng(3)
    strata = np.repeat([0, 1], [30, 10]), np.repeat([0, 1], [10, 30])
    a, b = (rng.normal(size=(40, 50)) + 3 * of[:, None] for of in strata)
    assert mannwhitneyu(a, b).pvalue.max() < 0.05
    assert (van_elteren(a, b, strata)[1] < 0.05).mean() < 0.2

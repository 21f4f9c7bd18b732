from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from cytosae.cohort.classification.linear import ElasticNet, Standardise, fit_l2, l2_path, row_space
from cytosae.cohort.design import Design

STRENGTHS = (0.1, 1.0, 10.0, 100.0)


def few_patients(n: int = 36, features: int = 300, classes: int = 2, seed: int = 0):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % classes
    X = rng.normal(size=(n, features)) + 3
    X[:, :20] += 0.8 * y[:, None]
    return X, y


@pytest.mark.parametrize("classes", [2, 3])
def test_path_agrees_with_scikit_learn(classes):
    X, y = few_patients(features=12, classes=classes)
    X = X - X.mean(0)
    for (w, b), C in zip(l2_path(X, y, STRENGTHS), STRENGTHS, strict=True):
        fit = LogisticRegression(C=C, tol=1e-10, max_iter=10_000).fit(X, y)
        np.testing.assert_allclose(w, fit.coef_, atol=2e-4)
        np.testing.assert_allclose(b, fit.intercept_, atol=2e-4)


@pytest.mark.parametrize("classes", [2, 3])
def test_row_space_changes_no_prediction(classes):
    X, y = few_patients(classes=classes)
    new, _ = few_patients(seed=1)
    scale = Standardise().fit(X)
    basis = row_space(scale.transform(X))
    assert basis.shape[1] < len(X)
    assert row_space(scale.transform(X).T) is None
    ((w, b),) = l2_path(scale.transform(X) @ basis, y, (10.0,))
    full = LogisticRegression(C=10.0, tol=1e-10, max_iter=10_000).fit(scale.transform(X), y)
    mine = scale.transform(new) @ basis @ w.T + b
    np.testing.assert_allclose(mine, full.decision_function(scale.transform(new)).reshape(mine.shape), atol=2e-4)


def test_nested_choice_agrees_with_grid_search_of_a_pipeline():
    X, y = few_patients()
    X[:, 250:] = 1.0
    scale = FunctionTransformer(lambda Z: Z[:, Z.std(0) > 0] / np.sqrt((Z.std(0) > 0).sum()))
    pipeline = make_pipeline(StandardScaler(), scale, LogisticRegression(tol=1e-9, max_iter=10_000))
    grid = GridSearchCV(
        pipeline,
        {"logisticregression__C": STRENGTHS},
        scoring="neg_log_loss",
        cv=StratifiedKFold(4, shuffle=True, random_state=3),
    ).fit(X, y)
    fit = fit_l2(X, y, strengths=STRENGTHS, inner_folds=4, seed=3)
    assert fit.strength == grid.best_params_["logisticregression__C"]
    new, _ = few_patients(seed=1)
    np.testing.assert_allclose(fit.logits(new)[:, 1], _decision(grid, new), atol=5e-3)


def _decision(grid, new):
    kept = np.ones(new.shape[1], dtype=bool)
    kept[250:] = False
    steps = grid.best_estimator_.named_steps
    Z = steps["standardscaler"].transform(new)[:, kept] / np.sqrt(kept.sum())
    return steps["logisticregression"].decision_function(Z)


def test_coefficients_are_in_the_units_of_the_features():
    X, y = few_patients()
    fit = fit_l2(X, y)
    larger = fit_l2(X * 1000, y)
    np.testing.assert_allclose(larger.coef * 1000, fit.coef, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(fit.logits(X)[:, 1], X @ fit.coef[0] + fit.intercept[0], atol=1e-9)


def test_missing_features_stand_at_the_training_mean():
    X, y = few_patients(features=5)
    X[3, 2] = np.nan
    fit = fit_l2(X, y)
    row = np.where(np.arange(5) == 2, np.nan, X[0])
    filled = np.where(np.arange(5) == 2, np.nanmean(X[:, 2]), X[0])
    np.testing.assert_allclose(fit.logits(row[None]), fit.logits(filled[None]))


def test_rare_and_constant_features_get_no_weight():
    X, y = few_patients(n=60, features=6)
    X[:, 0] = 7.0
    X[:, 1] = 0.0
    X[0, 1] = 5.0
    fit = fit_l2(X, y, min_share=0.05)
    assert fit.coef[0, :2].tolist() == [0, 0]
    assert (fit.coef[0, 2:] != 0).all()


def test_no_usable_feature_gives_the_share_of_the_classes():
    y = np.r_[np.zeros(30, int), np.ones(10, int)]
    logits = fit_l2(np.ones((40, 3)), y).logits(np.ones((2, 3)))
    np.testing.assert_allclose(logits[:, 1], np.log(10 / 30), atol=1e-6)


def test_separable_classes_and_weak_penalties_stay_finite():
    X = np.r_[np.zeros((10, 1)), np.ones((10, 1))]
    for w, b in l2_path(X, np.repeat([0, 1], 10), (1e-3, 1.0, 1e6)):
        assert np.isfinite(w).all()
        assert np.isfinite(b).all()


@pytest.mark.parametrize("classes", [2, 3])
def test_elastic_net_keeps_few_features_among_them_the_telling(classes):
    X, y = few_patients(n=60, classes=classes)
    X[:, :3] += 2.0 * y[:, None]
    fit = ElasticNet(strengths=(1.0, 3.0), l1_ratios=(0.9,), most=50).fit(X, Design(y), 0)
    used = (fit.coef != 0).any(0)
    assert 0 < used.sum() <= 50
    assert used[:3].all()
    assert (fit.logits(X).argmax(1) == y).mean() > 0.8
    assert fit.logits(X).shape == (60, classes)


def test_one_patient_a_class_inside_takes_the_first_candidate():
    X = np.array([[0.0, 1.0], [1.0, 0.0]])
    assert fit_l2(X, np.array([0, 1]), strengths=(0.5, 5.0)).strength == 0.5

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from cohort.synthetic_cohort import QUICK, make_atlas
from sklearn.linear_model import LogisticRegression, orthogonal_mp

from cytosae.cohort import (
    ClassificationConfig,
    Configuration,
    Design,
    barcodes,
    classify,
    fit_classifier,
    open_classification,
)
from cytosae.cohort.classification.assessment import Trial, cross_validate
from cytosae.cohort.classification.cohort_arrays import CohortArrays
from cytosae.cohort.classification.families import families_of, representatives
from cytosae.cohort.classification.features import fixed
from cytosae.cohort.classification.few_concepts import Few, fit_on
from cytosae.cohort.classification.few_curve import chosen_concepts, few_curves
from cytosae.cohort.classification.models import Model
from cytosae.cohort.classification.scores import auroc_of
from cytosae.cohort.classification.selection import METHODS, _lasso_path, pursue, step_forward
from cytosae.common.artifact import write_file_artifact, write_json
from cytosae.common.errors import UsageError

CONFIG = ClassificationConfig(folds=4, repeats=2, bootstrap=200, few_concepts=10, positive="planted")
TWINS = [{0, 1, 2}, {3, 4, 5}, {6, 7, 8}]
"""The latents that carry the diagnosis: three signals, each seen by three of them."""


def planted(seed: int = 0, *, patients: int = 80, latents: int = 300, effect: float = 2.0):
    rng = np.random.default_rng(seed)
    y = (np.arange(patients) % 4 == 0).astype(int)
    X = rng.normal(size=(patients, latents))
    for signal in range(3):
        values = rng.normal(size=patients) + effect * y
        X[:, 3 * signal : 3 * signal + 3] = values[:, None] + 0.2 * rng.normal(size=(patients, 3))
    return X, y


def trial_of(X: np.ndarray, y: np.ndarray, config: ClassificationConfig = CONFIG) -> Trial:
    names = tuple(f"P{i:03d}" for i in range(len(y)))
    data = CohortArrays(names, Design(y, None, ("other", "planted")), {"presence": X}, None, None, {})
    return Trial.of(data, data.design, config, 0)


def nested(X: np.ndarray, trial: Trial, learner: Few) -> float:
    scores = cross_validate(Model("few", "concepts", fixed(X), learner), trial.design, trial.folds)
    return float(auroc_of(scores, trial.design.y, 2)[0])


def families(order) -> list[set[int]]:
    return [{int(j) for j in family} for family in order.families]


def test_near_twins_are_one_family_and_one_of_them_stands_for_it():
    X, _ = planted()
    family = families_of(X, 0.8)
    found = [set(np.flatnonzero(family == family[3 * signal]).tolist()) for signal in range(3)]
    assert found == TWINS
    assert family.max() + 1 == X.shape[1] - 6
    standing = representatives(X, family)
    assert family[standing].tolist() == list(range(X.shape[1] - 6))
    ranks = pd.DataFrame(X).rank()
    ranks = (ranks - ranks.mean()) / ranks.std()
    for members in TWINS:
        own = ranks[sorted(members)]
        best = own.corrwith(own.mean(axis=1)).idxmax()
        assert best in standing


def test_concepts_at_both_ends_of_a_chain_are_not_twins():
    rng = np.random.default_rng(0)
    chain = rng.normal(size=(400, 1)) + np.cumsum(0.45 * rng.normal(size=(400, 12)), axis=1)
    family = families_of(chain, 0.8)
    alike = pd.DataFrame(chain).corr("spearman").to_numpy()
    assert alike[0, -1] < 0.8
    for number in np.unique(family):
        members = np.flatnonzero(family == number)
        assert alike[np.ix_(members, members)].min() >= 0.8 - 1e-5
    assert family[0] != family[-1]
    assert len(np.unique(family)) < 12


@pytest.mark.parametrize("method", list(METHODS))
def test_the_three_planted_families_are_chosen_first(method):
    X, y = planted(patients=200, latents=200, effect=1.2)
    learner = Few(method=method)
    order = learner.order(X, y, learner.join(X, y), 6)
    assert sorted(families(order)[:3], key=min) == TWINS
    assert len(order.features) == 6


def test_pursuit_of_two_classes_takes_what_scikit_learn_takes():
    X, y = planted(seed=3, effect=1.0)
    Z = (X - X.mean(0)) / X.std(0)
    expected = orthogonal_mp(Z / np.linalg.norm(Z, axis=0), y - y.mean(), n_nonzero_coefs=8)
    assert set(pursue(Z, y, 8).tolist()) == set(np.flatnonzero(expected).tolist())


def test_a_lasso_path_that_leaves_features_out_is_the_path_of_all(monkeypatch):
    rng = np.random.default_rng(0)
    y = rng.permutation(np.arange(60) % 3)
    Z = rng.normal(size=(60, 200))
    Z[:, :9] += (np.eye(3)[y] @ rng.normal(size=(3, 3)))[:, np.arange(9) % 3]
    Z = (Z - Z.mean(0)) / Z.std(0)
    strengths = np.geomspace(1, 4, 8) / np.abs(Z.T @ (np.eye(3)[y] - 1 / 3)).max()
    fit, seen = LogisticRegression.fit, []

    def tight(self, Z, y):
        seen.append(Z.shape[1])
        return fit(self.set_params(tol=1e-8, max_iter=20_000), Z, y)

    monkeypatch.setattr(LogisticRegression, "fit", tight)
    for weights, C in zip(_lasso_path(Z, y, strengths), strengths, strict=True):
        exact = fit(LogisticRegression(C=C, l1_ratio=1.0, solver="saga", max_iter=20_000, tol=1e-8), Z, y)
        np.testing.assert_allclose(weights, exact.coef_, atol=1e-4)
    assert weights.any()
    assert max(seen) < Z.shape[1] / 2


def test_the_first_step_forward_has_the_largest_squared_correlation_and_the_next_lowers_the_loss_most():
    X, y = planted(seed=1, latents=40, effect=1.0)
    Z = (X - X.mean(0)) / X.std(0)
    first, second = step_forward(Z, y, 2)
    assert first == np.argmax(np.abs(Z.T @ (y - y.mean())))
    losses = {}
    for j in range(40):
        model = LogisticRegression(C=1e6, solver="newton-cholesky").fit(Z[:, [first, j]], y)
        losses[j] = -np.log(model.predict_proba(Z[:, [first, j]])[np.arange(len(y)), y]).sum()
    assert sorted(losses, key=losses.get).index(int(second)) < 3  # the score statistic is an approximation


def test_three_diagnoses_are_told_apart_by_their_own_concepts():
    rng = np.random.default_rng(0)
    y = np.arange(90) % 3
    X = rng.normal(size=(90, 100))
    for k in range(3):
        X[:, k] += 3 * (y == k)
    for method in METHODS:
        learner = Few(method=method)
        order = learner.order(X, y, learner.join(X, y), 3)
        assert len({0, 1, 2} & set(order.features.tolist())) >= 2  # two tell three apart
    fit = Few(most=4, inner_folds=3).fit(X, Design(y), 0)
    assert fit.coef.shape == (3, 100)
    assert 2 <= (fit.coef != 0).any(0).sum() <= 4


def test_the_curve_is_flat_after_three_and_one_standard_error_picks_about_three():
    X, y = planted()
    curve = few_curves(Configuration("presence"), trial_of(X, y)).set_index("concepts")
    assert curve.index.tolist() == list(range(1, 11))
    assert curve.loc[3, "auroc"] > curve.loc[1, "auroc"] + 0.02
    assert curve.loc[3, "auroc"] > 0.95
    assert abs(curve.loc[10, "auroc"] - curve.loc[3, "auroc"]) < 0.04
    assert curve["enough"].sum() == 1
    assert curve.index[curve["enough"]][0] in (2, 3, 4)
    assert (curve["auroc_low"] <= curve["auroc"]).all()
    assert (curve["auroc"] <= curve["auroc_high"]).all()


def test_a_model_of_few_takes_about_three_and_says_how_firm_they_are():
    X, y = planted(latents=120)
    trial = trial_of(X, y, replace(CONFIG, bootstrap=100))
    learner = Few(most=6)
    assert nested(X, trial, learner) > 0.93
    table, overlap = chosen_concepts(Model("few", "concepts", fixed(X), learner), trial)
    assert 2 <= len(table) <= 5
    found = [set(family) for family in table["family"]]
    assert sum(family in TWINS for family in found) >= 2
    first = table.iloc[0]
    assert first["folds"] > 0.7
    assert first["resamples"] > 0.5
    assert first["weight"] > 0
    assert 0.3 < overlap <= 1


def test_nothing_is_found_where_nothing_is():
    rng = np.random.default_rng(1)
    X, y = rng.normal(size=(80, 1500)), np.arange(80) % 2
    trial = trial_of(X, y)
    learner = Few()
    assert abs(nested(X, trial, learner) - 0.5) < 0.16  # a standard error of 0.065
    # What the folds guard against: chosen on all patients, noise tells them apart.
    order = learner.order(X, y, learner.join(X, y), 6)
    leaked = Model("leaked", "concepts", fixed(X[:, order.features]), learner)
    scores = cross_validate(leaked, trial.design, trial.folds)
    assert auroc_of(scores, y, 2)[0] > 0.8


def test_a_decision_of_few_features_has_no_other_weight_and_missing_barcodes_stand_at_the_mean():
    X, y = planted()
    fit = fit_on(X, y, np.array([0, 7]))
    assert np.flatnonzero(fit.coef[0]).tolist() == [0, 7]
    np.testing.assert_allclose(fit.logits(np.full((1, X.shape[1]), np.nan)), fit.logits(X.mean(0)[None]))


@pytest.fixture(scope="module")
def cohort():
    atlas, _ = make_atlas(patients=24, cells=10, effect=3.0)
    return atlas, barcodes(atlas)


@pytest.fixture(scope="module")
def result(cohort):
    return classify(cohort[1], config=replace(QUICK, kind="mean", kinds=("mean",), shuffles=0))


def test_a_decision_of_few_is_recommended_and_what_that_costs_is_said(result):
    assert result.recommended.penalty == "few"
    assert "by at most 3 concepts" in result.reason
    assert result.unlimited in set(result.table["model"])
    assert not result.unlimited.endswith("few")
    row = result.comparisons.set_index("model").loc[result.unlimited]
    assert any(note.startswith("Few concepts:") and f"{row['difference']:+.2f}" in note for note in result.notes)


def test_the_classifier_is_the_sum_of_the_concepts_that_are_shown(cohort, result):
    atlas, made = cohort
    config = replace(QUICK, kind="mean", kinds=("mean",))
    classifier = fit_classifier(made, atlas, configuration=result.recommended, config=config)
    assert sorted(result.few_concepts["latent"]) == classifier.latents.tolist()
    assert 1 <= len(classifier.latents) <= 3


def test_without_a_limit_the_former_rule_decides(cohort):
    config = replace(QUICK, kind="mean", kinds=("mean",), shuffles=0, most_concepts=0, few_concepts=0)
    result = classify(cohort[1], config=config)
    assert not result.table["model"].str.endswith("few").any()
    assert result.recommended.penalty != "few"
    assert result.unlimited == ""
    assert result.few.empty
    assert result.few_concepts.empty
    with pytest.raises(UsageError, match="at least 1"):
        Configuration(penalty="few").learner(config)


def test_few_concepts_are_saved_and_a_result_of_before_opens_without(result, tmp_path):
    again = open_classification(result.save(tmp_path / "classification.json"))
    pd.testing.assert_frame_equal(again.few, result.few, check_dtype=False)
    assert again.few_concepts["family"].tolist() == result.few_concepts["family"].tolist()
    assert (again.unlimited, again.few_overlap) == (result.unlimited, pytest.approx(result.few_overlap, nan_ok=True))
    newer = ("few", "few_concepts", "few_overlap", "unlimited")
    plain = {name: value for name, value in result.to_plain().items() if name not in newer}
    with write_file_artifact(tmp_path / "before.json", "classification") as temporary:
        write_json(temporary, plain)
    before = open_classification(tmp_path / "before.json")
    assert before.few.empty
    assert np.isnan(before.few_overlap)

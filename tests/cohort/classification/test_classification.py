from __future__ import annotations

from dataclasses import replace

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from cohort.synthetic_cohort import QUICK, make_atlas
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, f1_score, recall_score, roc_auc_score, roc_curve
from sklearn.model_selection import StratifiedKFold

from cytosae.cohort import (
    ClassificationConfig,
    ClassificationResult,
    Configuration,
    Controls,
    Design,
    barcodes,
    classify,
    gather,
    open_classification,
)
from cytosae.cohort.classification.assessment import Colours, Measured, cross_validate
from cytosae.cohort.classification.features import fixed
from cytosae.cohort.classification.linear import L2
from cytosae.cohort.classification.models import Majority, Model
from cytosae.cohort.classification.recommendation import recommend
from cytosae.cohort.classification.scores import (
    Scores,
    auroc,
    bootstrap_p,
    corrected_t,
    metric_draws,
    reliability,
    sensitivity_at,
)
from cytosae.common.artifact import write_file_artifact, write_json
from cytosae.common.errors import ArtifactError, InputError, UsageError

MEAN = replace(QUICK, kind="mean", kinds=("mean",))
TRAINING = ClassificationConfig(odds="training")


@pytest.fixture(scope="module")
def cohort():
    atlas, colours = make_atlas(patients=24, cells=10, effect=3.0)
    return atlas, barcodes(atlas), colours


@pytest.fixture(scope="module")
def random_barcodes():
    return barcodes(make_atlas(patients=24, cells=10, effect=0.0, seed=9)[0])


@pytest.fixture(scope="module")
def result(cohort, random_barcodes):
    atlas, made, colours = cohort
    return classify(made, atlas, colours=colours, controls=Controls(random_barcodes), config=QUICK)


def test_planted_disease_is_found_and_controls_are_not(result):
    table = result.table.set_index("model")
    assert table.loc["concepts (mean)", "auroc"] > 0.9
    assert table.loc["majority", "auroc"] == 0.5
    # of 12 against 12 patients whom nothing tells apart, 0.5 with a standard error of 0.12
    chance = table.loc["random-weight SAE (mean)"]
    assert chance["auroc_low"] < 0.5 < chance["auroc_high"]
    assert chance["auroc_high"] < table.loc["concepts (mean)", "auroc_low"]


def test_table_has_every_kind_of_row(result):
    names = set(result.table["model"])
    assert {
        "concepts (presence)",
        "concepts (mean), colour-following set aside",
        "concepts (presence), immature cells",
        "concepts (presence), elastic net",
        "concepts (presence), colour regressed out of barcodes",
        "concepts (mean), colour regressed out of cells",
        "concepts (presence), all confounders regressed out",
        "share of promyelocytes",
        "cell-type shares",
        "mean token",
        "ABMIL on tokens",
        "ABMIL on barcodes (presence)",
        "majority",
        "colour alone",
        "age alone",
        "sex alone",
        "all confounders together",
        "random-weight SAE (presence)",
        "shuffled diagnoses: the choice made anew",
    } <= names
    assert set(result.table["family"]) == {"concepts", "baseline", "confounder", "control"}


def test_intervals_hold_the_value_and_metrics_are_in_range(result):
    rows = result.table[result.table["family"] != "control"]
    for name in ("auroc", "macro_f1", "balanced_accuracy", "brier", "sensitivity"):
        assert ((rows[f"{name}_low"] <= rows[name] + 1e-9) & (rows[name] <= rows[f"{name}_high"] + 1e-9)).all(), name
        assert rows[name].between(0, 1).all(), name


def test_constants_are_not_asked_about_and_it_is_said(result):
    assert "number of cells alone" not in set(result.table["model"])
    assert any("number of cells tells nothing" in note for note in result.notes)


def test_predictions_of_each_model_are_one_row_a_patient(result):
    decision = result.matrix("decision")
    assert decision.loc[:, "concepts (mean)"].notna().sum() == 24
    rows = result.predictions[result.predictions["model"] == "concepts (mean)"]
    np.testing.assert_allclose(rows[["probability_AML", "probability_APL"]].sum(axis=1), 1)
    assert ((rows["decision"] > 0) == (rows["call"] == result.classes[1])).all()


@pytest.mark.parametrize("odds", ["equal", "training"])
def test_calls_follow_probabilities_and_the_order_of_patients_does_not_depend_on_odds(result, odds):
    atlas, _ = make_atlas(patients=24, cells=10, classes=("AML", "AML", "APL"), effect=0.5, seed=2)
    config = replace(MEAN, shuffles=0, odds=odds)
    found = classify(barcodes(atlas), config=config)
    rows = found.predictions
    called = rows["call"] == "APL"
    assert ((rows["decision"] > 0) == called).all()
    assert ((rows["probability_APL"] > 0.5) == called).all()
    equal = classify(barcodes(atlas), config=replace(config, odds="equal")).table.set_index("model")
    table = found.table.set_index("model")
    pd.testing.assert_series_equal(table["auroc"], equal["auroc"])
    assert (table["brier"] == equal["brier"]).all() is np.bool_(odds == "equal")


def test_brier_at_equal_odds_is_the_mean_over_the_classes():
    y = np.r_[np.zeros(9, int), np.ones(3, int)]
    logit = np.random.default_rng(0).normal(size=12)
    found = metric_draws(_scores(logit), Design(y, None, ("a", "b")), np.ones((1, 12)), ClassificationConfig())
    loss = (expit(logit) - y) ** 2
    assert found["brier"][0] == pytest.approx((loss[:9].mean() + loss[9:].mean()) / 2)


def test_diagnoses_that_cannot_be_shuffled_are_refused_before_anything_is_fitted(cohort, monkeypatch):
    atlas, made, colours = cohort
    made = made.copy()
    y = (made.obs["diagnosis"] == "APL").to_numpy()
    sizes = {False: [3, 9], True: [5, 7]}  # each site with a diagnosis and a size of its own
    made.obs["site"] = ""
    for has, parts in sizes.items():
        made.obs.loc[y == has, "site"] = np.repeat([f"{has}{n}" for n in parts], parts)
    monkeypatch.setattr("cytosae.cohort.classification.classify.run", None)  # a fit would end in a TypeError
    with pytest.raises(InputError, match="cannot be shuffled .*by site"):
        classify(made, atlas, colours=colours, config=replace(MEAN, folds=2, group="site"))
    with pytest.raises(TypeError):
        classify(made, atlas, colours=colours, config=replace(MEAN, folds=2, group="site", shuffles=0))


def test_few_ways_to_shuffle_are_said(cohort):
    made = cohort[1].copy()
    y = (made.obs["diagnosis"] == "APL").to_numpy()
    made.obs["site"] = ""
    for has in (False, True):
        made.obs.loc[y == has, "site"] = np.repeat([f"{has}{n}" for n in range(2)], 6)
    result = classify(made, config=replace(MEAN, folds=2, group="site", shuffles=6))
    assert any("There are 6 ways to deal out the diagnoses" in note for note in result.notes)
    assert 1 / 7 <= result.p_shuffled <= 1


def test_a_result_of_an_earlier_version_opens_with_probabilities_that_fit_its_calls(result, tmp_path):
    plain = result.to_plain()
    plain["config"] = {name: value for name, value in plain["config"].items() if name != "odds"}
    plain["predictions"]["probability_APL"] = [0.9 * p for p in plain["predictions"]["probability_APL"]]

    def opened(plain: dict) -> ClassificationResult:
        with write_file_artifact(tmp_path / "classification.json", "classification") as temporary:
            write_json(temporary, plain)
        return open_classification(tmp_path / "classification.json")

    pd.testing.assert_frame_equal(opened(plain).predictions, result.predictions, check_dtype=False)
    with pytest.raises(ArtifactError, match="run the step again"):
        opened({name: value for name, value in plain.items() if name != "shuffled"})


def test_recommended_is_a_configuration_of_the_table_with_a_reason(result):
    assert result.table.set_index("model")["recommended"][result.recommended.name]
    assert result.table["recommended"].sum() == 1
    assert result.recommended.name in result.reason


def test_comparisons_are_against_every_other_model(result):
    table = result.comparisons.set_index("model")
    assert set(table["reference"]) == {result.recommended.name}
    assert table.loc["majority", "difference"] > 0
    assert table.loc["majority", "p_t"] <= 1
    difference = result.table.set_index("model")["auroc"][result.recommended.name] - 0.5
    assert table.loc["majority", "difference"] == pytest.approx(difference)


def test_shuffles_go_through_every_candidate_and_choose_one(result):
    assert (result.shuffled.groupby("shuffle")["chosen"].sum() == 1).all()
    assert len(result.shuffled) == 2 * (result.table["model"].isin(result.shuffled["model"])).sum()
    assert result.p_shuffled >= 1 / 3 - 1e-9


def test_result_is_saved_and_opened_unchanged(result, tmp_path):
    again = open_classification(result.save(tmp_path / "classification.json"))
    for name in ("table", "predictions", "comparisons", "reliability", "shuffled"):
        pd.testing.assert_frame_equal(getattr(again, name), getattr(result, name), check_dtype=False)
    assert again.recommended == result.recommended
    assert again.classes == result.classes
    assert again.p_shuffled == result.p_shuffled
    (tmp_path / "classification.json").write_text("{}")
    with pytest.raises(ArtifactError):
        open_classification(tmp_path / "classification.json")


def test_same_seed_same_table(cohort, result, random_barcodes):
    atlas, made, colours = cohort
    again = classify(made, atlas, colours=colours, controls=Controls(random_barcodes), config=QUICK)
    pd.testing.assert_frame_equal(again.table, result.table)


def test_nested_cross_validation_agrees_with_a_loop_by_hand(cohort):
    atlas, made, colours = cohort
    data = gather(made, atlas, colours, config=MEAN)
    X, y, strengths = data.layers["mean"], data.y, (0.1, 1.0, 10.0)
    folds = data.design.folds(3, repeats=2, seed=5)
    learner = L2(strengths, inner_folds=3, min_share=0.0)
    scores = cross_validate(Model("m", "concepts", fixed(X), learner), data.design, folds, odds="training")
    expected = np.full((2, len(y)), np.nan)
    for repeat in range(2):
        outer = StratifiedKFold(3, shuffle=True, random_state=5 + repeat)
        for number, (train, test) in enumerate(outer.split(X, y)):
            losses = dict.fromkeys(strengths, 0.0)
            inner = StratifiedKFold(3, shuffle=True, random_state=5 + 1000 * repeat + number)
            for a, b in inner.split(X[train], y[train]):
                for C in strengths:
                    p = _by_hand(X[train][a], y[train][a], X[train][b], C)
                    losses[C] -= np.log(np.where(y[train][b] == 1, p, 1 - p)).sum()
            best = min(strengths, key=lambda C: losses[C])
            expected[repeat, test] = _by_hand(X[train], y[train], X[test], best)
    np.testing.assert_allclose(scores.probability[:, :, 1], expected, atol=2e-4)


def _by_hand(train: np.ndarray, y: np.ndarray, test: np.ndarray, C: float) -> np.ndarray:
    kept = ((train != 0).sum(0) >= 2) & (train.std(0) > 0)
    mean, scale = train[:, kept].mean(0), train[:, kept].std(0) * np.sqrt(kept.sum())
    fit = LogisticRegression(C=C, tol=1e-10, max_iter=10_000).fit((train[:, kept] - mean) / scale, y)
    return expit(fit.decision_function((test[:, kept] - mean) / scale))


def test_test_patients_do_not_touch_the_fit(cohort):
    atlas, made, colours = cohort
    data = gather(made, atlas, colours, config=MEAN)
    fold = data.design.folds(3)[0]
    one = replace(fold, test=fold.test[:1])
    first = L2().evidence(data.layers["mean"], data.design, one)
    spoiled, y = data.layers["mean"].copy(), data.y.copy()
    spoiled[fold.test[1:]] = 1e6
    y[fold.test] = 1 - y[fold.test]
    np.testing.assert_array_equal(L2().evidence(spoiled, replace(data.design, y=y), one), first)


def test_metrics_agree_with_scikit_learn():
    rng = np.random.default_rng(0)
    y = (rng.random(60) < 0.3).astype(int)
    logit = rng.normal(size=60) + y
    scores = _scores(logit)
    found = metric_draws(scores, Design(y, None, ("a", "b")), np.ones((1, 60)), TRAINING)
    call = (logit > 0).astype(int)
    assert found["auroc"][0] == pytest.approx(roc_auc_score(y, logit))
    assert found["macro_f1"][0] == pytest.approx(f1_score(y, call, average="macro"))
    assert found["f1_b"][0] == pytest.approx(f1_score(y, call))
    assert found["balanced_accuracy"][0] == pytest.approx(recall_score(y, call, average="macro"))
    assert found["brier"][0] == pytest.approx(brier_score_loss(y, expit(logit)))
    fpr, tpr, _ = roc_curve(y, logit, drop_intermediate=False)
    assert found["sensitivity"][0] == pytest.approx(tpr[fpr <= 0.1 + 1e-9].max())


def test_weighted_auroc_is_that_of_repeated_patients():
    rng = np.random.default_rng(1)
    y, value = np.arange(20) % 2 == 0, rng.integers(0, 5, 20).astype(float)
    weights = rng.integers(0, 4, 20)
    repeated = np.repeat(np.arange(20), weights)
    expected = roc_auc_score(y[repeated], value[repeated])
    assert auroc(value[None], y, weights[None].astype(float))[0] == pytest.approx(expected)
    repeated_sensitivity = sensitivity_at(value[repeated][None], y[repeated], np.ones((1, len(repeated))), 0.8)
    assert sensitivity_at(value[None], y, weights[None].astype(float), 0.8) == pytest.approx(repeated_sensitivity)


def test_three_classes_agree_with_scikit_learn():
    rng = np.random.default_rng(2)
    y = np.arange(60) % 3
    logits = rng.normal(size=(60, 3)) + np.eye(3)[y]
    probability = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    scores = Scores(np.log(probability)[None], np.arange(60))
    found = metric_draws(scores, Design(y, None, ("a", "b", "c")), np.ones((1, 60)), TRAINING)
    assert found["auroc"][0] == pytest.approx(roc_auc_score(y, probability, multi_class="ovr"))
    assert found["macro_f1"][0] == pytest.approx(f1_score(y, probability.argmax(1), average="macro"))


def test_reliability_of_calibrated_probabilities_is_on_the_diagonal():
    rng = np.random.default_rng(3)
    logit = rng.normal(size=4000) * 2
    y = (rng.random(4000) < expit(logit)).astype(int)
    curve = reliability(_scores(logit), Design(y, None, ("a", "b")), TRAINING)
    assert (abs(curve["predicted"] - curve["observed"]) < 0.06).all()
    assert curve["n"].sum() == 4000
    assert ((curve["low"] < curve["observed"]) & (curve["observed"] < curve["high"])).all()


def test_corrected_t_is_wider_than_the_plain_one_and_keeps_its_level():
    from scipy.stats import ttest_1samp

    d = np.random.default_rng(4).normal(0.05, 0.05, 20)
    assert corrected_t(d, 80, 20) > ttest_1samp(d, 0).pvalue
    assert corrected_t(np.zeros(5), 80, 20) == 1.0
    assert np.isnan(corrected_t(np.array([0.1]), 80, 20))
    by_hand = d.mean() / np.sqrt(d.var(ddof=1) * (1 / 20 + 20 / 80))
    from scipy.stats import t

    assert corrected_t(d, 80, 20) == pytest.approx(2 * t.sf(abs(by_hand), 19))


def test_bootstrap_p_is_never_zero():
    assert bootstrap_p(np.full(99, 0.3)) == pytest.approx(0.02)
    assert bootstrap_p(np.r_[np.full(50, 0.1), np.full(50, -0.1)]) == 1.0


def measured(robust: float, kind="presence", variant="all concepts", penalty="L2") -> Measured:
    setting = Configuration(kind, variant, penalty)
    model = Model(setting.name, "concepts", fixed(np.zeros((1, 0))), Majority(), configuration=setting)
    return Measured(model, Scores(np.zeros((1, 1, 2)), np.arange(1)), [], {"auroc": np.array([robust])})


def test_rule_takes_the_highest_robust_auroc_and_of_equal_ones_the_simplest():
    good, near, bad = measured(0.8, "count", penalty="elastic net"), measured(0.78), measured(0.5, "mean")
    chosen, reason = recommend([near, bad, good])
    assert chosen is good
    assert "0.80; the next has 0.78" in reason
    simple = measured(0.8, "mean")
    assert recommend([bad, good, simple])[0] is simple
    assert recommend([measured(0.99, variant="immature cells"), bad])[0] is bad
    robust = replace(bad, aurocs={"auroc": [0.9], "auroc_balanced": [0.6], "auroc_split_balanced": [0.8]})
    assert robust.robust == pytest.approx(0.7)
    sessions = replace(robust, aurocs={**robust.aurocs, "auroc_sessions": [0.4]})
    assert sessions.robust == pytest.approx(0.6)


def painted(twin: Measured, auroc: float) -> Measured:
    name = f"cell painted out{twin.model.name.removeprefix('concepts')}"
    return replace(twin, model=replace(twin.model, name=name, configuration=None), aurocs={"auroc": np.array([auroc])})


def test_rule_prefers_what_does_clearly_better_than_without_the_cell():
    draws = {"auroc": np.r_[0.8, np.linspace(0.7, 0.9, 201)]}
    first = replace(measured(0.8), aurocs=draws)
    second = replace(measured(0.8, "mean"), aurocs=draws)
    chosen, reason = recommend([first, second, painted(first, 0.75), painted(second, 0.6)])
    assert chosen is second
    assert reason.endswith("With the cell painted out of every image it does clearly worse.")
    chosen, reason = recommend([first, second, painted(first, 0.75), painted(second, 0.85)])
    assert chosen is first
    assert "None of them does clearly better than with the cell painted out" in reason
    assert recommend([first, second, painted(first, 0.75)])[0] is second  # of which it was not asked
    few = replace(measured(0.8, penalty="few"), aurocs=draws)
    assert recommend([few, painted(first, 0.75), measured(0.7, "mean")])[0].model.name == "concepts (mean)"


def test_barcodes_that_need_the_types_of_new_cells_are_not_recommended(result):
    assert result.recommended.images_alone
    assert not Configuration(variant="immature cells").images_alone


def test_overlap_weights_take_colour_out_of_the_comparison():
    rng = np.random.default_rng(8)
    y = (np.arange(80) % 4 == 0).astype(int)
    colour = rng.normal(size=(80, 6)) + y[:, None] * 0.8
    overlap = Colours.of(colour, Design(y)).overlap
    assert overlap is not None
    score = colour.sum(1)[None]
    assert auroc(score, y == 1)[0] > 0.8
    assert abs(auroc(score, y == 1, overlap[None])[0] - 0.5) < 0.1
    means = [(overlap[y == k] @ colour[y == k]) / overlap[y == k].sum() for k in (0, 1)]
    np.testing.assert_allclose(means[0], means[1], atol=0.1)


def test_strict_model_is_given_training_patients_of_its_fold(cohort):
    atlas, made, colours = cohort
    asked: list[tuple[int, tuple[str, ...]]] = []

    def barcodes_of(fold: int, train) -> ad.AnnData:
        asked.append((fold, tuple(train)))
        return made

    config = replace(QUICK, shuffles=0, kinds=("mean",), kind="mean")
    result = classify(made, atlas, colours=colours, controls=Controls(barcodes_of=barcodes_of), config=config)
    assert [fold for fold, _ in asked] == [0, 1, 2]
    assert all(len(train) == 16 for _, train in asked)
    assert len({train for _, train in asked}) == 3
    rows = result.comparisons.set_index("model")
    strict = result.predictions[result.predictions["model"] == "concepts (mean), SAE without the test patients"]
    assert len(strict) == 24
    if result.recommended.name == "concepts (mean)":
        assert rows.loc["concepts (mean), SAE without the test patients", "difference"] == pytest.approx(0)


def test_planted_leak_is_refused_before_anything_is_fitted(cohort):
    atlas, made, colours = cohort
    leaky = atlas.copy()
    names = leaky.obs_names.to_numpy().copy()
    names[15] = names[0]
    leaky.obs_names = pd.Index(names)
    with pytest.raises(InputError, match="the image .* stands under the patients 'P000' and 'P001'"):
        classify(made, leaky, colours=colours, config=QUICK)


def test_patient_with_two_rows_is_refused(cohort):
    _, made, _ = cohort
    twice = made.copy()
    twice.obs_names = pd.Index(["P000", "P000", *made.obs_names[2:]])
    with pytest.raises(InputError, match="'P000' has two rows"):
        classify(twice, config=QUICK)


def test_missing_diagnosis_names_the_patient(cohort):
    _, made, _ = cohort
    gap = made.copy()
    gap.obs["diagnosis"] = gap.obs["diagnosis"].astype(object)
    gap.obs.loc["P003", "diagnosis"] = None
    with pytest.raises(InputError, match="1 of 24 patients have no diagnosis .first: 'P003'"):
        classify(gap, config=QUICK)


def test_single_class_and_too_many_folds_are_one_sentence(cohort):
    _, made, _ = cohort
    with pytest.raises(InputError, match="all patients have the same diagnosis"):
        classify(made[made.obs["diagnosis"] == "AML"].copy(), config=QUICK)
    with pytest.raises(InputError, match="12 is the most possible"):
        classify(made, config=replace(QUICK, folds=13))
    with pytest.raises(InputError, match="no patient has the diagnosis 'CML'"):
        classify(made, classes=("AML", "CML"), config=QUICK)
    with pytest.raises(UsageError, match="must lie between 0 and 1"):
        classify(made, config=replace(QUICK, specificity=1.0))


def test_barcodes_alone_are_enough_and_what_is_left_out_is_said(cohort):
    _, made, _ = cohort
    result = classify(made, config=replace(QUICK, shuffles=1))
    assert "ABMIL on tokens" not in set(result.table["model"])
    assert any("No cells were given" in note for note in result.notes)
    assert any("Colour was not asked about" in note for note in result.notes)


def test_three_diagnoses_and_sites():
    atlas, colours = make_atlas(patients=36, cells=8, classes=("A", "B", "C"), effect=3.0)
    atlas.obs["site"] = pd.Categorical([f"s{int(p[1:]) // 4}" for p in atlas.obs["patient"]])
    config = replace(QUICK, group="site", shuffles=1, kinds=("mean",), kind="mean", repeats=1)
    result = classify(barcodes(atlas), atlas, colours=colours, config=config)
    table = result.table.set_index("model")
    assert table.loc["concepts (mean)", "auroc"] > 0.7
    assert {"f1_A", "f1_B", "f1_C"} <= set(table.columns)
    assert set(result.predictions.columns) >= {"decision_A", "decision_B", "decision_C"}


def test_majority_calls_the_larger_class():
    y = np.r_[np.zeros(9, int), np.ones(3, int)]
    scores = cross_validate(Model("m", "baseline", fixed(np.zeros((12, 0))), Majority()), Design(y), Design(y).folds(3))
    assert (scores.calls() == 0).all()
    np.testing.assert_allclose(scores.probability, 0.5, atol=1e-6)


def _scores(logit: np.ndarray) -> Scores:
    return Scores(np.stack([np.zeros_like(logit), logit], axis=1)[None], np.arange(len(logit)))

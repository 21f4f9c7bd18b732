from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from cohort.synthetic_cohort import make_atlas
from scipy.special import expit

from cytosae.cohort import Design, barcodes, cell_matrix
from cytosae.cohort.classification.classifier import (
    ConceptClassifier,
    fit_classifier,
    open_classifier,
    save_classifier,
    with_prevalence,
)
from cytosae.cohort.classification.cohort_arrays import gather
from cytosae.cohort.classification.colour_following import colour_following
from cytosae.cohort.classification.linear import fit_l2
from cytosae.cohort.classification.novelty import neighbourhood
from cytosae.cohort.classification.predict import predict
from cytosae.cohort.classification.settings import Configuration
from cytosae.cohort.config import ClassificationConfig
from cytosae.common.configuration import from_plain, to_plain
from cytosae.common.errors import ArtifactError, InputError
from cytosae.common.records import write_json

CONFIG = ClassificationConfig(inner_folds=3, strengths=(0.1, 10.0))


@pytest.fixture(scope="module")
def cohort():
    atlas, colours = make_atlas(patients=30, cells=10, effect=3.0)
    return atlas, barcodes(atlas), colours


@pytest.fixture(scope="module")
def later():
    atlas, colours = make_atlas(patients=12, cells=10, effect=3.0, seed=5)
    return atlas, barcodes(atlas), colours


@pytest.fixture(scope="module")
def classifier(cohort) -> ConceptClassifier:
    atlas, made, colours = cohort
    return fit_classifier(made, atlas, configuration=Configuration("mean"), colours=colours, config=CONFIG)


def test_decision_is_linear_in_the_raw_barcode(classifier, cohort):
    X = np.asarray(cohort[1].layers["mean"], dtype=np.float64)
    by_hand = X[:, classifier.latents] @ classifier.coef[0] + classifier.intercept[0]
    np.testing.assert_allclose(classifier.decision(X), by_hand, atol=1e-12)
    assert classifier.n_latents == X.shape[1]
    assert (classifier.coef != 0).all()


def test_decision_is_the_sum_over_cells(classifier, cohort):
    atlas, made, _ = cohort
    cells = cell_matrix(atlas, "mean")[:, classifier.latents] @ classifier.coef[0]
    mine = (atlas.obs["patient"] == "P002").to_numpy()
    decision = classifier.decision(np.asarray(made["P002"].layers["mean"]))[0]
    assert cells[mine].mean() + classifier.intercept[0] == pytest.approx(decision, abs=1e-5)


@pytest.fixture(scope="module")
def unequal():
    """Twice as many patients with one diagnosis as with the other, not well told apart."""
    atlas, colours = make_atlas(patients=30, cells=10, classes=("AML", "AML", "APL"), effect=0.3, seed=2)
    return atlas, barcodes(atlas), colours


def test_probabilities_at_training_odds_are_those_of_the_fit(unequal):
    atlas, made, _ = unequal
    fitted = fit_classifier(made, atlas, configuration=Configuration("mean"), config=replace(CONFIG, odds="training"))
    X = np.asarray(made.layers["mean"], dtype=np.float64)
    y = (made.obs["diagnosis"] == "APL").to_numpy().astype(int)
    fit = fit_l2(X, y, strengths=CONFIG.strengths, inner_folds=3, min_share=CONFIG.min_share)
    np.testing.assert_allclose(fitted.probabilities(X)[:, 1], expit(fit.logits(X)[:, 1]), atol=1e-9)
    np.testing.assert_allclose(fitted.prevalence, [2 / 3, 1 / 3])
    equal = fit_classifier(made, atlas, configuration=Configuration("mean"), config=CONFIG)
    np.testing.assert_allclose(equal.decision(X) - fitted.decision(X), np.log(2), atol=1e-9)


@pytest.mark.parametrize("odds", ["equal", "training"])
def test_call_decision_and_probability_say_the_same(unequal, odds):
    atlas, made, _ = unequal
    fitted = fit_classifier(made, atlas, configuration=Configuration("mean"), config=replace(CONFIG, odds=odds))
    table = predict(fitted, made, atlas=atlas)
    called = (table["call"] == "APL").to_numpy()
    assert 0 < called.sum() < len(called)
    assert ((table["decision"] > 0).to_numpy() == called).all()
    assert ((table["probability_APL"] > 0.5).to_numpy() == called).all()
    np.testing.assert_allclose(table["probability_APL"], expit(table["decision"]))
    between = table["probability_APL"].between(1 / 3, 0.5)
    assert between.any()  # at one of the odds, such a patient was called before
    assert ("equally frequent" in fitted.population) is (odds == "equal")


def test_a_classifier_of_an_earlier_version_calls_as_it_did(unequal, tmp_path):
    """It decided at equal odds, and kept the training shares for its probabilities."""
    atlas, made, _ = unequal
    fitted = fit_classifier(made, atlas, configuration=Configuration("mean"), config=CONFIG)
    with pytest.MonkeyPatch.context() as earlier:
        earlier.setattr(
            "cytosae.cohort.classification.classifier.write_json",
            lambda path, facts: write_json(path, {name: value for name, value in facts.items() if name != "odds"}),
        )
        path = save_classifier(tmp_path / "classifier", replace(fitted, prevalence=np.array([2 / 3, 1 / 3])))
    again = open_classifier(path)
    X = np.asarray(made.layers["mean"])
    np.testing.assert_array_equal(again.decision(X), fitted.decision(X))
    np.testing.assert_array_equal(again.probabilities(X), fitted.probabilities(X))


def test_new_patients_are_told_apart(classifier, later):
    atlas, made, colours = later
    table = predict(classifier, made, atlas=atlas, colours=colours)
    assert list(table["patient"]) == list(made.obs_names)
    assert (table["call"].to_numpy() == made.obs["diagnosis"].to_numpy()).mean() > 0.8
    np.testing.assert_allclose(table[["probability_AML", "probability_APL"]].sum(axis=1), 1)


def test_patients_of_the_same_kind_are_mostly_not_outside(classifier, later):
    atlas, made, colours = later
    table = predict(classifier, made, atlas=atlas, colours=colours)
    assert table["outside"].mean() < 0.4
    assert (table["reason"][~table["outside"]] == "").all()


def test_another_stain_is_outside_and_named(classifier):
    atlas, colours = make_atlas(patients=6, cells=10, shift=90.0, seed=6)
    table = predict(classifier, barcodes(atlas), atlas=atlas, colours=colours)
    assert table["outside"].all()
    assert table["reason"].str.contains("colours unlike those of training").all()
    assert table["reason"].str.contains("cells unlike those of training").all()


def test_few_cells_are_outside(classifier):
    atlas, colours = make_atlas(patients=6, cells=4, seed=7)
    table = predict(classifier, barcodes(atlas), atlas=atlas, colours=colours)
    assert table["outside"].all()
    assert table["reason"].str.contains("4 cells, fewer than any training patient had .10.").all()


def test_without_colours_it_says_that_they_were_not_looked_at(classifier, later):
    atlas, made, _ = later
    assert predict(classifier, made, atlas=atlas)["reason"].str.contains("colours not looked at").all()


def test_saved_classifier_decides_alike(classifier, later, tmp_path):
    again = open_classifier(save_classifier(tmp_path / "classifier", classifier))
    X = np.asarray(later[1].layers["mean"])
    np.testing.assert_array_equal(again.decision(X), classifier.decision(X))
    np.testing.assert_array_equal(again.probabilities(X), classifier.probabilities(X))
    first = predict(again, later[1], atlas=later[0], colours=later[2])
    pd.testing.assert_frame_equal(first, predict(classifier, later[1], atlas=later[0], colours=later[2]))
    for name in ("classes", "kind", "tau", "sae", "backbone", "cell_types", "strength"):
        assert getattr(again, name) == getattr(classifier, name)


def test_damaged_classifier_is_refused(classifier, tmp_path):
    path = save_classifier(tmp_path / "classifier", classifier)
    (path / "classifier.json").write_text("{}")
    with pytest.raises(ArtifactError):
        open_classifier(path)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("sae", "e" * 64, "fitted on barcodes of the SAE aaaaaaaaaaaa, these are of eeeeeeeeeeee"),
        ("backbone", '{"name": "other"}', "another backbone"),
    ],
)
def test_another_sae_or_backbone_is_refused(classifier, later, key, value, message):
    atlas, made = later[0].copy(), later[1].copy()
    atlas.uns["provenance"][key] = made.uns["provenance"][key] = value
    with pytest.raises(InputError, match=message):
        predict(classifier, made, atlas=atlas)


def test_another_tau_is_refused_for_presence(cohort, later):
    atlas, made, _ = cohort
    fitted = fit_classifier(made, atlas, configuration=Configuration("presence"), config=CONFIG)
    other = later[1].copy()
    other.uns["barcode"]["tau"] = 0.5
    with pytest.raises(InputError, match=r"counts tokens above 0.2, these barcodes those above 0.5"):
        predict(fitted, other, atlas=later[0])


def test_published_scaling_is_refused(cohort):
    atlas, _, _ = cohort
    with pytest.raises(InputError, match="published scaling"):
        fit_classifier(barcodes(atlas, scaling="published"), atlas, configuration=Configuration("count"))


def test_colour_following_latents_have_no_weight(cohort):
    atlas, made, colours = cohort
    setting = Configuration("mean", "colour-following set aside")
    fitted = fit_classifier(made, atlas, configuration=setting, colours=colours, config=CONFIG)
    data = gather(made, atlas, colours, config=replace(CONFIG, kind="mean", kinds=("mean",)))
    following = colour_following(data.cells, np.arange(30))
    assert following.any()
    assert not following[fitted.latents].any()
    with pytest.raises(InputError, match="needs colours and types"):
        fit_classifier(made, atlas, configuration=setting, config=CONFIG)


def test_elastic_net_keeps_few_latents_and_decides_as_its_fit(cohort):
    atlas, made, _ = cohort
    setting = Configuration("mean", penalty="elastic net")
    fitted = fit_classifier(made, atlas, configuration=setting, config=CONFIG)
    X = np.asarray(made.layers["mean"], dtype=np.float64)
    dense = fit_classifier(made, atlas, configuration=Configuration("mean"), config=CONFIG)
    assert 0 < len(fitted.latents) < len(dense.latents)
    y = (made.obs["diagnosis"] == fitted.classes[1]).to_numpy()
    assert ((fitted.decision(X) > 0) == y).mean() > 0.8


def test_immature_cells_alone_make_the_barcode(cohort, later):
    atlas, made, colours = cohort
    setting = Configuration("mean", "immature cells")
    fitted = fit_classifier(made, atlas, configuration=setting, colours=colours, config=CONFIG)
    new = later[0].copy()
    spoiled = new.copy()
    lymphocytes = (new.obs["label"] == "lymphocyte").to_numpy()
    spoiled.X = spoiled.X.multiply(np.where(lymphocytes, 50.0, 1.0)[:, None]).tocsr().astype(np.float32)
    assert (fitted.cells_used(new) == ~lymphocytes).all()
    first = predict(fitted, barcodes(new), atlas=new, colours=later[2])["decision"]
    np.testing.assert_allclose(first, predict(fitted, barcodes(spoiled), atlas=spoiled, colours=later[2])["decision"])


def test_patient_without_the_counted_cells_stands_at_the_mean_and_is_outside(cohort, later):
    atlas, made, _ = cohort
    fitted = fit_classifier(made, atlas, configuration=Configuration("mean", "immature cells"), config=CONFIG)
    new = later[0].copy()
    labels = new.obs["label"].astype(str).to_numpy()
    labels[(new.obs["patient"] == "P001").to_numpy()] = "lymphocyte"
    new.obs["label"] = new.obs["cell_type"] = pd.Categorical(labels)
    row = predict(fitted, barcodes(new), atlas=new).set_index("patient").loc["P001"]
    assert row["outside"]
    assert "the decision says nothing" in row["reason"]
    assert row["decision"] == pytest.approx(fitted.means @ fitted.coef[0] + fitted.intercept[0])


def test_three_classes_and_another_prevalence():
    atlas, _ = make_atlas(patients=30, cells=8, classes=("A", "B", "C"), effect=3.0)
    made = barcodes(atlas)
    fitted = fit_classifier(made, atlas, configuration=Configuration("mean"), config=CONFIG)
    X = np.asarray(made.layers["mean"])
    assert fitted.decision(X).shape == fitted.probabilities(X).shape == (30, 3)
    moved = with_prevalence(fitted, {"A": 0.9, "B": 0.05, "C": 0.05})
    np.testing.assert_allclose(
        moved.probabilities(X) / fitted.probabilities(X) * [1, 18, 18],
        np.tile((moved.probabilities(X) / fitted.probabilities(X))[:, :1], 3),
    )
    assert (moved.probabilities(X).argmax(1) == moved.decision(X).argmax(1)).all()
    assert moved.population == "90 % have A, 5 % have B and 5 % have C"
    table = predict(fitted, made, atlas=atlas)
    assert list(table["call"]) == [fitted.classes[k] for k in fitted.decision(X).argmax(1)]
    with pytest.raises(InputError, match="a positive share of each"):
        with_prevalence(fitted, {"A": 1.0})


def test_single_class_and_single_patients_are_refused(cohort):
    atlas, made, _ = cohort
    with pytest.raises(InputError, match="all patients have the same diagnosis .AML."):
        fit_classifier(made, atlas, classes=("AML",), config=CONFIG)
    few = made[[*np.flatnonzero(made.obs["diagnosis"] == "AML"), 1]].copy()
    with pytest.raises(InputError, match="only 1 patient has the diagnosis 'APL'"):
        fit_classifier(few, atlas, config=CONFIG)


def test_width_of_the_barcode_is_checked(classifier):
    with pytest.raises(InputError, match="30 latents are needed"):
        classifier.decision(np.zeros((2, 7)))


def test_limit_of_a_neighbourhood_keeps_its_own_kind():
    rng = np.random.default_rng(0)
    known = neighbourhood(rng.normal(size=(80, 40)))
    assert (known.distances(rng.normal(size=(300, 40))) > known.limit).mean() < 0.08
    assert (known.distances(rng.normal(size=(50, 40)) + 2) > known.limit).all()


def test_the_limit_is_that_of_patients_of_other_groups():
    """Patients of a site are alike; a new one comes from a site of its own and is as far away as the sites are."""
    rng = np.random.default_rng(0)
    sites = np.repeat(np.arange(20), 4)
    points = rng.normal(size=(20, 10))[sites] + 0.1 * rng.normal(size=(80, 10))
    new = rng.normal(size=(200, 10)) + 0.1 * rng.normal(size=(200, 10))
    apart = neighbourhood(points, Design(np.zeros(80, int), sites))
    mixed = neighbourhood(points)
    assert apart.limit > mixed.limit
    assert (apart.distances(new) > apart.limit).mean() < 0.1 < (mixed.distances(new) > mixed.limit).mean()


def test_configuration_survives_plain_values():
    config = replace(CONFIG, positive="APL", kinds=("mean",), kind="mean")
    assert from_plain(ClassificationConfig, to_plain(config)) == config

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from cohort.synthetic_cohort import QUICK, make_atlas

from cytosae.cohort import PatientData, Validation, barcodes, classify, fit_classifier, open_validation, validate
from cytosae.cohort.classification.cohort_arrays import gather
from cytosae.cohort.classification.models import build_models
from cytosae.cohort.validation.joined import join
from cytosae.cohort.validation.later_scores import later_scores
from cytosae.cohort.validation.promised_kept import promised_and_kept, splits_of
from cytosae.common.errors import InputError

CONFIG = replace(QUICK, kinds=("presence",), repeats=1)


def patients(**how) -> PatientData:
    atlas, colours = make_atlas(**how)
    return PatientData(barcodes(atlas), atlas, colours)


@pytest.fixture(scope="module")
def training():
    return patients()


@pytest.fixture(scope="module")
def promised(training):
    return classify(training.barcodes, training.atlas, colours=training.colours, config=CONFIG)


@pytest.fixture(scope="module")
def classifier(training, promised):
    asked = {"configuration": promised.recommended, "colours": training.colours, "config": CONFIG}
    return fit_classifier(training.barcodes, training.atlas, **asked)


@pytest.fixture(scope="module")
def later():
    return patients(seed=7, patients=16, effect=1.0)


@pytest.fixture(scope="module")
def found(classifier, promised, training, later):
    return validate(classifier, promised, training, later, config=CONFIG)


def joined_with(training, later, classifier):
    return join(training, later, classes=classifier.classes, patient="patient", config=CONFIG)


def test_every_row_is_there_or_says_why_not(found, promised):
    assert {*found.rows["model"], *found.missing} == set(promised.table["model"])
    assert set(found.missing) & set(found.rows["model"]) == set()
    assert "no choice is made" in found.missing["shuffled diagnoses: the choice made anew"]
    for name in ("majority", "colour alone", "cell-type shares", "mean token", "ABMIL on tokens"):
        assert name in set(found.rows["model"])


def test_the_row_fitted_beside_the_others_is_the_saved_classifier(found, training, later, classifier):
    scores, _ = later_scores(joined_with(training, later, classifier), [found.recommended], CONFIG)
    np.testing.assert_allclose(scores[found.recommended].margins()[0, :, 1], found.predictions["decision"], atol=1e-9)


def test_the_diagnoses_of_later_patients_change_no_score(found, training, later, classifier):
    other = later.barcodes.copy()
    other.obs["diagnosis"] = pd.Categorical(np.where(np.arange(other.n_obs) < 13, "AML", "APL"))
    names = [str(name) for name in found.rows["model"] if "shuffled" not in str(name)]
    first, _ = later_scores(joined_with(training, later, classifier), names, CONFIG)
    second, _ = later_scores(joined_with(training, replace(later, barcodes=other), classifier), names, CONFIG)
    for name, scores in first.items():
        np.testing.assert_allclose(scores.decision, second[name].decision, atol=1e-12, err_msg=name)


def test_what_was_promised_is_what_the_table_says(found, promised):
    table = promised.table.set_index("model")
    for row in found.rows.to_dict("records"):
        assert row["promised_auroc"] == pytest.approx(table.at[row["model"], "auroc"])
    assert found.best["promised_sensitivity"] == pytest.approx(table.at[found.recommended, "sensitivity"])


def test_kept_is_what_the_predictions_say(found):
    from sklearn.metrics import brier_score_loss, f1_score, roc_auc_score

    own, best = found.predictions, found.best
    truth = own["diagnosis"] == found.classes[1]
    assert best["auroc"] == pytest.approx(roc_auc_score(truth, own["decision"]))
    assert best["macro_f1"] == pytest.approx(f1_score(truth, own["call"] == found.classes[1], average="macro"))
    assert best["brier"] == pytest.approx(brier_score_loss(truth, own[f"probability_{found.classes[1]}"]))
    assert best["auroc_low"] <= best["auroc"] <= best["auroc_high"]
    assert found.config["bootstrap"] >= 1000


def test_a_planted_shift_is_found_and_nothing_where_none_is(classifier, promised, training, found):
    moved = patients(seed=8, patients=24)
    planted = int(found.shifted["latent"].iloc[-1])  # of the few that the decision uses, the least
    counts = moved.atlas.layers["tokens_above"].tolil()
    counts[:, planted] = 3
    atlas = moved.atlas.copy()
    atlas.layers["tokens_above"] = counts.tocsr()
    changed = validate(
        classifier, promised, training, replace(moved, barcodes=barcodes(atlas), atlas=atlas), config=CONFIG
    )
    of_latent = changed.shifted.set_index("latent")
    assert of_latent.at[planted, "shifted"]
    assert of_latent.at[planted, "delta"] > 0.8
    assert of_latent.drop(index=planted)["shifted"].sum() <= 2
    assert found.shifted["shifted"].sum() <= 2
    assert found.shifted["influence"].is_monotonic_decreasing


def test_patients_of_no_use_are_set_aside_by_name(classifier, promised, training, later):
    other = later.barcodes.copy()
    diagnosis = other.obs["diagnosis"].astype(object)
    diagnosis.iloc[0], diagnosis.iloc[1] = None, "CML"
    other.obs["diagnosis"] = pd.Categorical(diagnosis)
    aside = {"P005": "trained on"}
    some = validate(classifier, promised, training, replace(later, barcodes=other), set_aside=aside, config=CONFIG)
    assert some.set_aside == {"P000": "no diagnosis", "P001": "CML is none of AML, APL", "P005": "trained on"}
    assert sum(some.patients.values()) == 13
    assert not set(some.set_aside) & set(some.predictions["patient"])


def test_one_diagnosis_alone_is_refused_in_a_sentence(classifier, promised, training, later):
    aside = {f"P{number:03d}": "APL" for number in range(1, 16, 2)}
    with pytest.raises(InputError, match="none of the 8 later patients that count has the diagnosis 'APL'"):
        validate(classifier, promised, training, later, set_aside=aside, config=CONFIG)


def test_a_validation_comes_back_from_disk_the_same(found, tmp_path):
    again = open_validation(found.save(tmp_path / "validation.json"))
    assert json.dumps(again.to_plain()) == json.dumps(found.to_plain())
    assert isinstance(again, Validation)


def test_a_cohort_split_by_time_and_colour_says_what_is_kept(training):
    data = gather(training.barcodes, training.atlas, training.colours, config=CONFIG)
    order = np.arange(len(data.patients), dtype=np.float64)[:, None]
    data = replace(data, confounders={**data.confounders, "order of imaging": order})
    models = [model for model in build_models(data, CONFIG) if model.name in ("concepts (presence)", "majority")]
    table = promised_and_kept(data, models, splits_of(data), CONFIG).set_index(["split", "model"])
    early = table.loc["trained on early, tested on late"]
    assert early.at["concepts (presence)", "kept"] > 0.8
    assert early.at["majority", "kept"] == early.at["majority", "promised"] == 0.5
    assert early.at["concepts (presence)", "patients"] == 12
    assert "trained on one half of the colour range" in table.index.get_level_values("split")

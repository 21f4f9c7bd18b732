"""What the views of patients say: sums, verdicts, doubts, references to cells."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from cytosae.common.errors import InputError
from cytosae.views import Ranking, view_of_disease
from cytosae.views.parts.marks import Marks
from cytosae.views.parts.page_parts import Number
from cytosae.views.patients.contrast_view import set_aside_words, view_of_contrast
from cytosae.views.patients.few_view import _facts
from cytosae.views.patients.models_view import doubts_of, price_of, rivals_of, view_of_models


def with_auroc(result, name, auroc, low=None, high=None):
    """The same classification with another AUROC of one row."""
    table = result.table.copy()
    row = table["model"] == name
    table.loc[row, ["auroc", "auroc_low", "auroc_high"]] = (auroc, low or auroc, high or auroc)
    return replace(result, table=table)


def with_all_rivals(result, auroc):
    for name in rivals_of(result):
        result = with_auroc(result, name, auroc)
    return result


def test_rows_that_matter_stand_beside_the_recommended_one_with_their_intervals(classified):
    view = view_of_models(classified)
    shown = [row.values[0] for row in view.key.rows]
    assert shown[0] == classified.recommended.name
    assert shown[1:4] == [classified.unlimited, "cell-type shares", "colour alone"]
    assert shown[-1].startswith("shuffled diagnoses")
    assert len(shown) < len(view.all.rows)
    for row in view.key.rows:
        assert isinstance(row.values[1], Number)
    best = classified.table.set_index("model").loc[classified.recommended.name]
    assert view.key.rows[0].values[1] == Number(best["auroc"], best["auroc_low"], best["auroc_high"])


def test_few_concepts_that_do_clearly_worse_than_all_are_said_to(classified):
    worse = classified.comparisons.copy()
    worse.loc[worse["model"] == classified.unlimited, ["difference", "low", "high"]] = [-0.1, -0.2, -0.01]
    assert doubts_of(replace(classified, comparisons=worse))[0].startswith(
        "The few concepts of the recommended decision"
    )
    assert price_of(replace(classified, comparisons=worse))["difference_interval"] == [-0.2, -0.01]
    worse.loc[worse["model"] == classified.unlimited, "high"] = 0.01
    assert not any("clearly worse" in doubt for doubt in doubts_of(replace(classified, comparisons=worse)))


def test_the_curve_says_how_many_concepts_it_takes_beside_other_features(cohort_view, classified):
    few = cohort_view.few
    enough = classified.few[classified.few["enough"]].iloc[0]
    assert few.words.startswith(f"{enough['concepts']} concept")
    assert few.curve.series[0].strong
    assert "neurons of the mean token" in few.words
    assert {line.name for line in few.curve.series} == set(classified.few["features"])
    assert [concept.latent for concept in few.concepts] == classified.few_concepts["latent"].tolist()
    words = {fact.words for fact in few.concepts[0].facts}
    assert words >= {"Weight, log odds per s.d.", "Chosen in folds", "Chosen in resamples of patients"}


def test_weights_of_several_diagnoses_say_for_which_they_speak():
    row = {"latent": 7, "family": (7, 9), "folds": 0.5, "resamples": 0.4, "weight_CBFB_x": 0.3, "weight_control": -0.1}
    facts = [(fact.words, fact.value) for fact in _facts(row)]
    assert facts[:2] == [("Weight for CBFB_x, log odds per s.d.", 0.3), ("Weight for control, log odds per s.d.", -0.1)]
    assert facts[-1] == ("Near-twins", "9")


def test_what_does_as_well_without_concepts_is_said_first(classified):
    name = classified.recommended.name
    good = with_all_rivals(with_auroc(classified, name, 0.9, 0.8, 0.95), 0.6)
    assert doubts_of(good) == ()
    assert view_of_models(good).verdict.startswith("Concepts of the cells tell APL from AML with AUROC 0.90 (0.80 to")
    (doubt,) = doubts_of(with_auroc(good, "colour alone", 0.81))
    assert doubt.startswith("No worse than the concepts, within their interval: the colour of the images alone (0.81).")
    assert doubts_of(with_auroc(good, "colour alone", 0.79)) == ()


def test_an_interval_that_reaches_chance_is_no_finding(classified):
    verdict = view_of_models(with_auroc(classified, classified.recommended.name, 0.6, 0.45, 0.75)).verdict
    assert verdict.startswith("Concepts of the cells are not shown to tell APL from AML: AUROC 0.60")


def test_a_contrast_without_a_finding_shows_examples_and_says_so(contrasted, shared):
    nothing = contrasted.assign(q=np.where(contrasted["q"].notna(), 1.0, np.nan))
    nothing.attrs = contrasted.attrs
    head = view_of_disease(nothing, shared, concepts=2).head
    assert head.verdict.endswith("what follows are examples, not findings.")


def test_doubtful_concepts_are_counted_before_anything_is_shown(disease_view, shared):
    assert disease_view.head.warnings[0].startswith(
        "1 of the 3 concepts shown follow the colour of the image or change"
    )
    assert disease_view.head.warnings[1:] == shared.evidence.doubts
    assert [concept.mark is not None for concept in disease_view.concepts].count(True) == 1


@pytest.mark.parametrize("table", ["sum", "cells"])
def test_parts_of_the_decision_sum_to_it(table, patient_view, explanation):
    shown = getattr(patient_view, table)
    *parts, decision = shown.rows
    for place, column in enumerate(shown.columns):
        if column.words in ("Contribution", "Difference"):
            assert sum(row.values[place] for row in parts) == pytest.approx(explanation.value, abs=1e-6)
            assert decision.values[place] == explanation.value
    assert len(patient_view.cells.rows) == explanation.n_cells + 2
    assert {"Contribution", "Difference"} <= {column.words for column in shown.columns}


def test_maps_of_a_cell_are_its_contributions(patient_view, explanation):
    first = patient_view.supporting[0]
    offset = explanation.typical_token.sum()
    np.testing.assert_allclose(first.map.values, explanation.cell_map(0).ravel() - offset, rtol=1e-3)
    patches = sum(first.map.values)
    assert first.value == pytest.approx(patches + explanation.cell_tokens(0)[0] - offset, rel=1e-3)


def test_reference_cells_are_those_of_the_atlas_with_their_maps(cohort_view, shared):
    opened = shared.dataset
    concept = cohort_view.concepts[0]
    rows = opened.atlas.uns["reference_cells"]["rows"][concept.latent]
    assert [cell.cell for cell in concept.references] == [opened.atlas.obs_names[row] for row in rows if row >= 0]
    planted = opened.store.activations[rows[0], 1:, concept.latent]
    np.testing.assert_allclose(concept.references[0].map.values, np.where(planted > 0.01, planted, 0), atol=2e-3)


def test_unknown_cells_are_refused(shared, contrasted):
    cells = pd.DataFrame({"cell_id": ["nowhere"], "patient": ["P00"], "score": [1.0], "rank": [1], "leading": ["5"]})
    with pytest.raises(InputError, match="nowhere is not in small"):
        view_of_disease(contrasted, shared, Ranking(cells))


def test_concepts_of_the_background_are_set_aside_unless_they_are_asked_for(contrasted, shared):
    plain = view_of_contrast(contrasted, shared.dataset, Marks(), 3)
    first = plain.volcano.ringed[0]
    beside = np.zeros(shared.dataset.atlas.n_vars, bool)
    beside[first] = True
    without = view_of_contrast(contrasted, shared.dataset, Marks(background=beside), 3)
    assert first not in without.volcano.ringed
    assert without.shown == plain.shown
    named = Marks(background=beside, with_background=True)
    assert view_of_contrast(contrasted, shared.dataset, named, 3).volcano.ringed == plain.volcano.ringed
    assert named.label(first) == "of the background"
    differs = contrasted.assign(q=np.where(contrasted["q"].notna(), 0.01, np.nan))
    said = set_aside_words(view_of_contrast(differs, shared.dataset, Marks(background=beside), 3))
    assert said.startswith("Of those that differ 1 more concept lives in the background")

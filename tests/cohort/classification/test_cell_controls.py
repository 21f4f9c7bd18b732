"""Rows that see no cell: in the same folds, and able to say no."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cohort.synthetic_cohort import QUICK, make_atlas

from cytosae.cohort import Controls, barcodes, classify
from cytosae.common.errors import InputError
from cytosae.views.patients.models_view import doubts_of, recommended_facts, view_of_models

CONFIG = replace(QUICK, shuffles=0, slow_repeats=1, kinds=("presence", "mean"))


@pytest.fixture(scope="module")
def cohort():
    atlas, _ = make_atlas(patients=24, cells=10, effect=3.0)
    return barcodes(atlas), barcodes(make_atlas(patients=24, cells=10, effect=0.0, seed=9)[0])


def classified(made, painted):
    """With what knows nothing in place of the cell alone and the tokens beside it."""
    named = {"painted out": painted, "alone": painted, "background": painted}
    return classify(made, controls=Controls(of_cells=named), config=CONFIG)


def test_each_way_to_look_at_cells_has_its_rows(cohort):
    table = classified(*cohort).table.set_index("model")
    names = [
        *("cell painted out (presence)", "cell painted out (mean)", "cell painted out, mean token"),
        *("cell alone (presence)", "cell alone, mean token"),
        *("background tokens only (presence)", "background tokens only, mean token"),
    ]
    assert set(names) <= set(table.index)
    assert (table.loc[names, "family"] == "control").all()
    assert (table.loc[names, "repeats"] == CONFIG.repeats).all()


def test_a_decision_that_needs_no_cell_is_refused_in_the_first_sentence(cohort):
    made, _ = cohort
    result = classified(made, made)  # the images say as much without their cells
    view, facts = view_of_models(result), recommended_facts(result, 30)
    assert view.verdict.startswith("The decision may not be about the cells: with the cell painted out of every image")
    assert facts["may_not_be_about_cells"] is True
    assert facts["background_auroc"] == pytest.approx(facts["auroc"], abs=1e-12)  # of the barcode recommended
    assert any("cell painted out" in doubt for doubt in doubts_of(result))


def test_a_decision_about_cells_is_not_refused(cohort):
    result = classified(*cohort)
    facts = recommended_facts(result, 30)
    assert view_of_models(result).verdict.startswith("Concepts of the cells tell")
    assert facts["may_not_be_about_cells"] is False
    assert facts["background_auroc"] < facts["auroc_interval"][0]


def test_tokens_beside_the_cell_are_no_reason_to_refuse(cohort):
    """They know the cell by attention: that they do as well says nothing against it."""
    made, nothing = cohort
    named = {"painted out": nothing, "background": made}
    result = classify(made, controls=Controls(of_cells=named), config=CONFIG)
    assert recommended_facts(result, 30)["may_not_be_about_cells"] is False
    assert doubts_of(result) == ()


def test_without_the_control_nothing_is_claimed(cohort):
    facts = recommended_facts(classify(cohort[0], config=CONFIG), 30)
    assert (facts["background_auroc"], facts["may_not_be_about_cells"]) == (None, None)


def test_a_patient_without_changed_cells_is_named(cohort):
    made, painted = cohort
    with pytest.raises(InputError, match="of cells painted out lack the patient 'P000'"):
        classified(made, painted[1:])

"""The reporting checklists: what is known is answered from the numbers, the rest is left to the authors by name."""

from __future__ import annotations

import pytest

from cytosae.views.parts.number_words import count
from cytosae.views.parts.page_parts import measured, say
from cytosae.views.reporting import AUTHORS, reporting_table


def answered(table):
    return {row.values[0]: row.values[2] for row in table.rows}


def test_the_study_answers_what_it_can_and_leaves_the_rest(study_view):
    answers = answered(study_view.reporting)
    for dataset in study_view.datasets:
        assert f"{dataset.name}: {count(dataset.cells, 'cell')}" in answers["Sources of the data"]
    assert answers["How images were acquired: stain, microscope, camera"] == AUTHORS
    assert answers["Ethics approval, registration, funding, conflicts, involvement of patients"] == AUTHORS
    assert "Calibration" not in answers


def test_the_decision_is_reported_with_its_interval_beside_what_else_could_explain_it(cohort_view, classified):
    answers = answered(cohort_view.reporting)
    best = classified.table.set_index("model").loc[classified.recommended.name].to_dict()
    assert say(measured(best, "auroc")) in answers["Performance, with its uncertainty"]
    controls = answers["Robustness: what else could explain the result"]
    assert "cell-type shares" in controls
    assert "shuffled diagnoses" in controls
    own = classified.predictions[classified.predictions["model"] == classified.recommended.name]
    assert answers["Analysis of failures"].startswith(f"{(own['call'] != own['diagnosis']).sum()} patient")
    assert answers["Fairness: performance in groups of patients"] == AUTHORS


def test_an_answer_that_nothing_asks_for_is_a_mistake():
    with pytest.raises(KeyError, match="calibration"):
        reporting_table("study", {"calibration": "x"})

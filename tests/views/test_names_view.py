"""The page of names: accepted ones first, then those with the best evidence, each beside the agreement of people."""

from __future__ import annotations

from views.view_fixtures import EVIL

from cytosae.report.pages import render
from cytosae.report.pictures import Pictures


def test_accepted_names_come_first_and_evidence_stands_beside(names_view):
    rows = [row.values for row in names_view.concepts.rows]
    assert [row[:3] for row in rows] == [
        ("7", EVIL, "accepted"),
        ("3", "Cytoplasm of monocyte: vacuoles", "a draft"),
        ("9", "Cells: lymphocyte", "a draft"),
    ]
    assert rows[1][3] == "vacuoles"
    assert (rows[1][4].low, rows[1][5], rows[1][6]) == (0.9, 0.8, 0.94)
    assert rows[2][3:7] == ("", rows[2][4], None, None)
    assert [row[-1] for row in rows] == ["", "Follows vacuoles.", ""]


def test_the_sentence_counts_what_reaches_the_agreement_of_people(names_view):
    said = names_view.head.verdict
    assert said.startswith("1 of 3 names are accepted by people")
    assert "1 concepts go with a human attribute with an AUC of 0.80 or more; 1 reach" in said


def test_families_have_names_and_members(names_view):
    assert [row.values for row in names_view.families.rows] == [("vacuoles", 2, "3, 7")]


def test_the_page_is_written(names_view):
    page = render(names_view, Pictures([]))
    assert "Cytoplasm of monocyte: vacuoles" in page
    assert EVIL not in page  # escaped

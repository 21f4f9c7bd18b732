"""What drawn pairs tell of a concept, in words that a hematologist reads, with what random latents do beside it."""

from __future__ import annotations

import pytest

from cytosae.views.datasets.pairs_view import sentence

ROW = {
    "verdict": "one",
    "attribute": "nucleus_lobes",
    "specificity": 0.9,
    "cell_attribute": "nucleus_lobes",
    "cell_specificity": 0.95,
    "second": "blur",
    "second_share": 0.05,
    "effect": 1.5,
    "random_one": 0.02,
    "random_of_cell": 0.0,
}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {},
            "Follows the number of lobes of the nucleus and little else (drawn pairs; so do 2.0\u202f% of random "
            "latents).",
        ),
        (
            {"effect": -1.0, "random_one": 0.0},
            "Follows the number of lobes of the nucleus and little else, less with more of it (drawn pairs; no random "
            "latent does).",
        ),
        (
            {"verdict": "of_cell", "attribute": "blur", "specificity": 0.6},
            "Of what a cell can show follows the number of lobes of the nucleus and little else; the focus of the "
            "image moves it, too (60.0\u202f% of its response) (drawn pairs; no random latent does).",
        ),
        (
            {"verdict": "mainly", "specificity": 0.6, "second_share": 0.3},
            "Follows mainly the number of lobes of the nucleus (60.0\u202f% of its response; next, the focus of the "
            "image (30.0\u202f%); drawn pairs).",
        ),
        (
            {"verdict": "several", "specificity": 0.4},
            "Moved by several things: most by the number of lobes of the nucleus (40.0\u202f% of its response) (drawn "
            "pairs).",
        ),
        ({"verdict": "none"}, "No attribute that was changed moves it consistently (drawn pairs)."),
    ],
)
def test_verdicts_become_sentences(changes, words):
    assert sentence(ROW | changes) == words


def test_the_page_stands_beside_random_weights_and_lists_what_follows_the_cell(pairs_view):
    rows = {row.values[0]: row.values for row in pairs_view.attributes.rows}
    assert rows["vacuoles"] == ("vacuoles", "cell", 1, 0, 1, 1, 0, 0)
    assert rows["the number of lobes of the nucleus"][-2:] == (1, 1)
    assert [row.values[0] for row in pairs_view.concepts.rows] == ["0", "1"]
    assert "1 follow one attribute" in pairs_view.head.verdict

"""A search means what it says, and finds exactly the cells that a look at the matrix finds."""

from __future__ import annotations

import numpy as np
import pytest

from cytosae.atlas.finding.cell_search import Clause, parse_conditions, rank_cells, search_cells
from cytosae.common.errors import UsageError

MATRIX = np.array([[0.5, 0, 1, 0], [1.0, 2, 0, 0], [0, 4, 2, 0], [0.2, 1, 1, 0.1], [0, 0, 0, 3]], np.float32)


def column(latent):
    rows = np.flatnonzero(MATRIX[:, latent])
    return rows, MATRIX[rows, latent]


@pytest.mark.parametrize(
    ("text", "clauses"),
    [
        ("12", [Clause((12,))]),
        ("has 12 and 40, not 7", [Clause((12,)), Clause((40,)), Clause((7,), negated=True)]),
        ("12 or 13 without 7 or 8", [Clause((12, 13)), Clause((7, 8), negated=True)]),
        ("  HAS 1,2 ", [Clause((1,)), Clause((2,))]),
        ("with 3 and not 4 and 5", [Clause((3,)), Clause((4,), negated=True), Clause((5,))]),
    ],
)
def test_words_are_read(text, clauses):
    assert list(parse_conditions(text)) == clauses


@pytest.mark.parametrize(
    "text",
    ["", "not 7", "has", "12 40", "12 or", "or 12", "12 or and 3", "has blasts", "12;40", "5 not", "1," * 300, "-3"],
)
def test_what_is_not_understood_is_said(text):
    with pytest.raises(UsageError):
        parse_conditions(text)


@pytest.mark.parametrize("text", ["0", "0 and 1", "1 or 2", "1 not 0", "0 or 3, not 2", "2 and 1 and 0 not 3"])
def test_the_cells_found_are_those_of_the_matrix_in_the_order_of_their_scores(text):
    clauses = parse_conditions(text)
    shares = MATRIX / MATRIX.max(axis=0)
    meets, score = np.ones(5, bool), np.zeros(5)
    for clause in clauses:
        best = shares[:, list(clause.latents)].max(axis=1)
        meets &= (best == 0) if clause.negated else (best > 0)
        score += 0 if clause.negated else best
    wanted = sorted(np.flatnonzero(meets), key=lambda row: (-score[row], row))
    hits, total = search_cells(clauses, column, cells=5, latents=4)
    assert [hit.row for hit in hits] == wanted
    assert total == len(wanted)
    for hit in hits:
        for latent, value, share in hit.because:
            assert value == MATRIX[hit.row, latent]
            assert share == pytest.approx(shares[hit.row, latent])


def test_a_limit_gives_the_best_and_counts_all_and_an_unknown_latent_is_said():
    hits, total = search_cells(parse_conditions("1"), column, cells=5, latents=4, limit=1)
    assert ([hit.row for hit in hits], total) == ([2], 3)
    with pytest.raises(UsageError, match="no latent 4"):
        search_cells(parse_conditions("4"), column, cells=5, latents=4)


def test_cells_are_ranked_by_the_weighted_mean_of_their_shares():
    weights = {0: 3.1, 2: 1.3, 3: 2.2}
    shares = MATRIX / MATRIX.max(axis=0)
    score = sum(weight * shares[:, latent] for latent, weight in weights.items()) / 6.6
    wanted = sorted(np.flatnonzero(score), key=lambda row: (-score[row], row))
    hits, total = rank_cells(weights, column, cells=5)
    assert [hit.row for hit in hits] == wanted
    assert total == len(wanted)
    for hit in hits:
        assert hit.score == pytest.approx(score[hit.row])
        assert {latent: value for latent, value, _ in hit.because} == {
            latent: MATRIX[hit.row, latent] for latent in weights if MATRIX[hit.row, latent]
        }
        added = [weights[latent] * share for latent, _, share in hit.because]
        assert added == sorted(added, reverse=True)
    best = wanted[0]
    others, less = rank_cells(weights, column, cells=5, but=best, limit=1)
    assert ([hit.row for hit in others], less) == ([wanted[1]], total - 1)

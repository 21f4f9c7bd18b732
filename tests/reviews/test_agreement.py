"""Formulae of agreement, each on an answer that is known from the literature or by hand."""

from __future__ import annotations

import numpy as np
import pytest

from cytosae.common.errors import UsageError
from cytosae.reviews import find_term, vocabulary
from cytosae.reviews.agreement import (
    bootstrap,
    difference,
    intraclass_correlation,
    jaccard,
    krippendorff_alpha,
    mean_jaccard,
    percent_agreement,
)
from cytosae.reviews.vocabulary import check_terms, families, families_of

N = float("nan")
KRIPPENDORFF = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, N, N, N],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, N, 3],
        [N, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, N],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, N],
    ]
)
"""Krippendorff 2011, section C: four observers, twelve units."""
SHROUT_FLEISS = np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], float).T
"""Shrout & Fleiss 1979, table 2: four judges, six targets."""


def test_alpha_is_that_of_krippendorffs_own_example():
    assert krippendorff_alpha(KRIPPENDORFF, "nominal") == pytest.approx(0.743, abs=5e-4)
    assert krippendorff_alpha(KRIPPENDORFF, "ordinal") == pytest.approx(0.815, abs=5e-4)


def test_alpha_is_unknown_where_nothing_varies():
    assert np.isnan(krippendorff_alpha(np.ones((3, 5))))


def test_icc_is_that_of_shrout_and_fleiss():
    assert intraclass_correlation(SHROUT_FLEISS) == pytest.approx(0.29, abs=5e-3)


def test_percent_agreement_counts_pairs():
    # panel 1: 1 of 3 pairs equal; panel 2: the one pair that there is
    assert percent_agreement(np.array([[0, 1], [0, N], [2, 1]])) == pytest.approx(2 / 4)


def test_jaccard_by_hand():
    a, b, c = frozenset("xy"), frozenset("yz"), frozenset()
    assert jaccard(a, b) == pytest.approx(1 / 3)
    assert np.isnan(jaccard(c, c))
    # panel 1: pairs (a, b) 1/3, (a, c) 0, (b, c) 0; panel 2: 1; panel 3 says nothing
    assert mean_jaccard([[a, b, c], [a, a], [c, c]]) == pytest.approx((1 / 9 + 1) / 2)


def test_the_interval_of_a_mean_is_that_of_its_standard_error():
    values = np.random.default_rng(1).normal(size=400)
    found = bootstrap(lambda i: float(values[i].mean()), 400, np.random.default_rng(2), 2000)
    assert found.high - found.low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.06)
    apart = difference(values + 1, values, np.random.default_rng(3), 2000)
    assert apart.value == pytest.approx(1)
    assert apart.high - apart.low == pytest.approx(2 * 1.96 * values.std() * np.sqrt(2) / 20, rel=0.06)


def test_the_vocabulary_is_whole():
    terms = vocabulary()
    assert 18 <= len(terms) <= 40
    assert {term.family for term in terms.values()} == set(families())
    assert all(set(term.excludes) <= set(terms) for term in terms.values())
    names = [name.casefold() for term in terms.values() for name in {term.words, *term.synonyms}]
    assert len(names) == len(set(names))


def test_terms_are_found_by_synonym_and_exclude_each_other():
    assert find_term("Faggot cell ").key == "auer_rods"
    assert families_of(["auer_rods", "vacuoles"]) == {"granules", "cytoplasm"}
    assert check_terms(["vacuoles", "auer_rods"]) == ("vacuoles", "auer_rods")
    with pytest.raises(UsageError, match="exclude each other"):
        check_terms(["large_cell", "small_cell"])
    with pytest.raises(UsageError, match="no term 'nonsense'"):
        check_terms(["nonsense"])

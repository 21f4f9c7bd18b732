"""Associations of latents with attributes, against scikit-learn, scipy and counting by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from scipy.stats import mannwhitneyu
from sklearn.metrics import roc_auc_score

from cytosae.atlas.meaning.attribute_tests import associate, best_values, rank_tests
from cytosae.common.errors import UsageError


@pytest.fixture
def cells():
    """120 cells; latent 0 goes with vacuoles, 1 with the type alone, 2 with nothing, 3 is dead."""
    rng = np.random.default_rng(0)
    vacuole = np.where(rng.random(120) < 0.3, "yes", "no").astype(object)
    types = np.where(np.arange(120) % 2 == 0, "monocyte", "lymphocyte")
    granules = np.where(rng.random(120) < np.where(types == "monocyte", 0.9, 0.1), "yes", "no").astype(object)
    values = rng.random((120, 4)).round(1) * (rng.random((120, 4)) < 0.6)
    values[:, 0] += vacuole == "yes"
    values[:, 1] += types == "monocyte"
    values[:, 3] = 0
    facts = pd.DataFrame({"vacuole": vacuole, "granules": granules})
    facts.loc[:9, "vacuole"] = None
    return values, facts, pd.Series(types)


def test_auc_and_p_are_those_of_other_programs(cells):
    values, facts, _ = cells
    has = (facts["granules"] == "yes").to_numpy()
    auc, p = rank_tests(sp.csc_array(values[:, :3]), has[:, None])
    for j in range(3):
        assert auc[j, 0] == pytest.approx(roc_auc_score(has, values[:, j]))
        expected = mannwhitneyu(values[has, j], values[~has, j], use_continuity=False, method="asymptotic").pvalue
        assert p[j, 0] == pytest.approx(expected)


def test_what_is_planted_is_found_and_nothing_else(cells):
    values, facts, types = cells
    table = associate(sp.csr_array(values), facts, types)
    assert set(table["latent"]) == {0, 1, 2}
    best = best_values(table)
    assert best.loc[0, ["attribute", "value"]].tolist() == ["vacuole", "yes"]
    assert best.loc[1, ["attribute", "value"]].tolist() == ["granules", "yes"]
    assert 2 not in best.index
    row = table[(table["latent"] == 0) & (table["value"] == "yes") & (table["attribute"] == "vacuole")].iloc[0]
    assert row["of"] == 110  # ten are not annotated
    assert row["auc_low"] < row["auc"] <= row["auc_high"] <= 1


def test_what_only_tells_the_type_tells_nothing_within_types(cells):
    values, facts, types = cells
    table = associate(sp.csr_array(values), facts, types).set_index(["latent", "attribute", "value"])
    assert table.loc[(1, "granules", "yes"), "auc"] > 0.8
    assert abs(table.loc[(1, "granules", "yes"), "auc_within"] - 0.5) < 0.12
    assert table.loc[(0, "vacuole", "yes"), "auc_within"] > 0.95
    has = (facts["granules"] == "yes").to_numpy()
    pairs = won = 0.0
    for kind in set(types):
        a, b = (values[(types == kind).to_numpy() & group, 2] for group in (has, ~has))
        pairs += len(a) * len(b)
        won += sum((x > y) + (x == y) / 2 for x in a for y in b)
    assert table.loc[(2, "granules", "yes"), "auc_within"] == pytest.approx(won / pairs)
    assert table.loc[(2, "granules", "yes"), "pairs_within"] == pairs


def test_the_interval_is_hanleys_and_mcneils():
    values = np.r_[np.full(16, 2.0), np.full(4, 0.0), np.full(20, 1.0)][:, None]
    facts = pd.DataFrame({"a": ["x"] * 20 + ["y"] * 20})
    row = associate(sp.csr_array(values), facts).query("value == 'x'").iloc[0]
    # A = 0.8: Q1 = 2/3, Q2 = 1.28/1.8; s² = (0.16 + 19 (Q1 - 0.64) + 19 (Q2 - 0.64)) / 400
    s = np.sqrt((0.16 + 19 * (2 / 3 - 0.64) + 19 * (1.28 / 1.8 - 0.64)) / 400)
    assert (row["auc"], row["auc_low"]) == (pytest.approx(0.8), pytest.approx(0.8 - 1.96 * s))


def test_noise_is_almost_never_called():
    rng = np.random.default_rng(1)
    facts = pd.DataFrame({f"a{i}": rng.choice(["x", "y", "z"], 200) for i in range(5)})
    assert len(best_values(associate(sp.csr_array(rng.random((200, 100))), facts))) <= 2


def test_attributes_without_enough_cells_are_refused():
    facts = pd.DataFrame({"a": ["x"] * 5 + ["y"] * 50})
    with pytest.raises(UsageError, match="no value of a has 10 cells"):
        associate(sp.csr_array(np.ones((55, 1))), facts)

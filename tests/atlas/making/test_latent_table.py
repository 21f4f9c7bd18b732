"""A latent statistic is one registration: the atlas and the pages have it then."""

from __future__ import annotations

import numpy as np
import pytest

from cytosae.atlas.making.latent_table import STATISTICS, LatentStatistic, latent_table
from cytosae.atlas.making.statistics import LatentStatistics
from cytosae.views.concepts.concept_view import atlas_facts


@pytest.fixture
def counts() -> LatentStatistics:
    import scipy.sparse as sp

    made = LatentStatistics(3, (2, 2), 2)
    tokens = sp.csr_array(np.random.default_rng(0).random((20, 3)).astype(np.float32))
    made.update(tokens, np.arange(4), np.array([0, 1, 0, 1]))
    return made


def test_a_registered_statistic_is_a_column_and_a_fact_of_a_page(counts, monkeypatch):
    twice = LatentStatistic(lambda known: 2 * known.counts.cells_active, "Twice the cells", "count", first=True)
    monkeypatch.setitem(STATISTICS, "twice", twice)
    table = latent_table(counts, np.array([0, 1, 0, 1]), ("a", "b"))
    assert table["twice"].tolist() == [8, 8, 8]
    assert list(table) == list(STATISTICS)

    class Dataset:
        var = table.assign(lives_in="nucleus", nucleus_share=0.5, cytoplasm_share=0.5, elsewhere_share=0.0)

        def control(self, latent: str, column: str):
            return 0.25 if (latent, column) == ("1", "class_selectivity") else None

        def row(self, latent: str):
            return self.var.loc[latent]

    few, more = atlas_facts(Dataset(), "1")  # type: ignore[arg-type]
    assert [fact.value for fact in few if fact.words == "Twice the cells"] == [8]
    assert [fact.control for fact in more if fact.words == "Class selectivity"] == [0.25]

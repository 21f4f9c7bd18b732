from __future__ import annotations

import anndata as ad
import pytest
from cohort.small_chain import TAU, make_small_chain

from cytosae.atlas import build_atlas


@pytest.fixture(scope="session")
def small_chain():
    """SAE, token store and cell table of the small cohort (see small_chain.py); leave them as they are."""
    return make_small_chain()


@pytest.fixture(scope="session")
def _small_atlas(small_chain) -> ad.AnnData:
    return build_atlas(*small_chain, tau=TAU)


@pytest.fixture
def small_atlas(_small_atlas) -> ad.AnnData:
    """Atlas of the small cohort, a copy for each test."""
    return _small_atlas.copy()

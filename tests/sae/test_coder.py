"""`SparseCoder` is an estimator like any of scikit-learn's, and what it gives is what its SAE gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

import cytosae
from cytosae.sae import SparseCoder

QUICK = SparseCoder(k=4, n_latents=32, steps=5, random_state=0)


@parametrize_with_checks([QUICK])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_it_keeps_the_contract_of_estimators(estimator: Any, check: Any) -> None:
    check(estimator)


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    """Sums of two of twelve directions in ten dimensions, with a little noise."""
    rng = np.random.default_rng(3)
    directions = rng.normal(size=(12, 10))
    chosen = np.stack([rng.permutation(12)[:2] for _ in range(600)])
    return (directions[chosen].sum(1) + 0.01 * rng.normal(size=(600, 10))).astype(np.float32)


@pytest.fixture(scope="module")
def fitted(rows: np.ndarray) -> SparseCoder:
    return SparseCoder(k=3, n_latents=48, steps=400, batch_size=128, learning_rate=5e-3, random_state=1).fit(rows)


def test_codes_are_sparse_and_those_of_its_sae(fitted: SparseCoder, rows: np.ndarray) -> None:
    codes = fitted.transform(rows)
    assert sp.issparse(codes)
    assert codes.format == "csr"
    assert np.diff(codes.indptr).max() <= 3
    with torch.no_grad():
        expected = fitted.sae_.encode(torch.from_numpy(rows)).numpy()
    np.testing.assert_allclose(codes.toarray(), expected, rtol=1e-5, atol=1e-6)


def test_training_explains_most_of_the_variance_and_more_than_none(fitted: SparseCoder, rows: np.ndarray) -> None:
    def left(coder: SparseCoder) -> float:
        return float(
            ((coder.inverse_transform(coder.transform(rows)) - rows) ** 2).sum() / rows.var(0).sum() / len(rows)
        )

    untrained = clone(fitted).set_params(steps=1).fit(rows)
    assert left(fitted) < 0.2 < left(untrained)


def test_dense_and_sparse_codes_are_decoded_alike(fitted: SparseCoder, rows: np.ndarray) -> None:
    codes = fitted.transform(rows)
    np.testing.assert_array_equal(fitted.inverse_transform(codes), fitted.inverse_transform(codes.toarray()))


def test_a_seed_decides_everything(rows: np.ndarray) -> None:
    first, again, other = (clone(QUICK).set_params(random_state=seed).fit(rows) for seed in (7, 7, 8))
    assert first.sae_.fingerprint == again.sae_.fingerprint != other.sae_.fingerprint


def test_it_works_in_a_pipeline(rows: np.ndarray) -> None:
    y = rows[:, 0] > 0
    pipeline = make_pipeline(cytosae.SparseCoder(k=8, n_latents=64, steps=50, random_state=0), LogisticRegression())
    assert pipeline.fit(rows[:400], y[:400]).score(rows[400:], y[400:]) > 0.8
    assert pipeline[0].get_feature_names_out()[-1] == "sparsecoder63"

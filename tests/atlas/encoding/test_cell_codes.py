"""Activations of single cells are those of the dense encoding, and held as far as the budget goes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cytosae.atlas.encoding.cell_codes import CellCodes, column_of
from cytosae.atlas.encoding.token_activations import encode_cells, encode_variants
from cytosae.sae import PositionMean, SparseAutoencoder, TopK


@pytest.fixture
def reads(chain, monkeypatch):
    _, store, _ = chain
    asked, original = [], store.read
    monkeypatch.setattr(store, "read", lambda a, b: asked.append(a) or original(a, b))
    return asked


def test_codes_are_the_dense_encoding_in_the_order_asked_for(chain):
    sae, store, _ = chain
    rows = [*range(22, 4, -1), 3]
    for budget in (0, 3000, 1 << 20):
        codes = CellCodes(store, sae, budget=budget)
        for _ in range(2):
            found = list(codes.each(rows))
            assert [row for row, _ in found] == rows
            for row, own in found:
                np.testing.assert_allclose(own.toarray(), sae.encode(store.tokens[row]).numpy(), rtol=1e-6)


def test_a_cell_that_is_held_is_not_read_again(chain, reads):
    sae, store, _ = chain
    codes = CellCodes(store, sae, budget=1 << 20)
    codes.of(4)
    list(codes.each([4, 5]))
    codes.of(5)
    assert reads == [4, 5]


def test_cells_asked_for_long_ago_go_first_and_the_budget_is_kept(chain, reads):
    sae, store, _ = chain
    one = CellCodes(store, sae, budget=1 << 20)
    one.of(0)
    codes = CellCodes(store, sae, budget=int(3.5 * one.size))
    reads.clear()
    for row in (0, 1, 0, 2, 0, 3, 4, 0):
        codes.of(row)
        assert codes.size <= 3.5 * one.size
    assert reads == [0, 1, 2, 3, 4]
    codes.of(1)
    assert reads[-1] == 1


def test_tokens_that_do_not_count_have_no_codes(chain):
    sae, store, _ = chain
    store.counted = np.random.default_rng(0).random((len(store), 17)) < 0.5
    codes = CellCodes(store, sae, budget=1 << 20)
    for row, own in codes.each([8, 9]):
        dense = sae.encode(store.tokens[row]).numpy() * store.counted[row, :, None]
        np.testing.assert_allclose(own.toarray(), dense, rtol=1e-6)


def test_a_column_is_what_scipy_chooses(chain):
    sae, store, _ = chain
    own = CellCodes(store, sae).of(11)
    for latent in range(own.shape[1]):
        np.testing.assert_array_equal(column_of(own, latent), own[:, [latent]].toarray().ravel())


@pytest.mark.parametrize("counted", [None, np.array([False, True, True, False, True])])
def test_variants_of_a_cell_have_the_codes_that_each_has_by_itself(counted):
    """One is the cell as it is, one has a token changed, one all of them."""
    sae = SparseAutoencoder(6, 12, TopK(k=3), PositionMean(), seed=1)
    many = torch.randn(9, 5, 6, generator=torch.Generator().manual_seed(2))
    sae.normaliser.fit(many.flatten(0, 1), torch.arange(5).repeat(9))
    cell, moved = many[0], many[0].clone()
    moved[2] += 1
    variants = torch.stack([cell, cell, moved, 2 * cell])
    found = encode_variants(sae, variants, counted)
    expected = encode_cells(sae, variants, None if counted is None else np.tile(counted, (4, 1)))
    assert expected.nnz
    np.testing.assert_allclose(found.todense(), expected.todense(), atol=1e-6)

"""Each figure of `evaluate` against a known answer."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import pytest
import torch
from torch import Generator, Tensor

from cytosae.common.errors import InputError
from cytosae.sae import ReluL1, SparseAutoencoder, TopK, evaluate
from cytosae.sae.training.metrics import WHITENING_FLOOR

pytestmark = pytest.mark.usefixtures("one_thread")
D, T = 5, 3


class Batch(NamedTuple):
    tokens: Tensor
    positions: Tensor


def constant_sae(vector):
    """Reconstructs every token as ``vector``; latent 0 is always active, the other three never."""
    sae = SparseAutoencoder(D, 4, ReluL1())
    with torch.no_grad():
        sae.W_enc.zero_()
        sae.b_enc.copy_(torch.tensor([1.0, -1.0, -1.0, -1.0]))
        sae.W_dec.zero_()
        sae.b_dec.copy_(vector)
    return sae


@pytest.fixture
def batch():
    generator = Generator().manual_seed(0)
    means = 4 * torch.randn(T, D, generator=generator)
    x = means + torch.randn(3000, T, D, generator=generator) * torch.tensor([5.0, 1.0, 1.0, 0.5, 0.1])
    return Batch(x.flatten(0, 1) + 50, torch.arange(T).repeat(3000))


def test_the_mean_explains_nothing(batch):
    metrics = evaluate(constant_sae(batch.tokens.mean(0)), [batch])
    assert metrics.explained_variance == pytest.approx(0, abs=1e-6)
    assert metrics.explained_variance_whitened == pytest.approx(0, abs=1e-5)
    assert metrics.explained_variance_after_position < 0  # worse than the means of the positions
    assert metrics.mse == pytest.approx(float(batch.tokens.var(0, correction=0).mean()), rel=1e-4)
    assert (metrics.l0, metrics.dead_share, metrics.n_tokens) == (1.0, 0.75, 9000)


def test_position_means_explain_nothing_of_what_they_leave(batch):
    """An SAE that knows only each token's position: high explained variance, nothing after position."""
    means = torch.stack([batch.tokens[batch.positions == p].mean(0) for p in range(T)])
    sae = constant_sae(torch.zeros(D))
    sae.normaliser.inverse = lambda tokens, positions: means[positions]
    metrics = evaluate(sae, [batch])
    total = (batch.tokens - batch.tokens.mean(0)).square().sum()
    between = (means[batch.positions] - batch.tokens.mean(0)).square().sum()
    assert metrics.explained_variance == pytest.approx(float(between / total), abs=1e-4)
    assert metrics.explained_variance > 0.3
    assert metrics.explained_variance_after_position == pytest.approx(0, abs=1e-5)


def test_whitened_figure_weighs_every_direction_alike(batch):
    """Reconstructing exactly the direction with most variance explains about one fifth in whitened units."""
    x = batch.tokens - batch.tokens.mean(0)
    values, vectors = torch.linalg.eigh(torch.cov(x.T, correction=0).double())
    first = vectors[:, -1:].float()
    sae = constant_sae(torch.zeros(D))
    sae.normaliser.inverse = _slices(batch.tokens.mean(0) + x @ first @ first.T)
    metrics = evaluate(sae, [batch])
    shares = values / (values + WHITENING_FLOOR * values.mean())
    assert metrics.explained_variance_whitened == pytest.approx(float(shares[-1] / shares.sum()), abs=1e-4)
    assert metrics.explained_variance == pytest.approx(float(values[-1] / values.sum()), abs=1e-4)


def _slices(reconstruction):
    """Gives ``reconstruction`` out in the blocks in which it is asked for."""
    rows = iter(reconstruction)

    def inverse(tokens, positions):
        return torch.stack(list(itertools.islice(rows, len(tokens))))

    return inverse


def test_perfect_reconstruction_explains_everything(batch):
    sae = SparseAutoencoder(D, 2 * D, ReluL1())
    with torch.no_grad():
        sae.W_dec.copy_(torch.cat([torch.eye(D), -torch.eye(D)]))
        sae.W_enc.copy_(sae.W_dec.T)
    metrics = evaluate(sae, [batch])
    for name in ("explained_variance", "explained_variance_after_position", "explained_variance_whitened"):
        assert getattr(metrics, name) == pytest.approx(1, abs=1e-4), name
    assert metrics.mse == pytest.approx(0, abs=1e-8)
    assert metrics.l0 == pytest.approx(D)


def test_pieces_add_up_to_the_whole(batch):
    sae = SparseAutoencoder(D, 12, TopK(3))
    pieces = [Batch(batch.tokens[i::7], batch.positions[i::7]) for i in range(7)]
    whole, parts = evaluate(sae, [batch]), evaluate(sae, pieces)
    for name, value in whole.__dict__.items():
        assert getattr(parts, name) == pytest.approx(value, rel=1e-6), name


def test_endless_reader_is_read_as_far_as_asked(batch):
    reader = itertools.cycle([Batch(batch.tokens[:100], batch.positions[:100])])
    assert evaluate(SparseAutoencoder(D, 12, TopK(3)), reader, n_tokens=250).n_tokens == 250


def test_store_is_sampled_evenly():
    class Store:
        n_tokens = T

        def __init__(self):
            self.seen = []

        def __len__(self):
            return 1000

        def read(self, start, stop):
            self.seen += range(start, stop)
            return torch.randn(stop - start, T, D, generator=Generator().manual_seed(start))

    store, sae = Store(), SparseAutoencoder(D, 12, TopK(3))
    assert evaluate(sae, store, n_tokens=100 * T).n_tokens == 100 * T
    assert len(set(store.seen)) == 100
    assert max(store.seen) > 800
    whole = Store()
    assert evaluate(sae, whole).n_tokens == 1000 * T
    assert whole.seen == list(range(1000))


def test_no_tokens_are_refused():
    with pytest.raises(InputError, match="no tokens"):
        evaluate(SparseAutoencoder(D, 12, TopK(3)), [])

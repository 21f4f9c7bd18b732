"""Sparse products against dense ones, values and gradients."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Generator
from torch.autograd import gradcheck

from cytosae.sae import BatchTopK, JumpRelu, Matryoshka, ReluL1, SparseAutoencoder, TopK
from cytosae.sae.model import encoder, sparse
from cytosae.sae.model.encoder import activate
from cytosae.sae.model.interface import Above, TopOfBatch, TopPerToken
from cytosae.sae.model.sparse import DenseActivations, Pattern, SparseActivations, score_active

pytestmark = pytest.mark.usefixtures("one_thread")
N, D, M, K = 23, 7, 40, 5
VARIANTS = [ReluL1(), TopK(K, aux_k=3), BatchTopK(K, aux_k=3), JumpRelu(), Matryoshka(K, aux_k=3, prefixes=(0.25, 1.0))]


def generator(seed=0):
    return Generator().manual_seed(seed)


@pytest.fixture
def pattern():
    mask = torch.rand(N, M, generator=generator()) < 0.2
    mask[3] = False  # a token without any active latent
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), mask.sum(1).cumsum(0)])
    return Pattern(mask.nonzero()[:, 1], offsets, M)


def doubles(*shape, seed=1):
    return torch.randn(*shape, dtype=torch.float64, generator=generator(seed)).requires_grad_()


def test_decode_equals_the_dense_product_and_its_gradients(pattern):
    values, W_dec = doubles(len(pattern.columns)), doubles(M, D, seed=2)
    weight = torch.randn(N, D, dtype=torch.float64, generator=generator(3))
    activations = SparseActivations(values, pattern)
    through_sparse = torch.autograd.grad((activations.decode(W_dec) * weight).sum(), [values, W_dec])
    through_dense = torch.autograd.grad((activations.to_dense() @ W_dec * weight).sum(), [values, W_dec])
    torch.testing.assert_close(activations.decode(W_dec), activations.to_dense() @ W_dec)
    torch.testing.assert_close(through_sparse, through_dense)


def test_decode_passes_gradcheck(pattern):
    values, W_dec = doubles(len(pattern.columns)), doubles(M, D, seed=2)
    assert gradcheck(lambda v, w: SparseActivations(v, pattern).decode(w), (values, W_dec))


def test_scores_pass_gradcheck(pattern):
    x, W_enc, b_enc, b_dec = doubles(N, D), doubles(D, M, seed=2), doubles(M, seed=3), doubles(D, seed=4)

    def scores(x, W_enc, b_enc, b_dec):
        exact = ((x - b_dec) @ W_enc + b_enc)[pattern.rows, pattern.columns]
        return score_active(exact.detach(), x, W_enc, b_enc, b_dec, pattern)

    assert gradcheck(scores, (x, W_enc, b_enc, b_dec))


def test_dots_without_sampled_addmm_are_the_same(pattern, monkeypatch):
    left, right = doubles(N, D).detach(), doubles(M, D, seed=2).detach()
    expected = pattern.dots(left, right)
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: False)
    monkeypatch.setattr(sparse, "DOT_BLOCK", 5 * D)
    torch.testing.assert_close(pattern.dots(left, right), expected)


def test_transposition_is_a_stable_sort_by_latent(pattern):
    order, rows, offsets = pattern.transposed
    torch.testing.assert_close(order, torch.argsort(pattern.columns, stable=True))
    torch.testing.assert_close(rows, pattern.rows[order])
    torch.testing.assert_close(offsets[1:], torch.bincount(pattern.columns, minlength=M).cumsum(0))


def test_dense_and_sparse_activations_have_the_same_face(pattern):
    values = torch.rand(len(pattern.columns), generator=generator(5))
    mine = SparseActivations(values, pattern)
    dense = DenseActivations(mine.to_dense())
    W_dec = torch.randn(M, D, generator=generator(6))
    assert mine.active() == dense.active()
    torch.testing.assert_close(mine.total(), dense.total())
    torch.testing.assert_close(mine.fired(), dense.fired())
    torch.testing.assert_close(mine.decode(W_dec), dense.decode(W_dec))
    torch.testing.assert_close(mine.latents(4, 20).to_dense(), dense.latents(4, 20).to_dense())
    torch.testing.assert_close(mine.to_csr().to_dense(), dense.to_csr().to_dense())
    doubled = torch.arange(M, dtype=torch.float32)
    torch.testing.assert_close(mine.map(torch.mul, doubled).to_dense(), dense.map(torch.mul, doubled).to_dense())


@pytest.fixture
def sae():
    sae = SparseAutoencoder(D, M, TopK(K), seed=3)
    with torch.no_grad():
        sae.b_enc.copy_(0.1 * torch.randn(M, generator=generator(7)))
        sae.b_dec.copy_(0.1 * torch.randn(D, generator=generator(8)))
    return sae


@pytest.fixture
def scores(sae):
    x = torch.randn(300, D, generator=generator(9))
    return x, ((x - sae.b_dec) @ sae.W_enc + sae.b_enc).detach()


@pytest.fixture(params=[64, 1 << 20], ids=["many blocks", "one block"], autouse=True)
def block_size(request, monkeypatch):
    monkeypatch.setattr(encoder, "BLOCK_TOKENS", 1)
    monkeypatch.setattr(encoder, "BLOCK_SCORES", request.param * M)


def test_top_per_token_is_the_dense_topk(sae, scores):
    x, dense = scores
    top = torch.topk(dense, K, dim=1)
    expected = torch.zeros_like(dense).scatter(1, top.indices, torch.relu(top.values))
    torch.testing.assert_close(activate(sae, x, TopPerToken(K)).to_dense().detach(), expected)


def test_top_per_token_drops_what_is_not_positive(sae, scores):
    x, dense = scores
    torch.testing.assert_close(activate(sae, x, TopPerToken(M)).to_dense().detach(), torch.relu(dense))


@pytest.mark.parametrize("k", [1, 3, 12, M])
def test_top_of_batch_is_the_dense_choice(sae, scores, k):
    x, dense = scores
    threshold = torch.topk(dense.flatten(), k * len(x)).values[-1]
    expected = torch.where((dense >= threshold) & (dense > 0), dense, 0)
    torch.testing.assert_close(activate(sae, x, TopOfBatch(k)).to_dense().detach(), expected)


@pytest.mark.parametrize("limit", [0.0, 1.0], ids=["dense", "sparse"])
def test_above_is_the_dense_choice_with_dense_gradients(sae, scores, monkeypatch, limit):
    monkeypatch.setattr(encoder, "DENSE_ABOVE", limit)
    x, dense = scores
    threshold = torch.rand(M, generator=generator(11))
    activations = activate(sae, x, Above(threshold))
    assert isinstance(activations, SparseActivations if limit else DenseActivations)
    torch.testing.assert_close(activations.to_dense().detach(), torch.where(dense > threshold, dense, 0))
    parameters = [sae.W_enc, sae.b_enc, sae.b_dec, sae.W_dec]
    mine = torch.autograd.grad(activations.decode(sae.W_dec).square().sum(), parameters)
    exact = (x - sae.b_dec) @ sae.W_enc + sae.b_enc
    theirs = torch.autograd.grad(((exact * (dense > threshold)) @ sae.W_dec).square().sum(), parameters)
    torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)


def test_choice_among_some_latents_leaves_the_others_alone(sae, scores):
    x, dense = scores
    some = torch.tensor([3, 8, 20, 33])
    top = torch.topk(dense[:, some], 2, dim=1)
    expected = torch.zeros_like(dense).scatter(1, some[top.indices], torch.relu(top.values))
    torch.testing.assert_close(activate(sae, x, TopPerToken(2), latents=some).to_dense().detach(), expected)


def test_nan_shows_instead_of_vanishing(sae):
    x = torch.full((4, D), float("nan"))
    assert activate(sae, x, TopPerToken(2)).to_dense().isnan().any()
    assert activate(sae, x, Above(0.0)).to_dense().isnan().any()


@pytest.mark.parametrize("sparsity", VARIANTS, ids=lambda s: type(s).__name__)
def test_encode_sparse_equals_encode(sparsity, scores):
    sae = SparseAutoencoder(D, M, sparsity, seed=4)
    x, _ = scores
    csr = sae.encode_sparse(x)
    assert csr.layout == torch.sparse_csr
    assert csr.dtype == torch.float32
    torch.testing.assert_close(csr.to_dense(), sae.encode(x).detach())
    columns, offsets = csr.col_indices(), csr.crow_indices()
    assert all(bool((columns[a:b].diff() > 0).all()) for a, b in itertools.pairwise(offsets))


def test_encode_sparse_takes_no_tokens():
    assert SparseAutoencoder(D, M).encode_sparse(torch.zeros(0, D)).shape == (0, M)


@pytest.mark.parametrize("sparsity", VARIANTS, ids=lambda s: type(s).__name__)
def test_reconstruction_is_decoded_activations(sparsity, scores):
    sae = SparseAutoencoder(D, M, sparsity, seed=4)
    x, _ = scores
    torch.testing.assert_close(sae(x), sae.decode(sae.encode(x)))

"""What each variant promises beyond its activations: losses, thresholds, refusals."""

from __future__ import annotations

import pytest
import torch
from torch import Generator

from cytosae.common.configuration import from_plain, to_plain
from cytosae.common.errors import UsageError
from cytosae.sae import (
    AnySparsity,
    BatchTopK,
    FromData,
    Independent,
    JumpRelu,
    Matryoshka,
    ReluL1,
    SparseAutoencoder,
    Tied,
    TopK,
    TrainConfig,
    Trainer,
)
from cytosae.sae.model import encoder
from cytosae.sae.training.dead_latents import auxk_loss, ghost_loss

pytestmark = pytest.mark.usefixtures("one_thread")
D, M, N, K = 12, 48, 200, 4


def tokens(n=N, seed=0):
    return torch.randn(n, D, generator=Generator().manual_seed(seed))


def dense_scores(sae, x):
    return ((x - sae.b_dec) @ sae.W_enc + sae.b_enc).detach()


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: TopK(k=0), "k >= 1"),
        (lambda: BatchTopK(k=-3), "k >= 1"),
        (lambda: TopK(k=4, aux_k=-1), "aux_k >= 0"),
        (lambda: BatchTopK(threshold_memory=1.0), "threshold_memory"),
        (lambda: ReluL1(l1_coefficient=-1.0), "l1_coefficient"),
        (lambda: JumpRelu(bandwidth=0.0), "bandwidth"),
        (lambda: JumpRelu(initial_threshold=0.0), "initial_threshold"),
        (lambda: Matryoshka(prefixes=(0.5, 0.25, 1.0)), "ascending prefixes"),
        (lambda: Matryoshka(prefixes=(0.5,)), "end with 1"),
        (lambda: SparseAutoencoder(D, 8, TopK(k=9)), "k = 9, more than the 8 latents"),
        (lambda: SparseAutoencoder(D, 8, Matryoshka(k=2)), "choose fewer"),
        (lambda: SparseAutoencoder(0, 8), "at least 1"),
    ],
)
def test_impossible_parameters_are_refused_in_one_sentence(make, sentence):
    with pytest.raises(UsageError, match=sentence) as caught:
        make()
    assert str(caught.value).endswith(".")


@pytest.mark.parametrize(
    "sparsity", [ReluL1(1e-3), TopK(3), BatchTopK(5), JumpRelu(), Matryoshka(2, prefixes=(0.5, 1.0))]
)
def test_configuration_survives_plain_values(sparsity):
    assert from_plain(AnySparsity, to_plain(sparsity)) == sparsity


def test_batch_topk_learns_the_threshold_that_gives_k_at_inference():
    sae = SparseAutoencoder(D, M, BatchTopK(K, threshold_memory=0.5))
    for step in range(12):
        sae.sparsity.losses(sae, tokens(2000, seed=step), None)
    active = (sae.encode(tokens(2000, seed=99)) > 0).float().sum(1).mean()
    assert float(active) == pytest.approx(K, rel=0.05)


def test_batch_topk_shares_k_out_by_need():
    sae = SparseAutoencoder(D, M, BatchTopK(K))
    x = torch.cat([3 * tokens(100), 0.1 * tokens(100, seed=1)])
    counts = (sae.sparsity.training_activations(sae, x).to_dense() > 0).sum(1)
    assert int(counts.sum()) == K * len(x)
    assert counts[:100].sum() > counts[100:].sum()


def test_matryoshka_loss_is_the_mean_over_its_prefixes():
    sae = SparseAutoencoder(D, M, Matryoshka(K, prefixes=(0.25, 0.5, 1.0)))
    x = tokens()
    activations = sae.sparsity.training_activations(sae, x).to_dense()
    expected = [
        (activations[:, :size] @ sae.W_dec[:size] + sae.b_dec - x).square().mean() for size in (M // 4, M // 2, M)
    ]
    torch.testing.assert_close(sae.sparsity.losses(sae, x, None).mse, torch.stack(expected).mean())


@pytest.mark.parametrize("limit", [0.0, 1.0], ids=["dense", "sparse"])
def test_jump_relu_gradients_are_the_papers(monkeypatch, limit):
    """Equations 11 and 12 of Rajamanoharan et al. 2024, written out densely."""
    monkeypatch.setattr(encoder, "DENSE_ABOVE", limit)
    sparsity = JumpRelu(l0_coefficient=0.1, bandwidth=0.4, initial_threshold=0.3)
    sae, x = SparseAutoencoder(D, M, sparsity), tokens()
    losses = sparsity.losses(sae, x, None)
    parameters = [sae.state.log_threshold, sae.W_enc, sae.W_dec]
    mine = torch.autograd.grad(losses.mse + losses.penalty, parameters)

    theta = sae.state.log_threshold.exp().detach()
    z = dense_scores(sae, x)
    a = (z * (z > theta)).requires_grad_()
    W_dec = sae.W_dec.detach().requires_grad_()
    mse = (a @ W_dec + sae.b_dec - x).square().mean()
    to_a, to_W_dec = torch.autograd.grad(mse, [a, W_dec])
    window = ((z - theta).abs() <= 0.2) & (z > 0)
    to_theta = (window / 0.4 * (-theta * to_a - 0.1 / N)).sum(0)
    torch.testing.assert_close(mine[0], to_theta * theta)
    torch.testing.assert_close(mine[1], (x - sae.b_dec.detach()).T @ (to_a * (z > theta)), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(mine[2], to_W_dec)
    assert float(losses.penalty.detach()) == pytest.approx(0.1 * float((z > theta).sum()) / N)


def test_auxk_is_the_dense_formula():
    sae, x = SparseAutoencoder(D, M, TopK(K)), tokens()
    dead, residual = torch.tensor([1, 5, 7, 30, 31]), tokens(seed=2)
    scores = dense_scores(sae, x)[:, dead]
    top = torch.topk(scores, 2, dim=1)
    kept = torch.zeros_like(scores).scatter(1, top.indices, top.values.relu())
    expected = (kept @ sae.W_dec[dead] - residual).square().mean()
    torch.testing.assert_close(auxk_loss(sae, x, residual, dead, 2), expected)


@pytest.mark.parametrize("size", [1.0, 0.3, 0.05])
def test_auxk_does_not_fade_as_the_reconstruction_becomes_good(size: float):
    """Dead latents that explain nothing of the residual cost the same, however small it is (Gao et al. 2024, A.2)."""
    sae = SparseAutoencoder(D, M, TopK(k=3, aux_k=2, aux_coefficient=0.25))
    with torch.no_grad():
        sae.b_enc.fill_(-100.0)
    x, dead = tokens(seed=1), torch.tensor([0, 3])
    auxiliary = sae.sparsity.auxiliary(sae, x, size * tokens(seed=2), dead)
    torch.testing.assert_close(auxiliary, 0.25 * x.square().mean())


def test_auxk_reaches_dead_latents_only():
    sae, x = SparseAutoencoder(D, M, TopK(K)), tokens()
    dead = torch.tensor([1, 5, 7])
    gradient = torch.autograd.grad(auxk_loss(sae, x, tokens(seed=2), dead, 2), sae.W_dec)[0]
    alive = torch.ones(M, dtype=torch.bool)
    alive[dead] = False
    assert (gradient[alive] == 0).all()
    assert (gradient[dead] != 0).any(1).all()


def test_no_dead_latents_cost_nothing():
    sae, x = SparseAutoencoder(D, M, TopK(K)), tokens()
    assert auxk_loss(sae, x, x, None, 2) == 0
    assert ghost_loss(sae, x, x, x, None) == 0


def dead_in_the_end(*, aux_k=0, ghost_gradients=False):
    """Mean number of dead latents over the last 50 of 150 steps; half of the dictionary starts far from firing."""
    sae = SparseAutoencoder(D, M, TopK(K, aux_k=aux_k, aux_coefficient=1.0), initialisation=Tied(), seed=5)
    with torch.no_grad():
        sae.b_enc[: M // 2] = -3.0
    trainer = Trainer(
        sae, TrainConfig(learning_rate=0.01, warmup_steps=1, dead_window=3, ghost_gradients=ghost_gradients)
    )
    return sum([trainer.step(tokens(100, seed=s)).dead for s in range(150)][100:]) / 50


def test_dead_latents_come_back():
    without = dead_in_the_end()
    assert dead_in_the_end(aux_k=6) < 0.9 * without
    assert dead_in_the_end(ghost_gradients=True) < 0.5 * without


@pytest.mark.parametrize("kind", [Independent(), Tied(scale=2.0), FromData(noise=0.1)])
def test_initialisation(kind):
    sae = SparseAutoencoder(D, M, initialisation=kind, seed=7)
    again = SparseAutoencoder(D, M, initialisation=kind, seed=7)
    other = SparseAutoencoder(D, M, initialisation=kind, seed=8)
    torch.testing.assert_close(sae.W_dec, again.W_dec, rtol=0, atol=0)
    assert not torch.equal(sae.W_dec, other.W_dec)
    torch.testing.assert_close(torch.linalg.vector_norm(sae.W_dec, dim=1), torch.ones(M))
    if not isinstance(kind, Independent):
        torch.testing.assert_close(sae.W_enc.T, kind.scale * sae.W_dec)


def test_initialisation_from_data_points_along_tokens():
    sae = SparseAutoencoder(D, M, initialisation=FromData(noise=0.01))
    x = tokens(M)
    sae.initialise_from(x)
    cosine = sae.W_dec.detach() @ (x / x.norm(dim=1, keepdim=True)).T
    assert float(cosine.max(1).values.min()) > 0.99


def test_encoder_lies_latent_by_latent_and_stays_so():
    sae = SparseAutoencoder(D, M, TopK(K))
    assert sae.W_enc.shape == (D, M)
    assert sae.W_enc.T.is_contiguous()
    Trainer(sae, TrainConfig()).step(tokens())
    assert sae.W_enc.T.is_contiguous()


@pytest.mark.parametrize("shape", [(D + 1,), (3, D - 1)])
def test_tokens_of_another_width_are_refused(shape):
    with pytest.raises(UsageError, match=f"width {D}"):
        SparseAutoencoder(D, M).encode(torch.zeros(shape))


def test_shapes_are_kept():
    sae = SparseAutoencoder(D, M, TopK(K))
    for shape in [(D,), (3, D), (2, 5, D), (0, D)]:
        x = torch.ones(shape)
        assert sae.encode(x).shape == (*shape[:-1], M)
        assert sae.decode(sae.encode(x)).shape == shape
        assert sae(x).shape == shape

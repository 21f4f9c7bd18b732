"""The plain twins, which serve on GPUs: the same entries as the kernels, and the same from either device."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from cytosae.common.runtime import RuntimeConfig, make_fabric
from cytosae.sae import BatchTopK, JumpRelu, Matryoshka, ReluL1, SparseAutoencoder, TopK, TrainConfig, Trainer
from cytosae.sae.screening.backend import backend
from cytosae.sae.screening.screen import Entries, Screen

DTYPES = (torch.bfloat16, torch.float32)
VARIANTS = (
    TopK(k=6, aux_k=8),
    BatchTopK(k=6, aux_k=8),
    JumpRelu(bandwidth=0.2, initial_threshold=3.6),
    Matryoshka(k=6, aux_k=8, prefixes=(0.1, 0.4, 1.0)),
    ReluL1(l1_coefficient=1e-2),
)


def problem(seed: int = 0, n: int = 30, m: int = 900, d: int = 40) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    x, rows = torch.randn(n, d, generator=g), torch.randn(m, d, generator=g) / d**0.5
    rows[m // 2 :: 7] = rows[: len(rows[m // 2 :: 7])]  # some ties
    x[3] = 0
    return x, rows, 0.1 * torch.randn(m, generator=g)


def assert_same(mine: Entries, theirs: Entries) -> None:
    assert torch.equal(mine.offsets.cpu(), theirs.offsets)
    assert torch.equal(mine.columns.cpu(), theirs.columns)
    torch.testing.assert_close(mine.scores.cpu(), theirs.scores, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("capacity", [None, 24], ids=["room", "overruns"])
def test_twins_choose_what_the_kernels_choose(dtype: torch.dtype, capacity: int | None) -> None:
    x, rows, bias = problem()
    bias.abs_()
    kernels, twins = Screen(dtype, capacity=capacity), Screen(dtype, kernels=backend("plain"), capacity=capacity)
    for k in (1, 8, 100):
        assert_same(twins.top_per_token(x, rows, bias, k), kernels.top_per_token(x, rows, bias, k))
    limits = torch.full((len(rows),), 0.5)
    for threshold in (0.0, 0.7, limits):
        assert_same(twins.above(x, rows, bias, threshold), kernels.above(x, rows, bias, threshold))
    assert_same(twins.top_of_batch(x, rows, bias, 5), kernels.top_of_batch(x, rows, bias, 5))
    assert (twins.counters.overruns > 0) == (kernels.counters.overruns > 0) == (capacity is not None)


def test_dot_products_at_places_are_those_of_the_twin() -> None:
    x, rows, _ = problem()
    counts = torch.full((len(x),), 2)
    counts[::3], counts[1] = 5, 0
    offsets = torch.zeros(len(x) + 1, dtype=torch.int64)
    offsets[1:] = counts.cumsum(0)
    columns = torch.randint(0, len(rows), (int(counts.sum()),), generator=torch.Generator().manual_seed(1))
    found = [torch.empty(len(columns)) for _ in range(2)]
    for name, out in zip(("numba", "plain"), found, strict=True):
        backend(name).dots(x, rows, columns, offsets, out)  # pyright: ignore[reportArgumentType]
    torch.testing.assert_close(*found, rtol=1e-5, atol=1e-6)


def test_a_score_does_not_depend_on_its_neighbours() -> None:
    """Four at a time are computed; each of the four places gives the same bits."""
    x, rows, bias = problem(d=77)
    columns = torch.arange(13, dtype=torch.int32)
    offsets = torch.tensor([0, 13])
    whole = torch.empty(13)
    order, token, _ = backend().by_latent(columns, offsets, len(rows))
    backend().scores(x[:1], rows, bias, columns, order, token, whole)
    for j in range(13):
        alone, one = torch.empty(1), torch.tensor([j], dtype=torch.int32)
        order, token, _ = backend().by_latent(one, torch.tensor([0, 1]), len(rows))
        backend().scores(x[:1], rows, bias, one, order, token, alone)
        assert torch.equal(alone[0], whole[j])


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_gpu_chooses_what_the_processor_chooses(dtype: torch.dtype) -> None:
    x, rows, bias = problem(n=200, m=5000, d=128)
    on_gpu = tuple(t.cuda() for t in (x, rows, bias))
    twins, kernels = Screen(dtype, kernels=backend("plain")), Screen(dtype)
    assert_same(twins.top_per_token(*on_gpu, 16), kernels.top_per_token(x, rows, bias, 16))
    assert_same(twins.above(*on_gpu, 0.7), kernels.above(x, rows, bias, 0.7))


def trained(sparsity, runtime: RuntimeConfig, path, steps: int = 5) -> tuple[SparseAutoencoder, list[float]]:
    sae = SparseAutoencoder(32, 640, sparsity, seed=1)
    if isinstance(sparsity, ReluL1):
        with torch.no_grad():
            sae.b_enc.sub_(1.0)
    config = TrainConfig(path=path, batch_tokens=64, decoder_bias="keep", warmup_steps=2, epsilon=1e-5)
    trainer = Trainer(sae, config, fabric=make_fabric(runtime))
    g = torch.Generator().manual_seed(0)
    return sae, [trainer.step(torch.randn(64, 32, generator=g)).loss for _ in range(steps)]


@pytest.mark.cuda
@pytest.mark.parametrize("path", ["dense", "screened"])
@pytest.mark.parametrize("sparsity", VARIANTS, ids=lambda s: type(s).__name__)
def test_training_on_a_gpu_follows_that_on_the_processor(sparsity, path) -> None:
    _, expected = trained(sparsity, RuntimeConfig(device="cpu"), "dense")
    _, losses = trained(sparsity, RuntimeConfig(device="cuda", devices=1), path)
    assert losses == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
@pytest.mark.parametrize("sparsity", VARIANTS, ids=lambda s: type(s).__name__)
def test_mixed_precision_keeps_weights_in_float32_and_follows(sparsity, device) -> None:
    _, expected = trained(sparsity, RuntimeConfig(device="cpu"), "dense")
    sae, losses = trained(sparsity, RuntimeConfig(device=device, devices=1, precision="bf16-mixed"), "dense")
    assert {p.dtype for p in sae.parameters()} == {torch.float32}
    assert losses == pytest.approx(expected, rel=2e-2)
    assert losses != expected  # products were rounded


@pytest.mark.cuda
def test_large_batches_are_screened_on_a_gpu_and_small_ones_are_not() -> None:
    sae = SparseAutoencoder(256, 8_192, TopK(k=6)).cuda()
    x = torch.randn(32_768, 256, generator=torch.Generator().manual_seed(0)).cuda()
    small = sae.encode_sparse(x[:64])
    assert sae.screening.screen is None
    large = sae.encode_sparse(x)
    assert sae.screening.screen is not None
    assert sae.screening.screen.dtype == torch.bfloat16
    assert torch.equal(large.col_indices()[: 6 * 64].view(64, 6).sort().values, small.col_indices().view(64, 6))


@pytest.mark.cuda
def test_compiled_training_follows_the_plain_one() -> None:
    _, expected = trained(TopK(k=6, aux_k=0), RuntimeConfig(device="cuda", devices=1), "dense")
    _, losses = trained(TopK(k=6, aux_k=0), RuntimeConfig(device="cuda", devices=1, compile=True), "dense")
    assert losses == pytest.approx(expected, rel=1e-3)

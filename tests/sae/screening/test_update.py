"""The fused update does what the dense gradient, torch's Adam and a normalisation do one after the other."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from cytosae.sae.model.sparse import Pattern
from cytosae.sae.screening.backend import backend
from cytosae.sae.screening.bound import SLACK, margins, rounded, upper_norm
from cytosae.sae.screening.update import RowUpdate, row_gradient

N, M, D = 40, 300, 24


def sparse_part(seed: int) -> tuple[Pattern, Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    mask = torch.rand(N, M, generator=g) < 0.05
    offsets = torch.zeros(N + 1, dtype=torch.int64)
    offsets[1:] = mask.sum(1).cumsum(0)
    pattern = Pattern(mask.nonzero()[:, 1], offsets, M)
    return pattern, torch.randn(int(mask.sum()), generator=g), torch.randn(N, D, generator=g)


def dense(pattern: Pattern, scales: Tensor, matrix: Tensor) -> Tensor:
    a = torch.zeros(N, M, dtype=torch.float64)
    a[pattern.rows, pattern.columns] = scales.double()
    return a.T @ matrix.double()


def make() -> tuple[nn.Parameter, nn.Parameter, torch.optim.Adam]:
    g = torch.Generator().manual_seed(0)
    encoder = nn.Parameter(torch.randn(M, D, generator=g).T)
    decoder = nn.Parameter(torch.randn(M, D, generator=g))
    return encoder, decoder, torch.optim.Adam([encoder, decoder], lr=1e-2, fused=True)


@pytest.mark.parametrize("name", ["numba", "plain"])
@pytest.mark.parametrize("with_dense_part", [False, True])
def test_steps_follow_dense_gradients_and_torch_adam(name: str, with_dense_part: bool) -> None:
    encoder, decoder, adam = make()
    other_encoder, other_decoder, other_adam = make()
    update = RowUpdate(encoder, decoder, adam, backend(name))  # pyright: ignore[reportArgumentType]
    for step in range(5):
        with torch.no_grad():
            other_decoder /= torch.linalg.vector_norm(other_decoder, dim=1, keepdim=True)
        other_encoder.grad, other_decoder.grad = torch.zeros(M, D).T, torch.zeros(M, D)
        with update.listen():
            for parameter, other, seeds in ((encoder, other_encoder, [1]), (decoder, other_decoder, [2, 3])):
                listening = row_gradient(parameter)
                assert listening is not None
                for seed in seeds:
                    part = sparse_part(10 * step + seed)
                    listening.add(*part)
                    gradient = dense(*part).float()
                    other.grad += gradient.T if other is other_encoder else gradient
                if with_dense_part:
                    extra = torch.randn(other.shape, generator=torch.Generator().manual_seed(step))
                    parameter.grad = extra.clone()
                    other.grad += extra
        assert row_gradient(encoder) is None
        update.finish()
        rows = other_decoder.detach()
        other_decoder.grad -= (other_decoder.grad * rows).sum(1, keepdim=True) * rows
        other_adam.step()
        assert encoder.grad is None
        assert decoder.grad is None
    with torch.no_grad():
        other_decoder /= torch.linalg.vector_norm(other_decoder, dim=1, keepdim=True)
    torch.testing.assert_close(encoder, other_encoder, rtol=1e-5, atol=2e-6)
    torch.testing.assert_close(decoder, other_decoder, rtol=1e-5, atol=2e-6)
    for mine, theirs in ((encoder, other_encoder), (decoder, other_decoder)):
        assert adam.state[mine]["exp_avg"].stride() == mine.stride()
        for key in ("step", "exp_avg", "exp_avg_sq"):
            torch.testing.assert_close(adam.state[mine][key], other_adam.state[theirs][key], rtol=1e-4, atol=1e-6)


def test_rounding_agrees_with_torch_and_norms_are_upper_bounds() -> None:
    g = torch.Generator().manual_seed(0)
    rows = torch.randn(64, 33, generator=g) * torch.logspace(-40, 18, 64)[:, None]
    rows[5], rows[6] = 0, 1 + 2.0**-8
    out, norm, residual = torch.empty(64, 33, dtype=torch.bfloat16), torch.empty(64), torch.empty(64)
    margin = margins(33)
    backend().round_rows(rows, out, norm, residual, (margin.norm, margin.squares, 1 + SLACK))
    assert torch.equal(out, rounded(rows, torch.bfloat16))
    gap = torch.linalg.vector_norm(rows.double() - out.double(), dim=1)
    assert bool((residual.double() >= gap).all())
    assert bool((norm.double() >= torch.linalg.vector_norm(rows.double(), dim=1)).all())
    torch.testing.assert_close(norm, upper_norm(rows), rtol=1e-5, atol=0)


def test_unit_rows_done_twice_change_nothing() -> None:
    rows = torch.randn(500, 77, generator=torch.Generator().manual_seed(0)) * 3
    rows[7] = 0
    backend().unit_rows(rows)
    torch.testing.assert_close(torch.linalg.vector_norm(rows, dim=1)[8:], torch.ones(492))
    once = copy.deepcopy(rows)
    backend().unit_rows(rows)
    assert torch.equal(rows, once)

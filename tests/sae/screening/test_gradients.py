"""Gradients of every variant: against finite differences in float64, and screened against dense ones."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck
from torch.func import functional_call

from cytosae.sae import BatchTopK, JumpRelu, Matryoshka, ReluL1, SparseAutoencoder, TopK
from cytosae.sae.screening.paths import Screening
from cytosae.sae.screening.update import RowUpdate
from cytosae.sae.training.optimisation import Objective

D, M, N = 6, 40, 9
VARIANTS = (
    TopK(k=4, aux_k=3),
    BatchTopK(k=4, aux_k=3),
    Matryoshka(k=4, aux_k=3, prefixes=(0.25, 1.0)),
    JumpRelu(bandwidth=1e-7, initial_threshold=1.2),  # no score in the window: the true derivative
    ReluL1(l1_coefficient=1e-2),
)
NAMES = [type(v).__name__ for v in VARIANTS]


def make(sparsity, d: int, m: int) -> SparseAutoencoder:
    sae = SparseAutoencoder(d, m, sparsity, seed=2)
    g = torch.Generator().manual_seed(0)
    with torch.no_grad():
        sae.b_dec.copy_(0.1 * torch.randn(d, generator=g))
        sae.b_enc.copy_(0.1 * torch.randn(m, generator=g))
        if isinstance(sparsity, ReluL1):
            sae.b_enc.sub_(1.0)
    return sae


@pytest.mark.parametrize("sparsity", VARIANTS, ids=NAMES)
def test_every_variant_passes_gradcheck(sparsity) -> None:
    sae = make(sparsity, D, M).double()
    x = torch.randn(N, D, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    module = Objective(sae, ghost_gradients=False)
    parameters = {name: p.detach().clone().requires_grad_() for name, p in module.named_parameters()}

    def loss(*values: Tensor) -> Tensor:
        return functional_call(module, dict(zip(parameters, values, strict=True)), (x, None))[0]

    assert gradcheck(loss, tuple(parameters.values()), eps=1e-7, atol=1e-5)


@pytest.mark.parametrize("path", ["blocks", "screened"])
@pytest.mark.parametrize(
    "sparsity",
    [TopK(k=8, aux_k=0), BatchTopK(k=8, aux_k=0), Matryoshka(k=8, aux_k=0, prefixes=(0.25, 1.0)),
     JumpRelu(bandwidth=0.2, initial_threshold=3.0), ReluL1(l1_coefficient=1e-2)],
    ids=NAMES,
)  # fmt: skip
def test_screened_gradients_are_the_dense_ones(sparsity, path) -> None:
    """The weight gradients, which training never puts together, here put together and compared in float64."""
    sae, d, m = make(sparsity, 32, 1600), 32, 1600
    if isinstance(sparsity, ReluL1):
        with torch.no_grad():
            sae.b_enc.sub_(2.0)
    sae.normalise_decoder()
    dense = copy.deepcopy(sae).double()
    dense.screening = Screening("dense")
    sae.screening = Screening(path)
    x = torch.randn(64, d, generator=torch.Generator().manual_seed(3))
    update = RowUpdate(sae.W_enc, sae.W_dec, torch.optim.Adam(sae.parameters()))
    with update.listen():
        Objective(sae, ghost_gradients=False)(x, None)[0].backward()
    assert sae.screening.screen is not None
    assert sae.screening.screen.counters.tokens > 0
    assert update.gradients[0].parts
    Objective(dense, ghost_gradients=False)(x.double(), None)[0].backward()
    for gradient, parameter, expected in zip(
        update.gradients, (sae.W_enc, sae.W_dec), (dense.W_enc.grad, dense.W_dec.grad), strict=True
    ):
        assert parameter.grad is None
        begin, source, scale, matrix = gradient.gathered(m, d)
        latent = torch.arange(m).repeat_interleave(begin.diff())
        found = torch.zeros(m, d, dtype=torch.float64)
        found.index_add_(0, latent, scale[:, None].double() * matrix[source.long()].double())
        assert expected is not None
        wanted = expected.T if parameter is sae.W_enc else expected
        assert float((found - wanted).abs().max()) <= 1e-5 * float(wanted.abs().max())
    for name in ("b_enc", "b_dec"):
        mine, wanted = sae.get_parameter(name).grad, dense.get_parameter(name).grad
        assert mine is not None
        assert wanted is not None
        assert float((mine - wanted).abs().max()) <= 1e-5 * float(wanted.abs().max())

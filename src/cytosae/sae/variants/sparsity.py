"""What every variant of sparsity has in common: which latents are active, and what training minimises."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from cytosae.common.errors import UsageError
from cytosae.sae.model.sparse import Activations

if TYPE_CHECKING:
    from cytosae.sae.model.autoencoder import SparseAutoencoder


class Losses(NamedTuple):
    """Terms of the objective on one batch; training minimises the sum of the first three.

    Attributes
    ----------
    mse : () reconstruction term as the variant defines it
    penalty : () sparsity term, 0 where the sparsity is built in
    auxiliary : () what revives dead latents
    activations : the activations of the batch
    reconstruction : (N, d) in normalised units
    error : (N, d) element-wise reconstruction error as the variant weighs it, or None (then the plain square)
    residual : (N, d) reconstruction - x where the variant has it at hand, or None
    """

    mse: Tensor
    penalty: Tensor
    auxiliary: Tensor
    activations: Activations
    reconstruction: Tensor
    error: Tensor | None = None
    residual: Tensor | None = None


class Sparsity:
    """Base of the variants, each a frozen dataclass that carries its own parameters.

    A variant may own state (a learned threshold): tensors that the autoencoder registers under ``state``.
    """

    def check(self, d_in: int, d_sae: int) -> None:
        """Raise `UsageError` if the parameters do not fit an autoencoder of this size."""

    def state(self, d_sae: int) -> dict[str, Tensor]:
        """Tensors that the variant needs; an ``nn.Parameter`` is trained, any other is a saved buffer."""
        return {}

    def activations(self, sae: SparseAutoencoder, x: Tensor) -> Activations:
        """Activations of (N, d) normalised tokens at inference; a token's do not depend on the others."""
        raise NotImplementedError

    def losses(self, sae: SparseAutoencoder, x: Tensor, dead: Tensor | None) -> Losses:
        """Terms of the objective on (N, d) normalised tokens.

        ``dead`` (D,) int64 are the latents that have not fired for the dead window, None where there are none.
        """
        raise NotImplementedError


def require(condition: object, sentence: str) -> None:
    """Raise `UsageError` with ``sentence`` unless ``condition`` holds."""
    if not condition:
        raise UsageError(sentence)


def check_k(name: str, k: int, d_sae: int | None = None) -> None:
    """``k`` must be at least 1 and, where the width is known, no more than it."""
    require(k >= 1, f"{name} needs k >= 1, not {k}.")
    require(
        d_sae is None or k <= d_sae, f"{name} has k = {k}, more than the {d_sae} latents; lower k or widen the SAE."
    )


def mean_square(error: Tensor) -> Tensor:
    """Mean of the squares, () tensor."""
    return _MeanSquare.apply(error)


class _MeanSquare(torch.autograd.Function):
    """One array in the backward pass, where that of a norm makes three: fresh pages cost more than the arithmetic."""

    @staticmethod
    def forward(ctx: Any, error: Tensor) -> Tensor:
        ctx.save_for_backward(error)
        return torch.linalg.vector_norm(error).square() / error.numel()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        (error,) = ctx.saved_tensors
        return error * (2 / error.numel() * grad_outputs[0])

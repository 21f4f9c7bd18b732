"""JumpReLU: each latent has its own learned threshold."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from cytosae.sae.model.encoder import Above, activate
from cytosae.sae.model.sparse import Activations
from cytosae.sae.variants.sparsity import Losses, Sparsity, mean_square, require

if TYPE_CHECKING:
    from cytosae.sae.model.autoencoder import SparseAutoencoder


@dataclass(frozen=True)
class JumpRelu(Sparsity):
    """a_j = z_j where the score z_j exceeds theta_j, else 0; loss = mean square error plus an L0 penalty.

    theta is trained with straight-through pseudo-derivatives (a rectangle of width ``bandwidth`` around it) and saved
    as its logarithm, ``state.log_threshold``. The defaults are for tokens scaled by their mean norm, whose scores have
    a standard deviation of about 1: some dozens of 3,072 latents are active at the start. Thresholds far below that
    start with half of the latents active, and training takes long to recover.

    Attributes
    ----------
    l0_coefficient : weight of the mean number of active latents of a token (the error is a mean over dimensions)
    bandwidth : width of the window in which a score moves its threshold, in units of the scores
    initial_threshold : theta of every latent at the start

    References
    ----------
    Rajamanoharan et al. 2024, "Jumping Ahead: Improving Reconstruction Fidelity with JumpReLU Sparse Autoencoders",
    arXiv 2407.14435, equations 9 to 12.
    """

    l0_coefficient: float = 1e-5
    bandwidth: float = 0.5
    initial_threshold: float = 2.0

    def __post_init__(self) -> None:
        require(self.l0_coefficient >= 0, f"JumpRelu needs l0_coefficient >= 0, not {self.l0_coefficient}.")
        require(self.bandwidth > 0, f"JumpRelu needs bandwidth > 0, not {self.bandwidth}.")
        require(self.initial_threshold > 0, f"JumpRelu needs initial_threshold > 0, not {self.initial_threshold}.")

    def state(self, d_sae: int) -> dict[str, Tensor]:
        """The logarithms of the thresholds, (m,), trained."""
        return {"log_threshold": nn.Parameter(torch.full((d_sae,), math.log(self.initial_threshold)))}

    def activations(self, sae: SparseAutoencoder, x: Tensor) -> Activations:
        """All scores above their latent's threshold."""
        return activate(sae, x, Above(sae.state.log_threshold.detach().exp()))

    def losses(self, sae: SparseAutoencoder, x: Tensor, dead: Tensor | None) -> Losses:
        """Mean square error and the L0 penalty; only scores above the windows' lower ends are looked at."""
        threshold = sae.state.log_threshold.exp()
        near = activate(sae, x, Above((threshold.detach() - self.bandwidth / 2).clamp_min(0)))
        activations = near.map(lambda z, theta: _Jump.apply(z, theta, self.bandwidth), threshold)
        steps = near.map(lambda z, theta: _Step.apply(z, theta, self.bandwidth), threshold)
        reconstruction = sae.reconstruct(activations)
        penalty = self.l0_coefficient * steps.total() / len(x)
        residual, none = reconstruction - x, x.new_zeros(())
        return Losses(mean_square(residual), penalty, none, activations, reconstruction, residual=residual)


def _window(scores: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
    near = ((scores - threshold).abs() <= bandwidth / 2) & (scores > 0)
    return near.to(scores.dtype) / bandwidth


class _Jump(torch.autograd.Function):
    """z H(z - theta); d/dtheta = -(theta / eps) K((z - theta) / eps)."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
        ctx.save_for_backward(scores, threshold)
        ctx.bandwidth = bandwidth
        return scores * (scores > threshold)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (gradient,) = grad_outputs
        scores, threshold = ctx.saved_tensors
        to_threshold = -threshold * _window(scores, threshold, ctx.bandwidth) * gradient
        return gradient * (scores > threshold), to_threshold.sum_to_size(threshold.shape), None


class _Step(torch.autograd.Function):
    """H(z - theta); d/dtheta = -(1 / eps) K((z - theta) / eps), d/dz = 0."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
        ctx.save_for_backward(scores, threshold)
        ctx.bandwidth = bandwidth
        return (scores > threshold).to(scores.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (gradient,) = grad_outputs
        scores, threshold = ctx.saved_tensors
        to_threshold = -_window(scores, threshold, ctx.bandwidth) * gradient
        return None, to_threshold.sum_to_size(threshold.shape), None

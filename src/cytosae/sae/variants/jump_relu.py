"""JumpReLU: each latent has its own learned threshold."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cytosae.sae.model.interface import Above
from cytosae.sae.variants.sparsity import Losses, Sparsity, require

if TYPE_CHECKING:
    from torch import Tensor

    from cytosae.sae.model.interface import Autoencoder
    from cytosae.sae.model.sparse import Activations


@dataclass(frozen=True)
class JumpRelu(Sparsity):
    """a_j = z_j where the score z_j exceeds theta_j, else 0; loss = mean square error plus an L0 penalty.

    theta is trained with straight-through pseudo-derivatives (a rectangle of width ``bandwidth`` around it) and saved
    as its logarithm, ``state.log_threshold``. The defaults are for tokens scaled by their mean norm, whose scores have
    a standard deviation of about 1: some dozens of 3,072 latents are active at the start. Thresholds far below that
    start with half of the latents active, and training takes long to recover.

    Attributes
    ----------
    l0_coefficient : float
        Weight of the mean number of active latents of a token (the error is a mean over dimensions).
    bandwidth : float
        Width of the window in which a score moves its threshold, in units of the scores.
    initial_threshold : float
        theta of every latent at the start.

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
        import torch

        return {"log_threshold": torch.nn.Parameter(torch.full((d_sae,), math.log(self.initial_threshold)))}

    def activations(self, sae: Autoencoder, x: Tensor) -> Activations:
        """All scores above their latent's threshold."""
        return sae.activate(x, Above(sae.state.log_threshold.detach().exp()))

    def losses(self, sae: Autoencoder, x: Tensor, dead: Tensor | None) -> Losses:
        """Mean square error and the L0 penalty; only scores above the windows' lower ends are looked at."""
        from cytosae.sae.model.gradients import mean_square

        threshold = sae.state.log_threshold.exp()
        near = sae.activate(x, Above((threshold.detach() - self.bandwidth / 2).clamp_min(0)))
        activations = near.map(self._jump, threshold)
        steps = near.map(self._step, threshold)
        reconstruction = sae.reconstruct(activations)
        penalty = self.l0_coefficient * steps.total() / len(x)
        residual, none = reconstruction - x, x.new_zeros(())
        return Losses(mean_square(residual), penalty, none, activations, reconstruction, residual=residual)

    def _jump(self, scores: Tensor, threshold: Tensor) -> Tensor:
        """z H(z - theta); d/dtheta = -(theta / eps) K((z - theta) / eps)."""
        from cytosae.sae.model.gradients import with_slope

        slope = -threshold.detach() * self._window(scores, threshold)
        return with_slope(scores * (scores > threshold), threshold, slope)

    def _step(self, scores: Tensor, threshold: Tensor) -> Tensor:
        """H(z - theta); d/dtheta = -(1 / eps) K((z - theta) / eps), d/dz = 0."""
        from cytosae.sae.model.gradients import with_slope

        return with_slope((scores > threshold).to(scores.dtype), threshold, -self._window(scores, threshold))

    def _window(self, scores: Tensor, threshold: Tensor) -> Tensor:
        """K((z - theta) / eps) / eps for the rectangle K."""
        scores, threshold = scores.detach(), threshold.detach()
        near = ((scores - threshold).abs() <= self.bandwidth / 2) & (scores > 0)
        return near.to(scores.dtype) / self.bandwidth

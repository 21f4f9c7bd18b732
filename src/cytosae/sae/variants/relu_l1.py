"""ReLU with an L1 penalty, the paper's variant."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cytosae.sae.model.interface import Above
from cytosae.sae.variants.sparsity import Losses, Sparsity, require

if TYPE_CHECKING:
    from torch import Tensor

    from cytosae.sae.model.interface import Autoencoder
    from cytosae.sae.model.sparse import Activations


@dataclass(frozen=True)
class ReluL1(Sparsity):
    """a = ReLU((x - b_dec) W_enc + b_enc); loss = mean of (x^ - x)^2 / ||x||_2, plus an L1 penalty.

    Attributes
    ----------
    l1_coefficient : float
        Weight of the mean over tokens of sum_j |a_j|.

    References
    ----------
    Dasdelen et al. 2025, "CytoSAE", arXiv 2507.12464; Bricken et al. 2023, "Towards Monosemanticity".
    """

    l1_coefficient: float = 8e-5

    def __post_init__(self) -> None:
        require(self.l1_coefficient >= 0, f"ReluL1 needs l1_coefficient >= 0, not {self.l1_coefficient}.")

    def activations(self, sae: Autoencoder, x: Tensor) -> Activations:
        """All positive scores."""
        return sae.activate(x, Above(0.0))

    def losses(self, sae: Autoencoder, x: Tensor, dead: Tensor | None) -> Losses:
        """The paper's terms; ``auxiliary`` stays 0 (ghost gradients are the trainer's choice)."""
        activations = self.activations(sae, x)
        reconstruction = sae.reconstruct(activations)
        residual = reconstruction - x
        error = residual.square() / x.norm(dim=-1, keepdim=True)
        penalty = self.l1_coefficient * activations.total() / len(x)
        return Losses(error.mean(), penalty, x.new_zeros(()), activations, reconstruction, error, residual)

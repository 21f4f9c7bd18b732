"""TopK: the k largest scores of each token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from cytosae.sae.model.encoder import TopPerToken, activate
from cytosae.sae.model.sparse import Activations
from cytosae.sae.training.dead_latents import auxk_loss
from cytosae.sae.variants.sparsity import Losses, Sparsity, check_k, mean_square, require

if TYPE_CHECKING:
    from cytosae.sae.model.autoencoder import SparseAutoencoder


@dataclass(frozen=True)
class TopK(Sparsity):
    """Keep the k largest scores of each token, as far as they are positive; no penalty is needed.

    Attributes
    ----------
    k : active latents of a token
    aux_k : dead latents of a token that model the residual (AuxK), 0 for none; as a rule half the width of a token
    aux_coefficient : weight of that term

    References
    ----------
    Gao et al. 2024, "Scaling and evaluating sparse autoencoders", arXiv 2406.04093.
    """

    k: int = 32
    aux_k: int = 64
    aux_coefficient: float = 1 / 32

    def __post_init__(self) -> None:
        check_k("TopK", self.k)
        require(self.aux_k >= 0, f"TopK needs aux_k >= 0, not {self.aux_k}.")
        require(self.aux_coefficient >= 0, f"TopK needs aux_coefficient >= 0, not {self.aux_coefficient}.")

    def check(self, d_in: int, d_sae: int) -> None:
        """K must not exceed the number of latents."""
        check_k("TopK", self.k, d_sae)

    def activations(self, sae: SparseAutoencoder, x: Tensor) -> Activations:
        """The k largest scores of each token."""
        return activate(sae, x, TopPerToken(self.k))

    def losses(self, sae: SparseAutoencoder, x: Tensor, dead: Tensor | None) -> Losses:
        """Mean square error, and AuxK while latents are dead."""
        activations = self.activations(sae, x)
        reconstruction = sae.reconstruct(activations)
        residual, auxiliary = reconstruction - x, x.new_zeros(())
        if self.aux_k and dead is not None:
            auxiliary = self.aux_coefficient * auxk_loss(sae, x, -residual, dead, self.aux_k)
        none = x.new_zeros(())
        return Losses(mean_square(residual), none, auxiliary, activations, reconstruction, residual=residual)

"""BatchTopK: k active latents a token on average, shared out within a batch by need."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from cytosae.sae.model.encoder import Above, TopOfBatch, activate
from cytosae.sae.model.sparse import Activations
from cytosae.sae.training.dead_latents import auxk_loss
from cytosae.sae.variants.sparsity import Losses, Sparsity, check_k, mean_square, require

if TYPE_CHECKING:
    from cytosae.sae.model.autoencoder import SparseAutoencoder


@dataclass(frozen=True)
class BatchTopK(Sparsity):
    """In training the k N largest scores of N tokens; at inference all scores above a threshold learned meanwhile.

    The threshold is the running mean of the smallest active score of each batch. It is saved as ``state.threshold``.

    Attributes
    ----------
    k : mean number of active latents of a token
    aux_k : dead latents of a token that model the residual (AuxK), 0 for none; as a rule half the width of a token
    aux_coefficient : weight of that term
    threshold_memory : share of the running threshold that each training batch leaves as it was

    References
    ----------
    Bussmann et al. 2024, "BatchTopK Sparse Autoencoders", arXiv 2412.06410.
    """

    k: int = 32
    aux_k: int = 64
    aux_coefficient: float = 1 / 32
    threshold_memory: float = 0.99

    def __post_init__(self) -> None:
        name = type(self).__name__
        check_k(name, self.k)
        require(self.aux_k >= 0, f"{name} needs aux_k >= 0, not {self.aux_k}.")
        require(self.aux_coefficient >= 0, f"{name} needs aux_coefficient >= 0, not {self.aux_coefficient}.")
        require(
            0 <= self.threshold_memory < 1, f"{name} needs threshold_memory in [0, 1), not {self.threshold_memory}."
        )

    def check(self, d_in: int, d_sae: int) -> None:
        """K must not exceed the number of latents."""
        check_k(type(self).__name__, self.k, d_sae)

    def state(self, d_sae: int) -> dict[str, Tensor]:
        """The inference threshold, -1 until the first training batch has set it."""
        return {"threshold": torch.tensor(-1.0)}

    def activations(self, sae: SparseAutoencoder, x: Tensor) -> Activations:
        """All scores above the learned threshold (all positive ones before any training)."""
        return activate(sae, x, Above(float(sae.state.threshold.clamp_min(0))))

    def losses(self, sae: SparseAutoencoder, x: Tensor, dead: Tensor | None) -> Losses:
        """Mean square error, and AuxK while latents are dead."""
        activations = self.training_activations(sae, x)
        reconstruction = sae.reconstruct(activations)
        residual, none = reconstruction - x, x.new_zeros(())
        auxiliary = self.auxiliary(sae, x, -residual if self.aux_k and dead is not None else residual, dead)
        return Losses(mean_square(residual), none, auxiliary, activations, reconstruction, residual=residual)

    def training_activations(self, sae: SparseAutoencoder, x: Tensor) -> Activations:
        """The k N largest scores; moves the inference threshold."""
        activations = activate(sae, x, TopOfBatch(self.k))
        smallest, threshold = activations.smallest(), sae.state.threshold
        if bool(torch.isfinite(smallest)):
            moved = torch.lerp(smallest, threshold, self.threshold_memory)
            threshold.copy_(torch.where(threshold < 0, smallest, moved))
        return activations

    def auxiliary(self, sae: SparseAutoencoder, x: Tensor, residual: Tensor, dead: Tensor | None) -> Tensor:
        """The weighted AuxK term, () tensor."""
        if not self.aux_k or dead is None:
            return x.new_zeros(())
        return self.aux_coefficient * auxk_loss(sae, x, residual, dead, self.aux_k)

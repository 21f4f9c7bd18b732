"""BatchTopK: k active latents a token on average, shared out within a batch by need."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cytosae.sae.model.interface import Above, TopOfBatch
from cytosae.sae.variants.sparsity import ActiveCount, require

if TYPE_CHECKING:
    from torch import Tensor

    from cytosae.sae.model.interface import Autoencoder
    from cytosae.sae.model.sparse import Activations


@dataclass(frozen=True)
class BatchTopK(ActiveCount):
    """In training the k N largest scores of N tokens; at inference all scores above a threshold learned meanwhile.

    The threshold is the running mean of the smallest active score of each batch. It is saved as ``state.threshold``.

    Attributes
    ----------
    k : int
        Mean number of active latents of a token.
    aux_k : int
        Dead latents of a token that model the residual (AuxK), 0 for none; as a rule half the width of a token.
    aux_coefficient : float
        Weight of that term.
    threshold_memory : float
        Share of the running threshold that each training batch leaves as it was.

    References
    ----------
    Bussmann et al. 2024, "BatchTopK Sparse Autoencoders", arXiv 2412.06410.
    """

    threshold_memory: float = 0.99

    def __post_init__(self) -> None:
        super().__post_init__()
        name, memory = type(self).__name__, self.threshold_memory
        require(0 <= memory < 1, f"{name} needs threshold_memory in [0, 1), not {memory}.")

    def state(self, d_sae: int) -> dict[str, Tensor]:
        """The inference threshold, -1 until the first training batch has set it."""
        import torch

        return {"threshold": torch.tensor(-1.0)}

    def activations(self, sae: Autoencoder, x: Tensor) -> Activations:
        """All scores above the learned threshold (all positive ones before any training)."""
        return sae.activate(x, Above(float(sae.state.threshold.clamp_min(0))))

    def training_activations(self, sae: Autoencoder, x: Tensor) -> Activations:
        """The k N largest scores; moves the inference threshold."""
        activations = sae.activate(x, TopOfBatch(self.k))
        smallest, threshold = activations.smallest(), sae.state.threshold
        if bool(smallest.isfinite()):
            moved = smallest.lerp(threshold, self.threshold_memory)
            threshold.copy_(smallest.where(threshold < 0, moved))
        return activations

"""TopK: the k largest scores of each token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cytosae.sae.model.interface import TopPerToken
from cytosae.sae.variants.sparsity import ActiveCount

if TYPE_CHECKING:
    from torch import Tensor

    from cytosae.sae.model.interface import Autoencoder
    from cytosae.sae.model.sparse import Activations


@dataclass(frozen=True)
class TopK(ActiveCount):
    """Keep the k largest scores of each token, as far as they are positive; no penalty is needed.

    Attributes
    ----------
    k : int
        Active latents of a token.
    aux_k : int
        Dead latents of a token that model the residual (AuxK), 0 for none; as a rule half the width of a token.
    aux_coefficient : float
        Weight of that term.

    References
    ----------
    Gao et al. 2024, "Scaling and evaluating sparse autoencoders", arXiv 2406.04093.
    """

    def activations(self, sae: Autoencoder, x: Tensor) -> Activations:
        """The k largest scores of each token."""
        return sae.activate(x, TopPerToken(self.k))

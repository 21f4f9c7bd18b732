"""What variants, encoder and objectives see of an autoencoder: its weights, and rules that choose active latents.

None of it needs torch to be imported, so that variants can be named, configured and listed without it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from cytosae.sae.model.sparse import Activations
    from cytosae.sae.screening.paths import Screening


@dataclass(frozen=True)
class TopPerToken:
    """The ``k`` largest scores of each token, as far as they are positive."""

    k: int


@dataclass(frozen=True)
class TopOfBatch:
    """The ``k`` N largest scores of a whole batch of N tokens, as far as they are positive."""

    k: int


@dataclass(frozen=True, eq=False)
class Above:
    """All scores greater than ``threshold``, one number or one for each latent (m,)."""

    threshold: Tensor | float


Rule = TopPerToken | TopOfBatch | Above


class Weights(Protocol):
    """Weights in normalised units, and how active latents are searched among them."""

    @property
    def d_sae(self) -> int:
        """Number of latents, m."""
        ...

    @property
    def W_enc(self) -> Tensor:  # noqa: N802
        """(d, m), latent by latent in memory."""
        ...

    @property
    def b_enc(self) -> Tensor:
        """(m,)."""
        ...

    @property
    def W_dec(self) -> Tensor:  # noqa: N802
        """(m, d)."""
        ...

    @property
    def b_dec(self) -> Tensor:
        """(d,)."""
        ...

    @property
    def screening(self) -> Screening:
        """The way to active latents: dense products, or screening."""
        ...


class Autoencoder(Weights, Protocol):
    """What a variant builds on."""

    @property
    def state(self) -> Any:
        """The tensors that the variant asked for, by name."""
        ...

    def activate(self, x: Tensor, rule: Rule, *, latents: Tensor | None = None) -> Activations:
        """Scores of the latents that ``rule`` chooses for normalised tokens (N, d), with their gradient."""
        ...

    def reconstruct(self, activations: Activations) -> Tensor:
        """Normalised tokens (N, d)."""
        ...

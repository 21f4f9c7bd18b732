"""What every variant of sparsity has in common: which latents are active, and what training minimises."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from cytosae.common.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from cytosae.sae.model.interface import Autoencoder
    from cytosae.sae.model.sparse import Activations


class Losses(NamedTuple):
    """Terms of the objective on one batch; training minimises the sum of the first three.

    Attributes
    ----------
    mse : Tensor, shape ()
        Reconstruction term as the variant defines it.
    penalty : Tensor, shape ()
        Sparsity term, 0 where the sparsity is built in.
    auxiliary : Tensor, shape ()
        What revives dead latents.
    activations : Activations
        The activations of the batch.
    reconstruction : Tensor, shape (N, d)
        In normalised units.
    error : Tensor, shape (N, d), or None
        Element-wise reconstruction error as the variant weighs it; None for the plain square.
    residual : Tensor, shape (N, d), or None
        Reconstruction - x where the variant has it at hand.
    """

    mse: Tensor
    penalty: Tensor
    auxiliary: Tensor
    activations: Activations
    reconstruction: Tensor
    error: Tensor | None = None
    residual: Tensor | None = None


@dataclass(frozen=True)
class Sparsity:
    """Base of the variants, each a frozen dataclass that carries its own parameters.

    A variant may own state (a learned threshold): tensors that the autoencoder registers under ``state``. Its file
    imports torch inside functions alone: the command line lists variants and their parameters without waiting for it.
    """

    def check(self, d_in: int, d_sae: int) -> None:
        """Raise `UsageError` if the parameters do not fit an autoencoder of this size."""

    def state(self, d_sae: int) -> dict[str, Tensor]:
        """Tensors that the variant needs; an ``nn.Parameter`` is trained, any other is a saved buffer."""
        return {}

    def activations(self, sae: Autoencoder, x: Tensor) -> Activations:
        """Activations of (N, d) normalised tokens at inference; a token's do not depend on the others."""
        raise NotImplementedError

    def losses(self, sae: Autoencoder, x: Tensor, dead: Tensor | None) -> Losses:
        """Terms of the objective on (N, d) normalised tokens.

        ``dead`` (D,) int64 are the latents that have not fired for the dead window, None where there are none.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class ActiveCount(Sparsity):
    """Base of the variants that fix how many latents are active, k, and revive dead ones by AuxK."""

    k: int = 32
    aux_k: int = 64
    aux_coefficient: float = 1 / 32

    def __post_init__(self) -> None:
        name = type(self).__name__
        require(self.k >= 1, f"{name} needs k >= 1, not {self.k}.")
        require(self.aux_k >= 0, f"{name} needs aux_k >= 0, not {self.aux_k}.")
        require(self.aux_coefficient >= 0, f"{name} needs aux_coefficient >= 0, not {self.aux_coefficient}.")

    def check(self, d_in: int, d_sae: int) -> None:
        """K must not exceed the number of latents."""
        name, k = type(self).__name__, self.k
        require(k <= d_sae, f"{name} has k = {k}, more than the {d_sae} latents; lower k or widen the SAE.")

    def losses(self, sae: Autoencoder, x: Tensor, dead: Tensor | None) -> Losses:
        """Mean square error, and AuxK while latents are dead."""
        from cytosae.sae.model.gradients import mean_square

        activations = self.training_activations(sae, x)
        reconstruction = sae.reconstruct(activations)
        residual = reconstruction - x
        auxiliary = self.auxiliary(sae, x, residual, dead)
        return Losses(mean_square(residual), x.new_zeros(()), auxiliary, activations, reconstruction, residual=residual)

    def training_activations(self, sae: Autoencoder, x: Tensor) -> Activations:
        """Activations in training, where they may depend on the whole batch."""
        return self.activations(sae, x)

    def auxiliary(self, sae: Autoencoder, x: Tensor, residual: Tensor, dead: Tensor | None) -> Tensor:
        """The weighted AuxK term, () tensor; ``residual`` (N, d) is the reconstruction - x."""
        if not self.aux_k or dead is None:
            return x.new_zeros(())
        from cytosae.sae.training.dead_latents import auxk_loss, auxk_weight

        weight = self.aux_coefficient * auxk_weight(x, residual)
        return weight * auxk_loss(sae, x, -residual, dead, self.aux_k)


def require(condition: object, sentence: str) -> None:
    """Raise `UsageError` with ``sentence`` unless ``condition`` holds."""
    if not condition:
        raise UsageError(sentence)

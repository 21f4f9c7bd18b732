"""Matryoshka: nested dictionaries, each prefix of the latents a good one by itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cytosae.sae.variants.batch_topk import BatchTopK
from cytosae.sae.variants.sparsity import Losses, require

if TYPE_CHECKING:
    from torch import Tensor

    from cytosae.sae.model.interface import Autoencoder


@dataclass(frozen=True)
class Matryoshka(BatchTopK):
    """BatchTopK whose first latents must reconstruct alone, too: the coarse concepts come first and are not split.

    The reconstruction term is the mean over the prefixes of their mean square errors. The prefixes' reconstructions are
    running sums, so that they cost no more than one.

    Attributes
    ----------
    prefixes : tuple of float
        Sizes of the nested dictionaries as shares of all latents, ascending, the last one 1.

    References
    ----------
    Bussmann et al. 2025, "Learning Multi-Level Features with Matryoshka Sparse Autoencoders", arXiv 2503.17547.
    """

    prefixes: tuple[float, ...] = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        rising = all(a < b for a, b in zip((0.0, *self.prefixes), self.prefixes, strict=False))
        require(
            rising and self.prefixes and self.prefixes[-1] == 1,
            f"Matryoshka needs ascending prefixes in (0, 1] that end with 1, not {self.prefixes}.",
        )

    def check(self, d_in: int, d_sae: int) -> None:
        """K must not exceed the latents, and no prefix may be empty or equal the next."""
        super().check(d_in, d_sae)
        sizes = self.sizes(d_sae)
        require(
            all(a < b for a, b in zip((0, *sizes), sizes, strict=False)),
            f"Matryoshka's prefixes {self.prefixes} of {d_sae} latents are the sizes {sizes}; choose fewer.",
        )

    def sizes(self, d_sae: int) -> tuple[int, ...]:
        """Number of latents of each prefix."""
        return tuple(round(share * d_sae) for share in self.prefixes)

    def losses(self, sae: Autoencoder, x: Tensor, dead: Tensor | None) -> Losses:
        """Mean over prefixes of the mean square error, and AuxK on the whole dictionary's residual."""
        from cytosae.sae.model.gradients import mean_square

        activations = self.training_activations(sae, x)
        reconstruction, start, mse = sae.b_dec.expand_as(x), 0, x.new_zeros(())
        sizes = self.sizes(sae.d_sae)
        for stop in sizes:
            reconstruction = reconstruction + activations.latents(start, stop).decode(sae.W_dec)
            mse = mse + mean_square(reconstruction - x) / len(sizes)
            start = stop
        auxiliary = self.auxiliary(sae, x, reconstruction - x, dead)
        return Losses(mse, x.new_zeros(()), auxiliary, activations, reconstruction)

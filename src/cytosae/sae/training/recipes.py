"""Named ways to make an SAE: sparsity, normalisation, width and training together."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cytosae.sae.model.choices import (
    Independent,
    Initialisation,
    MeanNorm,
    NoNormalisation,
    Normalisation,
    Tied,
)
from cytosae.sae.training.config import TrainConfig
from cytosae.sae.variants import AnySparsity, ReluL1, TopK

if TYPE_CHECKING:
    from cytosae.sae.model.autoencoder import SparseAutoencoder


@dataclass(frozen=True)
class Recipe:
    """An SAE and its training, for tokens of any width.

    Attributes
    ----------
    sparsity : AnySparsity
        Which latents are active, and what training minimises.
    normalisation : Normalisation
        What is done to tokens before they are encoded, and undone after they are decoded.
    initialisation : Initialisation
        Where the weights start.
    expansion : int
        Latents for each dimension of a token (m = expansion * d).
    train : TrainConfig
        The training.

    Examples
    --------
    >>> from cytosae.sae import RECIPES, Recipe, TopK
    >>> sae = Recipe(TopK(k=8, aux_k=0), expansion=4).build(d_in=16)
    >>> sae.d_sae
    64
    >>> RECIPES["paper"].train.steps
    15625
    """

    sparsity: AnySparsity = field(default_factory=lambda: TopK(k=32, aux_k=64))
    normalisation: Normalisation = field(default_factory=MeanNorm)
    initialisation: Initialisation = field(default_factory=Tied)
    expansion: int = 16
    train: TrainConfig = field(default_factory=TrainConfig)

    def build(self, d_in: int, *, seed: int | None = None) -> SparseAutoencoder:
        """An untrained SAE for tokens of width ``d_in``; ``seed`` of its weights, by default that of the training."""
        from cytosae.sae.model.autoencoder import SparseAutoencoder

        return SparseAutoencoder(
            d_in,
            self.expansion * d_in,
            self.sparsity,
            self.normalisation,
            initialisation=self.initialisation,
            seed=self.train.seed if seed is None else seed,
        )


PAPER = Recipe(ReluL1(l1_coefficient=8e-5), NoNormalisation(), Independent(), 64, TrainConfig.paper())
DEFAULT = Recipe()

RECIPES = {"default": DEFAULT, "paper": PAPER}

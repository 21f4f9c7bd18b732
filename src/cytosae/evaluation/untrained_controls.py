"""What learning is compared with: dictionaries that have learnt less or nothing, a backbone with random weights."""

from __future__ import annotations

import copy
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from cytosae.sae import SparseAutoencoder, Trainer
from cytosae.sae.training.recipes import Recipe
from cytosae.tokens import ReaderConfig, TokenReader, TokenStore

if TYPE_CHECKING:
    from cytosae.backbones import Backbone

SOFT = 0.8
"""Smallest cosine between a row of a soft-frozen decoder and where it began (arXiv 2602.14111)."""


TRAINED = ("frozen decoder", "soft-frozen decoder", "another seed")
"""Controls that are trained: random directions stay and only the encoder learns; rows of the decoder keep a cosine of
`SOFT` with where they began; everything learns."""


@dataclass(frozen=True)
class MatchedLatents:
    """Random directions, each active on as many tokens as its latent of a trained SAE.

    Attributes
    ----------
    sae : SparseAutoencoder
        The trained one; its normalisation and b_dec are used, none of its directions.
    directions : Tensor, shape (m, d)
        Of norm 1.
    thresholds : Tensor, shape (m,)
        Above which a latent is active.
    scale : float
        That which makes the reconstruction best.
    centre : Tensor, shape (d,)
        Mean of the scaled reconstructions less that of the tokens, in normalised units.
    """

    sae: SparseAutoencoder
    directions: Tensor
    thresholds: Tensor
    scale: float
    centre: Tensor

    @torch.no_grad()
    def encode(self, x: Tensor, positions: Tensor) -> Tensor:
        """Activations [N, m] of tokens [N, d]."""
        return torch.relu(_centred(self.sae, x, positions) @ self.directions.T - self.thresholds)

    @torch.no_grad()
    def reconstruct(self, x: Tensor, positions: Tensor) -> Tensor:
        """Tokens [N, d] of tokens [N, d]."""
        made = self.scale * (self.encode(x, positions) @ self.directions) - self.centre
        return self.sae.normaliser.inverse(made + self.sae.b_dec, positions)


@torch.no_grad()
def matched_latents(sae: SparseAutoencoder, x: Tensor, positions: Tensor, *, seed: int = 0) -> MatchedLatents:
    """Random latents that are active as often as those of ``sae`` on the tokens ``x`` [N, d].

    Without matching, a random dictionary would lose by being active too often or too rarely. The scale of the
    reconstruction is fitted by least squares, which favours this control.
    """
    rng = torch.Generator().manual_seed(seed)
    directions = torch.randn(sae.d_sae, sae.d_in, generator=rng)
    directions /= directions.norm(dim=1, keepdim=True)
    active = (sae.encode_sparse(x, positions).to_dense() > 0).sum(0)
    centred = _centred(sae, x, positions)
    scores = (centred @ directions.T).sort(dim=0, descending=True).values
    # a latent that is silent here is active more rarely than on one of these tokens: above the largest score
    last = scores.gather(0, (active.clamp(1, len(x)) - 1)[None])[0]
    below = scores.gather(0, active.clamp(max=len(x) - 1)[None])[0]
    thresholds = torch.where(active > 0, (last + below) / 2, scores[0])
    made = torch.relu(centred @ directions.T - thresholds) @ directions
    spread = made - made.mean(0)
    scale = float((spread * (centred - centred.mean(0))).sum() / spread.square().sum().clamp_min(1e-30))
    return MatchedLatents(sae, directions, thresholds, scale, scale * made.mean(0) - centred.mean(0))


def train_controls(
    recipe: Recipe,
    stores: Sequence[TokenStore],
    *,
    which: Any = "all",
    seed: int = 1,
    names: Collection[str] = TRAINED,
) -> dict[str, SparseAutoencoder]:
    """Train some or all of `TRAINED` on one reading; each comes out as it would by itself."""
    saes = {name: recipe.build(stores[0].width, seed=seed + i) for i, name in enumerate(TRAINED) if name in names}
    reader = TokenReader(
        stores, ReaderConfig(batch_tokens=recipe.train.batch_tokens, which=which, seed=recipe.train.seed)
    )
    held = [(saes[name], least) for name, least in zip(TRAINED, (1.0, SOFT), strict=False) if name in saes]
    holding = _Holding(reader, held)
    Trainer(list(saes.values()), recipe.train, names=list(saes)).fit(holding)
    holding.hold()
    return {name: sae.eval() for name, sae in saes.items()}


class _Holding:
    """A reader that, before each batch, turns decoder rows back to where they may be."""

    def __init__(self, reader: TokenReader, held: Sequence[tuple[SparseAutoencoder, float]]) -> None:
        self.reader, self.held = reader, held
        self.began: list[Tensor] = []

    def __next__(self) -> Any:
        if not self.began:  # weights may be set from the sample first
            self.began = [_of_norm_1(sae.W_dec.detach()).clone() for sae, _ in self.held]
        self.hold()
        return next(self.reader)

    @torch.no_grad()
    def hold(self) -> None:
        for (sae, least), began in zip(self.held, self.began, strict=True):
            sae.W_dec.copy_(turned_back(sae.W_dec, began, least))

    def sample(self, n: int, seed: int) -> Any:
        return self.reader.sample(n, seed)

    def state_dict(self) -> dict[str, Any]:
        return self.reader.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.reader.load_state_dict(state)


def turned_back(rows: Tensor, began: Tensor, least: float) -> Tensor:
    """Rows of norm 1, each with a cosine of at least ``least`` with its row of ``began`` (of norm 1)."""
    rows = _of_norm_1(rows)
    cosine = (rows * began).sum(1, keepdim=True)
    aside = _of_norm_1(rows - cosine * began)
    edge = least * began + (1 - least**2) ** 0.5 * aside
    return torch.where(cosine >= least, rows, edge)


def random_backbone(backbone: Backbone, seed: int = 0) -> Backbone:
    """Copy of a backbone in which the entries of every weight are dealt out anew; sizes and spreads stay."""
    control = copy.deepcopy(backbone)
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in control.model.parameters():
            flat = weight.reshape(-1)
            weight.copy_(flat[torch.randperm(len(flat), generator=rng)].view_as(weight))
    control.name, control.weights_hash = f"{backbone.name}, random weights", f"random-{seed}"
    return control


def _centred(sae: SparseAutoencoder, x: Tensor, positions: Tensor) -> Tensor:
    return sae.normaliser(x.float(), positions) - sae.b_dec.detach()


def _of_norm_1(rows: Tensor) -> Tensor:
    return rows / rows.norm(dim=1, keepdim=True).clamp_min(1e-12)

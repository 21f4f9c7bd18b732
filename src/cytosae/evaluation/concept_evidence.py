"""Is one concept real? What a latent shows, beside latents of random weights that are active as often."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from cytosae.atlas.encoding.token_activations import mean_tokens
from cytosae.atlas.making.statistics import label_entropy
from cytosae.atlas.places.maps import reference_maps
from cytosae.atlas.places.unit_search import iou
from cytosae.cells.focus.patch_grid import Grid
from cytosae.evaluation.unit_meanings import monosemanticity, structure_beyond
from cytosae.evaluation.unit_scores import aucs
from cytosae.sae import SparseAutoencoder
from cytosae.tokens import TokenStore

CELLS, RANDOM = 800, 60
"""Cells that are looked at, evenly over the store, and random latents."""
MAPPED = 16
"""Strongest cells of each latent whose maps are looked at."""
REFERENCES, FEWEST_OF_CLASS, FEWEST_PATCHES, BATCH = 10, 10, 3, 32
MEASURES: dict[str, tuple[str, int]] = {
    "label_entropy": ("label entropy", -1),
    "class_auc": ("AUC of its best class", 1),
    "monosemanticity": ("monosemanticity", 1),
    "spatial_structure": ("spatial structure", 1),
    "localisation": ("localisation", 1),
}
"""Measure -> words, and whether more (1) or less (-1) of it speaks for a concept."""


@dataclass(frozen=True)
class ConceptEvidence:
    """What was found.

    Attributes
    ----------
    value : dict of str to float
        Measure (a key of `MEASURES`) -> that of the latent, NaN where it cannot be told.
    random : dict of str to ndarray of float, shape (n,)
        The same of the random latents for which it can be told.
    cells : int
        Cells that were looked at.
    """

    value: Mapping[str, float]
    random: Mapping[str, NDArray[np.float64]]
    cells: int

    def better_than(self, measure: str) -> float:
        """Share of the random latents that the latent is better than; NaN where one side is not known."""
        value, random, sign = self.value[measure], self.random[measure], MEASURES[measure][1]
        return float((sign * (value - random) > 0).mean()) if np.isfinite(value) and len(random) else float("nan")


@dataclass(frozen=True)
class Latent:
    """A latent, and what its atlas knows of it.

    Attributes
    ----------
    number : int
        In 0..m-1.
    values : ndarray of float, shape (n,)
        Mean activation of each cell of the store.
    frequency : float
        Share of the tokens on which it is active.
    """

    number: int
    values: NDArray[np.floating]
    frequency: float


def beside_random(
    sae: SparseAutoencoder,
    store: TokenStore,
    latent: Latent,
    labels: Sequence[str | None],
    *,
    areas: Mapping[int, NDArray[np.floating]] | None = None,
    seed: int = 0,
) -> ConceptEvidence:
    """Measure a latent and, on the same cells in the same way, random directions.

    A random latent is max(0, score - threshold) along a random direction, its threshold such that it is active on as
    many tokens as the latent. Measures (docs/atlas.md): entropy of the labels of the ten strongest cells; AUC for the
    class for which it is largest; monosemanticity; Moran's I of the maps of the strongest cells less that of their
    patches shuffled; overlap (IoU) of the map with the cell or its nucleus, whichever is more, on the latent's own
    strongest cells, where a random latent marks as many patches: those where its score is largest.

    Parameters
    ----------
    sae : SparseAutoencoder
        Of m latents.
    store : TokenStore
        Tokens of n cells.
    latent : Latent
        What is judged.
    labels : sequence of str or None
        Class of each cell of the store.
    areas : mapping of int to ndarray, shape (2, P), or None
        Row of a cell -> share of each patch that its nucleus and the rest of it cover; at least of `strongest`.
    seed : int
        Of the directions and the shuffling.
    """
    rows, rng = sampled(store), np.random.default_rng(seed)
    scores, means = _scores(sae, store, rows, _directions(sae, seed))
    counted = None if store.counted is None else store.counted[rows]
    random = np.maximum(scores - _thresholds(scores, counted, latent.frequency), 0)
    if counted is not None:
        random *= counted[:, :, None]
    tokens = scores.shape[1] if counted is None else counted.sum(1)[:, None]
    values = np.column_stack([latent.values[rows], random.sum(1) / tokens])
    names = np.array([labels[row] or "" for row in rows], dtype=object)
    own = strongest(store, latent)
    maps = reference_maps(store, [(int(row), latent.number) for row in own], sae=sae)
    found = {
        "label_entropy": _entropies(values, names),
        "class_auc": _best_aucs(values, names),
        "monosemanticity": monosemanticity(values, means),
        "spatial_structure": np.r_[
            _structure(np.array([maps[int(row), latent.number].ravel() for row in own]), store.grid, rng),
            [_structure(random[_top(values[:, 1 + u]), 1:, u], store.grid, rng) for u in range(RANDOM)],
        ],
        "localisation": np.full(1 + RANDOM, np.nan),
    }
    if areas is not None and len(own):
        marked = np.array([maps[int(row), latent.number].ravel() for row in own])
        at = np.searchsorted(rows, own)
        found["localisation"] = _overlaps(marked > 0, scores[at, 1:], np.array([areas[int(row)] for row in own]))
    return ConceptEvidence(
        {name: float(of[0]) if len(own) else float("nan") for name, of in found.items()},
        {name: of[1:][np.isfinite(of[1:])] for name, of in found.items()},
        len(rows),
    )


def sampled(store: TokenStore) -> NDArray[np.intp]:
    """Rows of the cells that are looked at."""
    return np.unique(np.linspace(0, len(store) - 1, min(CELLS, len(store))).round().astype(int))


def strongest(store: TokenStore, latent: Latent) -> NDArray[np.intp]:
    """Rows, ascending, of the sampled cells on which a latent is strongest."""
    rows = sampled(store)
    return np.sort(rows[_top(latent.values[rows])])


def _top(values: NDArray[np.floating]) -> NDArray[np.intp]:
    order = np.argsort(-values, kind="stable")[:MAPPED]
    return order[values[order] > 0]


def _directions(sae: SparseAutoencoder, seed: int) -> torch.Tensor:
    """Random directions of norm 1, (d, RANDOM)."""
    made = torch.randn(RANDOM, sae.d_in, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(made, dim=1).T


@torch.no_grad()
def _scores(
    sae: SparseAutoencoder, store: TokenStore, rows: NDArray[np.intp], directions: torch.Tensor
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Scores (c, T, RANDOM) of the centred tokens along the directions, and the mean tokens (c, D)."""
    scores, means = [], []
    for at in range(0, len(rows), BATCH):
        block = rows[at : at + BATCH]
        tokens = torch.cat([store.read(int(row), int(row) + 1) for row in block]).float()
        means.append(mean_tokens(tokens, None if store.counted is None else store.counted[block]))
        b, T, D = tokens.shape
        flat = tokens.reshape(b * T, D).to(sae.device)
        centred = sae.normaliser(flat, torch.arange(T, device=sae.device).repeat(b)) - sae.b_dec
        scores.append((centred.cpu() @ directions).reshape(b, T, -1).numpy())
    return np.concatenate(scores), np.concatenate(means)


def _thresholds(
    scores: NDArray[np.float32], counted: NDArray[np.bool_] | None, frequency: float
) -> NDArray[np.float32]:
    """Threshold of each random latent, (RANDOM,), above which lies the share ``frequency`` of the tokens that count."""
    flat = scores.reshape(-1, scores.shape[2]) if counted is None else scores[counted]
    active = min(max(round(frequency * len(flat)), 1), len(flat) - 1)
    return -np.partition(-flat, active, axis=0)[active]


def _entropies(values: NDArray[np.floating], names: NDArray[np.object_]) -> NDArray[np.float64]:
    kinds, codes = np.unique(names.astype(str), return_inverse=True)
    codes = np.where(names == "", -1, codes)
    order = np.argsort(-values, axis=0, kind="stable")[:REFERENCES].T
    return label_entropy(np.take_along_axis(values.T, order, 1), codes[order], len(kinds))


def _best_aucs(values: NDArray[np.floating], names: NDArray[np.object_]) -> NDArray[np.float64]:
    known = names != ""
    kinds, cells = np.unique(names[known].astype(str), return_counts=True)
    enough = kinds[(cells >= FEWEST_OF_CLASS) & (cells < known.sum())]
    found = [aucs(values[known], names[known] == kind) for kind in enough]
    return np.max(found, axis=0) if found else np.full(values.shape[1], np.nan)


def _structure(maps: NDArray[np.floating], grid: Grid, rng: np.random.Generator) -> float:
    """Mean Moran's I of maps (n, P) with enough active patches, less that of the same patches shuffled."""
    if not len(maps) or not (used := (maps > 0).sum(1) >= FEWEST_PATCHES).any():
        return float("nan")
    return structure_beyond(maps[used], rng.permuted(maps[used], axis=1), grid)


def _overlaps(
    marked: NDArray[np.bool_], scores: NDArray[np.floating], areas: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Overlap of the latent's maps (n, P), then of each random latent's, with nucleus or cell: (1 + RANDOM,)."""
    order = np.argsort(-scores, axis=1, kind="stable")
    ranks = np.argsort(order, axis=1, kind="stable")
    as_many = ranks < marked.sum(1)[:, None, None]
    units = np.concatenate([marked[:, :, None], as_many], axis=2)
    structures = (areas[:, 0], areas[:, 0] + areas[:, 1])
    each = [[iou(units[:, :, u], area).mean() for u in range(units.shape[2])] for area in structures]
    return np.max(each, axis=0)

"""The SAE and its controls as families of units, each with its way of decoding."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from cytosae.evaluation.dictionary_quality import Family, Reconstruct
from cytosae.evaluation.quality_table import RANDOM_WEIGHTS, SUBJECT
from cytosae.evaluation.units import (
    TokenRows,
    Units,
    centroid_units,
    component_units,
    neuron_units,
    sae_units,
)
from cytosae.evaluation.untrained_controls import TRAINED, MatchedLatents, matched_latents

if TYPE_CHECKING:
    from cytosae.evaluation.config import QualityConfig
    from cytosae.sae import SparseAutoencoder

RANDOM_BACKBONE = "SAE on a random backbone"
FAMILIES = (
    *(SUBJECT, *TRAINED, RANDOM_WEIGHTS),
    *("backbone neurons", "principal components", "k-means", RANDOM_BACKBONE),
)
"""All families, in their order."""


def quality_families(
    sae: SparseAutoencoder,
    store: TokenRows,
    config: QualityConfig,
    *,
    trained: Mapping[str, SparseAutoencoder] | None = None,
    random_backbone: tuple[SparseAutoencoder, TokenRows] | None = None,
) -> dict[str, Family]:
    """The families that `measure_quality` compares.

    ``trained`` are dictionaries from `train_controls`, ``random_backbone`` an SAE with the tokens that it was trained
    on, of the same cells. Principal components reconstruct with as many components a token as the SAE has active
    latents, k-means with the nearest centroid.
    """
    x, positions = _sample(store, config)
    sae = sae.eval()
    l0 = float((sae.encode_sparse(x, positions).to_dense() > 0).sum(1).float().mean())
    components = component_units(x)
    centroids = centroid_units(x, config.clusters, seed=config.seed)
    matched = matched_latents(sae, x, positions, seed=config.seed)
    families = {SUBJECT: _of_sae(sae, SUBJECT)}
    families |= {name: _of_sae(one.eval(), name) for name, one in (trained or {}).items()}
    families[RANDOM_WEIGHTS] = _of_matched(matched)
    families["backbone neurons"] = Family(neuron_units(x.shape[1]), sparse=False)
    families["principal components"] = Family(components, _by_components(x, round(l0)), sparse=False)
    families["k-means"] = Family(centroids, _by_centroids(centroids, x), sparse=False)
    if random_backbone is not None:
        other, source = random_backbone
        families[RANDOM_BACKBONE] = Family(sae_units(other.eval(), RANDOM_BACKBONE), _through(other), source=source)
    return families


def _of_sae(sae: SparseAutoencoder, name: str) -> Family:
    return Family(sae_units(sae, name), _through(sae))


def _through(sae: SparseAutoencoder) -> Reconstruct:
    def reconstruct(tokens: Tensor) -> Tensor:
        flat, positions = _flat(tokens)
        return sae(flat, positions).view(tokens.shape)

    return reconstruct


def _of_matched(matched: MatchedLatents) -> Family:
    def activate(tokens: Tensor) -> np.ndarray:
        return matched.encode(*_flat(tokens)).numpy()

    def reconstruct(tokens: Tensor) -> Tensor:
        return matched.reconstruct(*_flat(tokens)).view(tokens.shape)

    units = Units(RANDOM_WEIGHTS, len(matched.directions), signed=False, activate=activate)
    return Family(units, reconstruct)


def _by_components(x: Tensor, kept: int) -> Reconstruct:
    """Each token from its ``kept`` largest components, as many numbers as an SAE has for it."""
    centre = x.mean(0)
    vectors = torch.linalg.svd((x - centre).double(), full_matrices=False).Vh.T.float()

    def reconstruct(tokens: Tensor) -> Tensor:
        scores = (tokens - centre) @ vectors
        cut = scores.abs().topk(min(max(kept, 1), scores.shape[-1]), dim=-1).values[..., -1:]
        return torch.where(scores.abs() >= cut, scores, torch.zeros_like(scores)) @ vectors.T + centre

    return reconstruct


def _by_centroids(units: Units, x: Tensor) -> Reconstruct:
    """Each token as the mean of the sampled tokens that are nearest to the same centroid."""
    nearest = torch.from_numpy(np.asarray(units.activate(x[:, None])).argmax(1))
    sums = torch.zeros(units.count, x.shape[1]).index_add_(0, nearest, x)
    means = sums / torch.bincount(nearest, minlength=units.count).clamp_min(1)[:, None]

    def reconstruct(tokens: Tensor) -> Tensor:
        return means[torch.from_numpy(np.asarray(units.activate(tokens)).argmax(1))].view(tokens.shape)

    return reconstruct


def _sample(store: TokenRows, config: QualityConfig) -> tuple[Tensor, Tensor]:
    """Tokens [N, D] with positions [N], spread evenly over cells, CLS among them."""
    rng = np.random.default_rng([config.seed, 5])
    T = int(store.read(0, 1).shape[1])
    cells = np.unique(np.linspace(0, len(store) - 1, min(len(store), 128)).astype(int))
    each = min(max(config.sample // len(cells), 1), T)
    parts, places = [], []
    for row in cells:
        chosen = torch.from_numpy(np.sort(rng.choice(T, each, replace=False)))
        parts.append(store.read(int(row), int(row) + 1)[0, chosen].float())
        places.append(chosen)
    return torch.cat(parts), torch.cat(places)


def _flat(tokens: Tensor) -> tuple[Tensor, Tensor]:
    b, T, D = tokens.shape
    return tokens.reshape(b * T, D).float(), torch.arange(T).repeat(b)

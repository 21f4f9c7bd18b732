"""Candidates for a concept: the latents of an SAE, and what they are compared with, behind one interface."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray

from cytosae.atlas.encoding.token_activations import encode_cells

if TYPE_CHECKING:
    from cytosae.sae import SparseAutoencoder

Activations = Any
"""[tokens, units]: a dense float32 array, or a sparse one (``scipy.sparse.csr_array``) that holds values > 0 only."""
BATCH_BYTES = 64 << 20
"""Largest batch of activations, were it dense."""


class TokenRows(Protocol):
    """Tokens of n cells, read piece by piece (`cytosae.tokens.TokenStore` is one)."""

    def __len__(self) -> int: ...
    def read(self, start: int, stop: int) -> torch.Tensor:
        """Float32 tokens [stop - start, T, D] of cells [start, stop), CLS first."""
        ...


@dataclass(frozen=True)
class Units:
    """A family of units, each a number for every token.

    Attributes
    ----------
    name : str
        Of the family.
    count : int
        Units.
    signed : bool
        Whether a unit may stand for a concept by its small values as well as by its large ones.
    activate : callable
        Tokens [b, T, D] -> activations [b * T, count].
    """

    name: str
    count: int
    signed: bool
    activate: Callable[[torch.Tensor], Activations]


def sae_units(sae: SparseAutoencoder, name: str) -> Units:
    """The latents of an SAE."""

    def activate(tokens: torch.Tensor) -> Activations:
        found = encode_cells(sae, tokens)
        found.eliminate_zeros()
        return found

    return Units(name, sae.d_sae, signed=False, activate=activate)


def neuron_units(width: int, name: str = "backbone neurons") -> Units:
    """The numbers of a token themselves."""
    return Units(name, width, signed=True, activate=lambda tokens: _flat(tokens).numpy())


def component_units(sample: torch.Tensor, name: str = "principal components") -> Units:
    """All principal components of a sample of tokens [N, D]."""
    centre = sample.double().mean(0)
    centred = sample.double() - centre
    vectors = torch.linalg.eigh(centred.T @ centred / len(sample)).eigenvectors.flip(1).float()
    offset = centre.float()
    width = sample.shape[1]
    return Units(name, width, signed=True, activate=lambda tokens: ((_flat(tokens) - offset) @ vectors).numpy())


def centroid_units(sample: torch.Tensor, clusters: int, *, seed: int = 0, name: str = "k-means") -> Units:
    """Centroids of a sample of tokens [N, D]; a token's value is the squared distance to one, negative."""
    from sklearn.cluster import MiniBatchKMeans

    clusters = min(clusters, len(sample))
    options: dict[str, Any] = {"batch_size": 4096, "n_init": 1, "max_iter": 30}
    model = MiniBatchKMeans(clusters, random_state=seed, **options).fit(sample.numpy())
    centres = torch.from_numpy(np.asarray(model.cluster_centers_, np.float32))
    squares = (centres**2).sum(1)

    def activate(tokens: torch.Tensor) -> Activations:
        x = _flat(tokens)
        return (2 * x @ centres.T - squares - (x**2).sum(1, keepdim=True)).numpy()

    return Units(name, clusters, signed=False, activate=activate)


def place_units(maps: NDArray[np.floating], name: str = "place in the image") -> Units:
    """Fixed maps [P, S], the same for every cell: what knowing only where things usually lie is worth."""
    with_cls = np.vstack([np.zeros((1, maps.shape[1])), maps]).astype(np.float32)
    return Units(name, maps.shape[1], signed=False, activate=lambda tokens: np.tile(with_cls, (len(tokens), 1)))


def sample_tokens(source: TokenRows, rows: Sequence[int] | NDArray[np.integer], count: int, seed: int) -> torch.Tensor:
    """At most ``count`` tokens [N, D] of the cells ``rows``, as many of each cell; CLS tokens are left out."""
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.permutation(np.asarray(rows))[:count])
    parts = []
    for row in chosen:
        patches = source.read(int(row), int(row) + 1)[0, 1:]
        each = min(len(patches), max(count // len(chosen), 1))
        parts.append(patches[torch.from_numpy(np.sort(rng.choice(len(patches), each, replace=False)))])
    return torch.cat(parts)


def activations(units: Units, source: TokenRows, rows: NDArray[np.integer]) -> Iterator[Activations]:
    """Activations of the cells ``rows`` (ascending), batch by batch: [b * T, units] each, CLS first in every cell."""
    width = int(source.read(0, 1).shape[1])
    size = max(1, BATCH_BYTES // (4 * width * units.count))
    for start in range(0, len(rows), size):
        wanted = rows[start : start + size]
        if wanted[-1] - wanted[0] + 1 == len(wanted):
            tokens = source.read(int(wanted[0]), int(wanted[-1]) + 1)
        else:
            tokens = torch.cat([source.read(int(row), int(row) + 1) for row in wanted])
        yield units.activate(tokens)


def patch_values(units: Units, source: TokenRows, rows: NDArray[np.integer]) -> Activations:
    """Activations of the patches of the cells ``rows``, [len(rows) * P, units]; CSR for sparse units."""
    T = int(source.read(0, 1).shape[1])
    parts = []
    for batch in activations(units, source, rows):
        parts.append(batch[np.flatnonzero(np.arange(batch.shape[0]) % T)])
    return _stacked(parts)


def cell_values(units: Units, source: TokenRows, rows: NDArray[np.integer]) -> Activations:
    """Mean activation over all tokens of the cells ``rows``, [len(rows), units]; CSR for sparse units."""
    T = int(source.read(0, 1).shape[1])
    parts = []
    for batch in activations(units, source, rows):
        n = batch.shape[0] // T
        if sp.issparse(batch):
            mean = sp.csr_array((np.full(n * T, 1 / T, np.float32), np.arange(n * T), np.arange(0, n * T + 1, T)))
            parts.append(sp.csr_array(mean @ batch))
        else:
            parts.append(np.asarray(batch).reshape(n, T, -1).mean(1))
    return _stacked(parts)


def columns(values: Activations, chosen: NDArray[np.integer] | slice) -> NDArray[np.float32]:
    """Some units' values, dense."""
    block = values[:, chosen]
    return np.asarray(block.toarray() if sp.issparse(block) else block, np.float32)


def _flat(tokens: torch.Tensor) -> torch.Tensor:
    return tokens.reshape(-1, tokens.shape[-1]).float()


def _stacked(parts: list[Any]) -> Activations:
    return sp.csr_array(sp.vstack(parts, format="csr")) if sp.issparse(parts[0]) else np.concatenate(parts)

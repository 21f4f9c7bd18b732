"""How good an SAE is on given tokens: one streaming pass, all figures from sums."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cytosae.common.devices import double_device, to_double
from cytosae.common.errors import InputError
from cytosae.sae.model.autoencoder import SparseAutoencoder

WHITENING_FLOOR = 1e-3
"""Share of the mean eigenvalue added to each, as in `token_normalisation.Whitening`."""
BLOCK_TOKENS = 4096


@dataclass(frozen=True)
class Metrics:
    """Figures of an SAE on ``n_tokens`` tokens; x a token, x^ its reconstruction in the tokens' own units.

    Attributes
    ----------
    mse : float
        Mean over tokens and dimensions of (x - x^)^2.
    explained_variance : float
        1 - sum ||x - x^||^2 / sum ||x - mean(x)||^2.
    explained_variance_after_position : float
        1 - sum ||x - x^||^2 / sum ||x - mean at x's position||^2, the share explained of what the means of the
        positions leave.
    explained_variance_whitened : float
        1 - sum ||x - x^||_W^2 / sum ||x - mean(x)||_W^2, where C is the tokens' covariance and ||v||_W^2 = v^T (C +
        floor)^-1 v: every direction counts alike.
    l0 : float
        Mean number of active latents of a token.
    dead_share : float
        Share of latents that are active on none of the tokens.
    n_tokens : int
        Tokens looked at.
    """

    mse: float
    explained_variance: float
    explained_variance_after_position: float
    explained_variance_whitened: float
    l0: float
    dead_share: float
    n_tokens: int


@torch.no_grad()
def evaluate(sae: SparseAutoencoder, source: Any, n_tokens: int | None = None) -> Metrics:
    """Measure ``sae`` on tokens.

    Parameters
    ----------
    source : object
        Batches with ``tokens`` (N, d) and ``positions`` (N,) (any iterable, e.g. a `TokenReader`), or a `TokenStore`,
        of which cells spread evenly over the whole are taken.
    n_tokens : int or None
        At most so many tokens; needed for a reader, which has no end.

    Raises
    ------
    InputError
        where the source has no tokens.
    """
    sums = _Sums(sae)
    left = n_tokens
    for tokens, positions in _batches(source, n_tokens):
        if left is not None:
            tokens, positions = tokens[:left], positions[:left]
            left -= len(tokens)
        for start in range(0, len(tokens), BLOCK_TOKENS):
            sums.add(tokens[start : start + BLOCK_TOKENS], positions[start : start + BLOCK_TOKENS])
        if left == 0:
            break
    return sums.metrics()


class _Sums:
    """What `Metrics` needs of the tokens seen so far, in float64."""

    def __init__(self, sae: SparseAutoencoder) -> None:
        d, self.sae = sae.d_in, sae
        self.count = self.active = 0
        self.fired = torch.zeros(sae.d_sae, dtype=torch.bool, device=sae.device)
        self.device = double_device(sae.device)
        self.origin = torch.zeros(d, dtype=torch.float64, device=self.device)
        self.moment = torch.zeros(d, d, dtype=torch.float64, device=self.device)
        self.error_moment = torch.zeros_like(self.moment)
        self.position_sums = torch.zeros(0, d, dtype=torch.float64, device=self.device)
        self.position_counts = torch.zeros(0, dtype=torch.float64, device=self.device)

    def add(self, tokens: Tensor, positions: Tensor) -> None:
        tokens = tokens.to(self.sae.device)
        activations = self.sae.activations(tokens, positions)
        decoded = self.sae.normaliser.inverse(self.sae.reconstruct(activations), positions)
        tokens, error = to_double(tokens), to_double(tokens) - to_double(decoded)
        positions = positions.to(self.device)
        if self.count == 0:
            self.origin = tokens.mean(0)  # sums around a point near the mean do not cancel
        x = tokens - self.origin
        self.count += len(x)
        self.active += activations.active()
        self.fired |= activations.fired()
        self.moment.addmm_(x.T, x)
        self.error_moment.addmm_(error.T, error)
        more = int(positions.max()) + 1 - len(self.position_counts)
        if more > 0:
            self.position_sums = torch.cat([self.position_sums, self.position_sums.new_zeros(more, x.shape[1])])
            self.position_counts = torch.cat([self.position_counts, self.position_counts.new_zeros(more)])
        self.position_sums.index_add_(0, positions, x)
        self.position_counts.index_add_(0, positions, x.new_ones(len(x)))

    def metrics(self) -> Metrics:
        if self.count == 0:
            raise InputError("there are no tokens to evaluate the SAE on; extract tokens first.")
        squared_error = float(self.error_moment.trace())
        total = self.position_sums.sum(0)
        scatter = self.moment - torch.outer(total, total) / self.count
        seen = self.position_counts > 0
        between = self.position_sums[seen].square().sum(1) / self.position_counts[seen]
        within = float(self.moment.trace() - between.sum())
        values, vectors = torch.linalg.eigh(scatter / self.count)
        values = values.clamp_min(0)
        weights = 1 / (values + WHITENING_FLOOR * values.mean()).clamp_min(1e-300)
        error_along = torch.einsum("ij,ik,kj->j", vectors, self.error_moment / self.count, vectors)
        return Metrics(
            mse=squared_error / self.count / self.sae.d_in,
            explained_variance=_explained(squared_error, float(scatter.trace())),
            explained_variance_after_position=_explained(squared_error, within),
            explained_variance_whitened=_explained(float(weights @ error_along), float(weights @ values)),
            l0=self.active / self.count,
            dead_share=1 - int(self.fired.sum()) / self.sae.d_sae,
            n_tokens=self.count,
        )


def _explained(error: float, variance: float) -> float:
    return 1 - error / variance if variance > 0 else float("nan")


def _batches(source: Any, n_tokens: int | None) -> Iterator[tuple[Tensor, Tensor]]:
    if not hasattr(source, "read") or not hasattr(source, "n_tokens"):
        yield from ((batch.tokens, batch.positions) for batch in _iterable(source))
        return
    cells = len(source)
    wanted = cells if n_tokens is None else min(-(-n_tokens // source.n_tokens), cells)
    for start, stop in _spread(cells, wanted):
        tokens = source.read(start, stop)
        positions = torch.arange(tokens.shape[1]).repeat(len(tokens))
        yield tokens.flatten(0, 1), positions


def _iterable(source: Any) -> Iterable[Any]:
    if hasattr(source, "__iter__"):
        return source
    return iter(lambda: next(source), None)


def _spread(cells: int, wanted: int, run: int = 16) -> Iterator[tuple[int, int]]:
    """Disjoint runs of cells, ``wanted`` cells in all, spread evenly over ``cells``."""
    runs = -(-wanted // run)
    for i in range(runs):
        size = wanted * (i + 1) // runs - wanted * i // runs
        start = cells * i // runs
        yield start, min(start + size, cells)

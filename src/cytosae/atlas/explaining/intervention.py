"""What a concept does: removed, halved, doubled, with another one in the tokens of a cell, beside random latents."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from cytosae.atlas.encoding.cell_codes import column_of
from cytosae.atlas.encoding.token_activations import encode_cells
from cytosae.common.errors import UsageError
from cytosae.sae import SparseAutoencoder

Outcome = Callable[[torch.Tensor], NDArray[np.floating]]
"""From tokens (B, T, D) of B cells to what is watched of each, (B, K), such as a probe behind the remaining blocks."""

DOSES = (0.0, 0.5, 1.0, 1.5, 2.0)
"""Factors of a concept's activation, from none of it to twice as much."""


@dataclass(frozen=True)
class Effect:
    """What a change does to a cell, beside random latents of equal strength.

    Attributes
    ----------
    before, after : ndarray of float, shape (K,)
        The outcome without and with the change.
    random : ndarray of float, shape (n, K)
        Change of the outcome by each random latent: at every token the same norm of change, along another row of the
        decoder and with the same sign.
    """

    before: NDArray[np.float64]
    after: NDArray[np.float64]
    random: NDArray[np.float64]

    @property
    def change(self) -> NDArray[np.float64]:
        """``after`` less ``before``, (K,)."""
        return self.after - self.before

    def band(self, coverage: float = 0.95) -> NDArray[np.float64]:
        """(2, K) lower and upper quantile of the changes by random latents; they hold the share ``coverage``."""
        return np.quantile(self.random, [(1 - coverage) / 2, (1 + coverage) / 2], axis=0)


@dataclass(frozen=True)
class DoseResponse:
    """What a cell is taken for with less and with more of a concept, beside random latents of equal strength.

    Attributes
    ----------
    factors : tuple of float
        F factors of the concept's activation.
    values : ndarray of float, shape (F, K)
        The outcome at each of them.
    before : ndarray of float, shape (K,)
        That of the cell as it is.
    random : ndarray of float, shape (n, F, K)
        Change of the outcome by each random latent, which at every factor moves every token by as much as the concept
        does at that factor, and with the same sign.
    """

    factors: tuple[float, ...]
    values: NDArray[np.float64]
    before: NDArray[np.float64]
    random: NDArray[np.float64]

    def at(self, factor: float) -> Effect:
        """The change by one of the factors."""
        i = self.factors.index(factor)
        return Effect(self.before, self.values[i], self.random[:, i])


@dataclass(frozen=True)
class Interaction:
    """What two concepts do alone and together, beside pairs of random latents, each as strong as one of the two.

    Attributes
    ----------
    before : ndarray of float, shape (K,)
        The outcome of the cell as it is.
    changes : ndarray of float, shape (3, K)
        Change of the outcome by the first concept, by the second, and by both together.
    random : ndarray of float, shape (n, 3, K)
        The same of each pair of random latents.
    """

    before: NDArray[np.float64]
    changes: NDArray[np.float64]
    random: NDArray[np.float64]

    @property
    def beyond_sum(self) -> NDArray[np.float64]:
        """(K,) change by both less the sum of what each does alone; 0 where the outcome is linear in the tokens."""
        return self.changes[2] - self.changes[:2].sum(axis=0)

    @property
    def random_beyond_sum(self) -> NDArray[np.float64]:
        """(n, K) the same of each random pair."""
        return self.random[:, 2] - self.random[:, :2].sum(axis=1)


def change_concepts(
    tokens: torch.Tensor,
    sae: SparseAutoencoder,
    outcome: Outcome,
    factors: Mapping[int, float],
    *,
    patches: Sequence[int] | None = None,
    controls: int = 20,
    seed: int = 0,
) -> Effect:
    """Multiply latents by ``factors`` in the tokens of one cell and see what the outcome does.

    A token x with the activation a of a latent becomes x + (factor - 1) a W_dec[latent], in the units of the tokens;
    everything else in the token, the residual of the SAE included, stays as it is.

    Parameters
    ----------
    tokens : Tensor, shape (T, D), float32
        CLS first.
    sae : SparseAutoencoder
        Of m latents.
    outcome : callable
        What is watched, see `Outcome`.
    factors : mapping
        Latent to factor >= 0: 0 removes it, 0.5 halves it, 2 doubles it.
    patches : sequence of int or None
        Patches, from 0 row by row, at which it is changed; None for all tokens, CLS among them.
    controls : int
        Random latents, none of them among those changed; drawn with ``seed``, again and again where there are few.

    Raises
    ------
    UsageError
        no latent is changed, or a latent, a factor or a patch that there is not.
    """
    _check(tokens, sae, factors, patches)
    delta = _steps(tokens, sae, factors, patches).sum(0)
    sign = -1.0 if sum(factor - 1 for factor in factors.values()) < 0 else 1.0
    drawn = _draw(sae, factors, controls, seed)
    found = _watched(outcome, tokens, [delta, *(sign * _as_strong(sae, delta, other) for other in drawn)])
    return Effect(found[0], found[1], found[2:] - found[0])


def dose_response(
    tokens: torch.Tensor,
    sae: SparseAutoencoder,
    outcome: Outcome,
    latent: int,
    factors: Sequence[float] = DOSES,
    *,
    patches: Sequence[int] | None = None,
    controls: int = 20,
    seed: int = 0,
) -> DoseResponse:
    """Multiply one latent by each of ``factors`` in the tokens of one cell, and random latents as strong beside it.

    All of it is watched in one batch of 1 + F (1 + controls) cells at most.

    Parameters
    ----------
    tokens : Tensor, shape (T, D), float32
        CLS first.
    sae : SparseAutoencoder
        Of m latents.
    outcome : callable
        What is watched, see `Outcome`.
    latent : int
        The concept.
    factors : sequence of float
        Each >= 0; at 1 the outcome is that of the cell as it is.
    patches : sequence of int or None
        As in `change_concepts`.
    controls, seed : int
        As in `change_concepts`; the random latents are the same.

    Raises
    ------
    UsageError
        There is no such latent or patch, or a factor is below 0.
    """
    for factor in factors:
        _check(tokens, sae, {latent: factor}, patches)
    once_more = _steps(tokens, sae, {latent: 2.0}, patches)[0]
    drawn = _draw(sae, [latent], controls, seed)
    directions = [once_more, *(_as_strong(sae, once_more, other) for other in drawn)]
    moving = [factor for factor in factors if factor != 1]
    found = _watched(outcome, tokens, [(f - 1) * direction for direction in directions for f in moving])
    changes = np.zeros((len(directions), len(factors), found.shape[1]))
    changes[:, [f != 1 for f in factors]] = (found[1:] - found[0]).reshape(len(directions), len(moving), -1)
    return DoseResponse(tuple(factors), found[0] + changes[0], found[0], changes[1:])


def interaction(
    tokens: torch.Tensor,
    sae: SparseAutoencoder,
    outcome: Outcome,
    pair: tuple[int, int],
    factor: float = 0.0,
    *,
    patches: Sequence[int] | None = None,
    controls: int = 20,
    seed: int = 0,
) -> Interaction:
    """Multiply two latents by ``factor`` in the tokens of one cell, each alone and both together.

    Beside it ``controls`` pairs of random latents, of which the first moves every token by as much as the first of the
    two, the second by as much as the second. All of it is watched in one batch of 4 + 3 controls cells.

    Parameters
    ----------
    tokens : Tensor, shape (T, D), float32
        CLS first.
    sae : SparseAutoencoder
        Of m latents.
    outcome : callable
        What is watched, see `Outcome`.
    pair : tuple of int
        Two latents.
    factor : float
        >= 0; 0 removes them.
    patches : sequence of int or None
        As in `change_concepts`.
    controls, seed : int
        Random pairs, of latents other than the two, and of which draw.

    Raises
    ------
    UsageError
        A latent that is named twice, or a latent, a factor or a patch that there is not.
    """
    if pair[0] == pair[1]:
        raise UsageError(f"latent {pair[0]} is named twice; an interaction is of two different latents.")
    factors = dict.fromkeys(pair, factor)
    _check(tokens, sae, factors, patches)
    steps, sign = _steps(tokens, sae, factors, patches), -1.0 if factor < 1 else 1.0
    drawn = iter(_draw(sae, pair, 2 * controls, seed))
    random = [[sign * _as_strong(sae, step, next(drawn)) for step in steps] for _ in range(controls)]
    pairs = [[*steps], *random]
    found = _watched(outcome, tokens, [step for first, second in pairs for step in (first, second, first + second)])
    changes = (found[1:] - found[0]).reshape(len(pairs), 3, -1)
    return Interaction(found[0], changes[0], changes[1:])


@torch.no_grad()
def token_directions(sae: SparseAutoencoder) -> NDArray[np.float32]:
    """(m, D) what an activation of 1 of each latent adds to a token, in the units of the tokens.

    A token without the latents of a set S is x - sum over S of a_j times row j; a mean of tokens changes by the means
    of their activations, whatever the positions.
    """
    start = torch.zeros(sae.d_sae, dtype=torch.long, device=sae.device)
    undone = sae.normaliser.inverse
    return (undone(sae.W_dec, start) - undone(torch.zeros_like(sae.W_dec), start)).cpu().numpy()


def _watched(outcome: Outcome, tokens: torch.Tensor, steps: Sequence[torch.Tensor]) -> NDArray[np.float64]:
    """(1 + n, K) the outcome of the tokens as they are, and moved by each of n steps (T, D), in one batch."""
    return np.asarray(outcome(torch.stack([tokens, *(tokens + step for step in steps)])), dtype=np.float64)


def _draw(sae: SparseAutoencoder, but: Iterable[int], n: int, seed: int) -> list[int]:
    """Random latents ``but`` some; again and again where there are few."""
    others = np.setdiff1d(np.arange(sae.d_sae), list(but))
    return np.random.default_rng(seed).choice(others, n, replace=n > len(others)).tolist()


def _steps(
    tokens: torch.Tensor, sae: SparseAutoencoder, factors: Mapping[int, float], patches: Sequence[int] | None
) -> torch.Tensor:
    """(n, T, D) what is added to the tokens by each of n latents."""
    codes, n = encode_cells(sae, tokens[None]), len(tokens)
    activations = {latent: torch.from_numpy(column_of(codes, latent))[:, None] for latent in factors}
    steps = [_in_token_units(sae, (factor - 1) * activations[latent], latent) for latent, factor in factors.items()]
    chosen = torch.ones(n, 1)
    if patches is not None:
        chosen = torch.zeros(n, 1)
        chosen[[1 + patch for patch in patches]] = 1
    return torch.stack(steps) * chosen


def _as_strong(sae: SparseAutoencoder, step: torch.Tensor, latent: int) -> torch.Tensor:
    """(T, D) the same norm at every token as ``step``, along the row of a latent and with its sign."""
    row = _in_token_units(sae, torch.ones(len(step), 1), latent)
    return torch.linalg.vector_norm(step, dim=1, keepdim=True) * torch.nn.functional.normalize(row, dim=1)


@torch.no_grad()
def _in_token_units(sae: SparseAutoencoder, activation: torch.Tensor, latent: int) -> torch.Tensor:
    """(T, D) difference that activations (T, 1) of a latent make once the normalisation is undone."""
    positions = torch.arange(len(activation), device=sae.device)
    decoded = activation.to(sae.device) * sae.W_dec[latent]
    undone = sae.normaliser.inverse
    return (undone(decoded, positions) - undone(torch.zeros_like(decoded), positions)).cpu()


def _check(
    tokens: torch.Tensor, sae: SparseAutoencoder, factors: Mapping[int, float], patches: Sequence[int] | None
) -> None:
    if not factors:
        raise UsageError("no concept is changed; name a latent and a factor, such as 12 and 0.")
    for latent, factor in factors.items():
        if not 0 <= latent < sae.d_sae:
            raise UsageError(f"there is no latent {latent}; this SAE has 0 to {sae.d_sae - 1}.")
        if not 0 <= factor < float("inf"):
            raise UsageError(f"latent {latent} cannot be multiplied by {factor}; give a number of 0 or more.")
    for patch in patches or ():
        if not 0 <= patch < len(tokens) - 1:
            raise UsageError(f"there is no patch {patch}; this cell has 0 to {len(tokens) - 2}.")

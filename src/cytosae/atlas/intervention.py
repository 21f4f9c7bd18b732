"""What a concept does: it is removed, halved or doubled in the tokens of a cell, beside random latents as strong."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from cytosae.atlas.token_activations import encode_cells
from cytosae.common.errors import UsageError
from cytosae.sae import SparseAutoencoder

Outcome = Callable[[torch.Tensor], NDArray[np.floating]]
"""From tokens (B, T, D) of B cells to what is watched of each, (B, K), such as a probe behind the remaining blocks."""


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
    delta = _delta(tokens, sae, factors, patches)
    others = np.setdiff1d(np.arange(sae.W_dec.shape[0]), list(factors))
    drawn = np.random.default_rng(seed).choice(others, controls, replace=controls > len(others))
    signs = -1.0 if sum(factor - 1 for factor in factors.values()) < 0 else 1.0
    strength = torch.linalg.vector_norm(delta, dim=1, keepdim=True) * signs
    variants = [tokens, tokens + delta]
    for latent in drawn.tolist():
        row = _in_token_units(sae, torch.ones(len(tokens), 1), latent)
        variants.append(tokens + strength * torch.nn.functional.normalize(row, dim=1))
    found = np.asarray(outcome(torch.stack(variants)), dtype=np.float64)
    return Effect(found[0], found[1], found[2:] - found[0])


def dose_response(
    tokens: torch.Tensor,
    sae: SparseAutoencoder,
    outcome: Outcome,
    latent: int,
    factors: Sequence[float] = (0.0, 0.5, 1.0, 1.5, 2.0),
) -> NDArray[np.float64]:
    """(len(factors), K) the outcome with one latent multiplied by each factor; at 1 it is that of the cell itself."""
    for factor in factors:
        _check(tokens, sae, {latent: factor}, None)
    changed = [tokens + _delta(tokens, sae, {latent: factor}, None) for factor in factors]
    return np.asarray(outcome(torch.stack(changed)), dtype=np.float64)


def interaction(
    tokens: torch.Tensor, sae: SparseAutoencoder, outcome: Outcome, pair: tuple[int, int], factor: float = 0.0
) -> NDArray[np.float64]:
    """(K,) change of the outcome by two latents together less the sum of what each does alone; 0 where it is linear."""
    first, second = ({latent: factor} for latent in pair)
    if pair[0] == pair[1]:
        raise UsageError(f"latent {pair[0]} is named twice; an interaction is of two different latents.")
    _check(tokens, sae, first | second, None)
    changed = [tokens + _delta(tokens, sae, of, None) for of in (first, second, first | second)]
    alone, one, two, both = np.asarray(outcome(torch.stack([tokens, *changed])), dtype=np.float64)
    return both - one - two + alone


@torch.no_grad()
def token_directions(sae: SparseAutoencoder) -> NDArray[np.float32]:
    """(m, D) what an activation of 1 of each latent adds to a token, in the units of the tokens.

    A token without the latents of a set S is x - sum over S of a_j times row j; a mean of tokens changes by the means
    of their activations, whatever the positions.
    """
    start = torch.zeros(sae.d_sae, dtype=torch.long, device=sae.device)
    undone = sae.normaliser.inverse
    return (undone(sae.W_dec, start) - undone(torch.zeros_like(sae.W_dec), start)).cpu().numpy()


def _delta(
    tokens: torch.Tensor, sae: SparseAutoencoder, factors: Mapping[int, float], patches: Sequence[int] | None
) -> torch.Tensor:
    """(T, D) what is added to the tokens."""
    codes = encode_cells(sae, tokens[None])
    delta = torch.zeros_like(tokens)
    for latent, factor in factors.items():
        activation = torch.from_numpy(np.asarray(codes[:, [latent]].todense(), dtype=np.float32))
        delta += _in_token_units(sae, (factor - 1) * activation, latent)
    if patches is not None:
        chosen = torch.zeros(len(tokens), 1)
        chosen[[1 + patch for patch in patches]] = 1
        delta *= chosen
    return delta


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

"""How far a cheap product can be from the float32 score: the bound behind exact screening.

The score of token x and latent w with bias b is s = fl(fl(<x, w>) + b): a float32 dot product, then the bias.
Screening multiplies the roundings x', w' (bfloat16; subnormals become 0) with float32 accumulation and stores t,
rounded to bfloat16:

    |s - b - t|  <=  ||x - x'|| ||w||  +  ||x'|| ||w - w'||      what rounding has changed (Cauchy-Schwarz)
                   + 2 G ||x|| ||w||  +  A                       both accumulations, in any order; underflow
                   + V |t|                                       rounding t for storage

The norms of the residuals are measured, not estimated by the unit roundoff u = 2^-8 (half a unit in the last of 8
significant bits): they are about 0.4 u ||x||, and a subnormal that the hardware would flush is in them.
G = (1 + 2^-23)^(d + 2) - 1 allows every addition to be truncated. Products of two bfloat16 numbers are exact in
float32; each product and each partial sum may underflow and be flushed, which loses less than 2^-126 at a time, hence
A = (4 d + 8) 2^-126. V is 2^-8, or 0 where t stays float32 (then x' = x and w' = w, and only the accumulations
remain). The proof needs that no sum overflows: `LARGEST_PRODUCT`. `docs/exact_screening.md` has it in full.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

LARGEST_PRODUCT = 2.0**100
"""Tokens with ||x|| max ||w|| beyond this are not screened: their scores might overflow on the way."""
SMALLEST_NORMAL = 2.0**-126
SLACK = 2.0**-20
"""Relative rounding of the few float32 operations that evaluate the bound, generously."""
CELL = 256
"""Latents that share one cut in `block_scan.scan`; also the granularity of blocks."""
STORED = {torch.bfloat16: 2.0**-8 + SLACK, torch.float32: SLACK}
"""V: relative rounding of a stored product, with `SLACK`."""


@dataclass(frozen=True)
class Margins:
    """Constants of the bound for tokens of the width d.

    Attributes
    ----------
    accumulation : float
        G, relative to ||x|| ||w||.
    absolute : float
        A, in units of the score.
    norm : float
        Factor that turns a float32 sum of d squares into an upper bound (before the root).
    squares : float
        What underflow may have taken from a sum of d squares.
    """

    accumulation: float
    absolute: float
    norm: float
    squares: float


def margins(d: int) -> Margins:
    """Margins for tokens of the width ``d``."""
    return Margins(
        accumulation=(1 + 2.0**-23) ** (d + 2) - 1,
        absolute=(4 * d + 8) * SMALLEST_NORMAL,
        norm=(1 + 2.0**-23) ** (d + 8) * (1 + SLACK),
        squares=2 * d * SMALLEST_NORMAL,
    )


def upper_norm(rows: Tensor) -> Tensor:
    """(N,) float32 upper bounds of the norms of rows (N, d) float32; inf where the squares overflow."""
    margin = margins(rows.shape[1])
    return (torch.linalg.vector_norm(rows, dim=1).square() * margin.norm + margin.squares).sqrt_() * (1 + SLACK)


def rounded(rows: Tensor, dtype: torch.dtype) -> Tensor:
    """Rows as the product sees them: rounded to nearest, what became subnormal set to 0 (as the hardware reads it)."""
    if dtype == torch.float32:
        return rows
    result = rows.to(dtype)
    return torch.where(result.abs() < SMALLEST_NORMAL, torch.zeros_like(result), result)


class TokenTerms(NamedTuple):
    """A token's side of the bound: |s - b - t| <= near ||w - w'|| + far ||w|| + V |t| + A.

    Attributes
    ----------
    rounded : Tensor, shape (N, d)
        The tokens as the product sees them.
    near : Tensor, shape (N,)
        At least ||x'||; not finite where the token is not, or its norm overflows.
    far : Tensor, shape (N,)
        At least ||x - x'|| + 2 G ||x||.
    """

    rounded: Tensor
    near: Tensor
    far: Tensor


class LatentTerms(NamedTuple):
    """A latent's side of the bound.

    Attributes
    ----------
    rounded : Tensor, shape (m, d)
        The encoder as the product sees it.
    norm, residual : Tensor, shape (m,)
        At least ||w|| and ||w - w'||; not finite where the latent's weights are not, or its norm overflows.
    """

    rounded: Tensor
    norm: Tensor
    residual: Tensor


class Sides(NamedTuple):
    """What bounds the scores of latents, or of cells of `CELL` latents: each cell's smallest low, largest others.

    Attributes
    ----------
    low, high : Tensor, shape (m,)
        To be added to a product for a score, with the roundings of that sum.
    residual, norm : Tensor, shape (m,)
        As in `LatentTerms`.
    """

    low: Tensor
    high: Tensor
    residual: Tensor
    norm: Tensor


class Bound(NamedTuple):
    """All that bounds the scores of some tokens: `block_scan.scan` takes it as arrays.

    Attributes
    ----------
    latents, cells : Sides
        Of each latent and of each cell.
    near, far : Tensor, shape (N,)
        As in `TokenTerms`.
    rounding : float
        V.
    """

    latents: Sides
    cells: Sides
    near: Tensor
    far: Tensor
    rounding: float


class Candidates(NamedTuple):
    """Latents that may be active, token by token; `block_scan.scan` extends them block by block.

    Attributes
    ----------
    columns : Tensor of int32, shape (N, L)
        The latents, the first ``counts`` of each row.
    lower, upper : Tensor, shape (N, L)
        Bounds of their scores.
    counts : Tensor of int32, shape (N,)
        Candidates so far, -1 once there were more than L.
    floors : Tensor, shape (N,)
        What an upper bound must reach; raised on the way where the best k are wanted.
    limits : Tensor of int32, shape (N,)
        Number of candidates at which the floor is raised next.
    """

    columns: Tensor
    lower: Tensor
    upper: Tensor
    counts: Tensor
    floors: Tensor
    limits: Tensor


RoundRows = Callable[[Tensor, Tensor, Tensor, Tensor, tuple[float, float, float]], None]
"""`kernels.round_rows` or its twin."""


def row_margins(d: int) -> tuple[float, float, float]:
    """Factor, addend and factor that make a sum of squares an upper bound of a norm, as `upper_norm` does."""
    margin = margins(d)
    return margin.norm, margin.squares, 1 + SLACK


def token_terms(x: Tensor, dtype: torch.dtype, round_rows: RoundRows, out: Tensor) -> TokenTerms:
    """Terms of tokens x (N, d) float32, contiguous, for a product in ``dtype``; ``out`` (N, d) holds the roundings."""
    accumulation = 2 * margins(x.shape[1]).accumulation * (1 + SLACK)
    if dtype == torch.float32:
        norm = upper_norm(x)
        return TokenTerms(x, norm, norm * accumulation)
    norm, residual = x.new_empty(len(x)), x.new_empty(len(x))
    round_rows(x, out, norm, residual, row_margins(x.shape[1]))
    return TokenTerms(out, (norm + residual) * (1 + SLACK), (norm * accumulation + residual) * (1 + SLACK))


def latent_terms(rows: Tensor, dtype: torch.dtype, round_rows: RoundRows, out: Tensor) -> LatentTerms:
    """Terms of the encoder's rows (m, d) float32 for a product in ``dtype``; ``out`` (m, d) holds the roundings."""
    if dtype == torch.float32:
        return LatentTerms(rows, upper_norm(rows), rows.new_zeros(len(rows)))
    norm, residual = rows.new_empty(len(rows)), rows.new_empty(len(rows))
    round_rows(rows, out, norm, residual, row_margins(rows.shape[1]))
    return LatentTerms(out, norm, residual)


def sides(terms: LatentTerms, bias: Tensor, size: Tensor) -> tuple[Sides, Sides]:
    """What bounds scores with ``bias`` (m,), of latents and of cells.

    ``size`` (m,) bounds what entered the bias; evaluating the bound rounds in proportion to it.
    """
    slack = size * SLACK + margins(terms.rounded.shape[1]).absolute
    latents = Sides(bias - slack, bias + slack, terms.residual, terms.norm)
    low, high, residual, norm = (_cells(t) for t in latents)
    return latents, Sides(low.amin(1), high.amax(1), residual.amax(1), norm.amax(1))


def _cells(values: Tensor) -> Tensor:
    """(cells, CELL): values (m,) by cell, the last one filled up with its last value."""
    missing = -len(values) % CELL
    return torch.cat([values, values[-1:].expand(missing)]).view(-1, CELL)

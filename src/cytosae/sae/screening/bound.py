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
remain). The proof needs that no sum overflows: `LARGEST_PRODUCT`. `docs/performance.md` has it in full.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

LARGEST_PRODUCT = 2.0**100
"""Tokens with ||x|| max ||w|| beyond this are not screened: their scores might overflow on the way."""
SMALLEST_NORMAL = 2.0**-126
SLACK = 2.0**-20
"""Relative rounding of the few float32 operations that evaluate the bound, generously."""
STORED = {torch.bfloat16: 2.0**-8 + SLACK, torch.float32: SLACK}
"""V: relative rounding of a stored product, with `SLACK`."""


@dataclass(frozen=True)
class Margins:
    """Constants of the bound for tokens of the width d.

    Attributes
    ----------
    accumulation : G, relative to ||x|| ||w||
    absolute : A, in units of the score
    norm : factor that turns a float32 sum of d squares into an upper bound (before the root)
    squares : what underflow may have taken from a sum of d squares
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
    return (rows.square().sum(1) * margin.norm + margin.squares).sqrt_() * (1 + SLACK)


def rounded(rows: Tensor, dtype: torch.dtype) -> Tensor:
    """Rows as the product sees them: rounded to nearest, what became subnormal set to 0 (as the hardware reads it)."""
    if dtype == torch.float32:
        return rows
    result = rows.to(dtype)
    return torch.where(result.abs() < SMALLEST_NORMAL, torch.zeros_like(result), result)


@dataclass(frozen=True)
class TokenTerms:
    """A token's side of the bound: |s - b - t| <= near ||w - w'|| + far ||w|| + V |t| + A.

    Attributes
    ----------
    rounded : (N, d) the tokens as the product sees them
    near : (N,) >= ||x'||; not finite where the token is not, or its norm overflows
    far : (N,) >= ||x - x'|| + 2 G ||x||
    """

    rounded: Tensor
    near: Tensor
    far: Tensor


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

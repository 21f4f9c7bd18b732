"""The CPU's scan in Numba: which latents of a block of products may be active, cell by cell, lane by lane.

`plain.scan` is its twin in PyTorch. Tokens are independent of each other and scanned in a fixed order, so results do
not depend on the number of threads. ``fastmath`` lets sums be reordered when a kernel is compiled (the bound covers any
order), never from one call to the next.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, prange, types
from numba.extending import overload
from numpy.typing import NDArray

from cytosae.sae.screening.bound import CELL

Floats = NDArray[np.float32]
Integers = NDArray[np.int32]
Stored = NDArray[Any]
"""Products or rounded rows: float32, or int16, the bits of bfloat16."""

GROUP = CELL // 8
"""Latents that are looked at together: a bit of a word for each. The eight groups of a cell are compared with its cut
lane by lane, by the largest of eight products; few cells hold a candidate. Blocks begin at multiples of a cell."""
STEPS = 24
"""Most bisections in search of a floor."""
FAST = {"nnan", "nsz", "arcp", "contract", "reassoc"}
"""Freedom of the compiler: order of sums and fused multiply-add, but infinities keep their meaning."""
_BIT = np.zeros(32, np.int64)
for _q in range(32):
    _BIT[np.uint32((0x077CB531 << _q) & 0xFFFFFFFF) >> 27] = _q


@njit(cache=True, error_model="numpy", parallel=True, fastmath=FAST)
def scan(products: Stored, start: int, bound: Any, k: int, candidates: Any) -> None:
    """Add the latents of a block that may be active to each token's candidates.

    Parameters
    ----------
    products : ndarray
        Ndarray of int16 (the bits of bfloat16) or float32, shape (N, B) Of the latents ``start`` to ``start + B - 1``.
    bound : object
        bound.Bound of arrays Of the scores of these tokens.
    k : int
        How many scores are wanted of each token; 0 for all above the floor.
    candidates : object
        bound.Candidates of arrays Extended here.
    """
    # By name: Numba cannot hand a named tuple on to its threads, and loses what is written to one taken apart by place.
    columns, lower, upper = candidates.columns, candidates.lower, candidates.upper
    counts, floors, limits = candidates.counts, candidates.floors, candidates.limits
    low, high, residual, norm = bound.latents.low, bound.latents.high, bound.latents.residual, bound.latents.norm
    cells, nears, fars, rounding = bound.cells, bound.near, bound.far, bound.rounding
    cell_low, cell_high, cell_residual, cell_norm = cells.low, cells.high, cells.residual, cells.norm
    first_cell, n_cells = start // CELL, (products.shape[1] + CELL - 1) // CELL
    zero = products.dtype.type(0)
    for i in prange(products.shape[0]):
        count, floor, limit = counts[i], floors[i], limits[i]
        row, near, far = products[i], nears[i], fars[i]
        slack, words = np.empty(n_cells, np.float32), np.empty(CELL // GROUP, np.uint32)
        for c in range(n_cells):
            slack[c] = near * cell_residual[first_cell + c] + far * cell_norm[first_cell + c]
        if start == 0 and 0 < k <= row.size // GROUP:
            floor = max(floor, _first_floor(row, zero, cell_low, slack, rounding, k))
        for c in range(n_cells if count >= 0 else 0):
            top, cell = cell_high[first_cell + c], row[c * CELL : (c + 1) * CELL]
            margin = rounding * (abs(floor) + abs(top) + slack[c])
            cut = _at_most(max((floor - top - slack[c] - margin) * (1 - rounding), np.float32(0)), zero)
            if cut <= 0:
                cut = _below_all(zero)
            lanes = _lanes(cell, cut) if cell.size == CELL else np.uint32(0xFFFFFFFF)
            if lanes == 0:
                continue
            _reached(cell, lanes, cut, words)
            token, lists = (near, far, rounding, k), (columns[i], lower[i], upper[i])
            count, floor = _take(cell, start + c * CELL, words, (low, high, residual, norm), token, lists, count, floor)
            if count < 0:
                break
        if k > 0 and count > (k if start + row.size == low.size else limit):
            count, floor = _drop(columns[i], lower[i], upper[i], count, k, floor)
            limit = count + count // 2 + GROUP
        counts[i], floors[i], limits[i] = count, floor, limit


def _wide(stored: Any) -> Any:
    """A stored product as float32: bfloat16 comes as int16."""
    raise NotImplementedError


@overload(_wide, inline="always")
def _overload_wide(stored):  # pyright: ignore[reportMissingParameterType] - Numba wants the lambda's parameters
    if isinstance(stored, types.Integer):
        return lambda stored: np.uint32(np.uint32(np.uint16(stored)) << np.uint32(16)).view(np.float32)
    return lambda stored: stored


def _at_most(value: Any, like: Any) -> Any:
    """A positive float32 in the type of stored products, rounded down."""
    raise NotImplementedError


@overload(_at_most, inline="always")
def _overload_at_most(value, like):  # pyright: ignore[reportMissingParameterType]
    if isinstance(like, types.Integer):
        return lambda value, like: np.int16(np.float32(value).view(np.uint32) >> np.uint32(16))
    return lambda value, like: np.float32(value)


def _below_all(like: Any) -> Any:
    """Less than any product of this type."""
    raise NotImplementedError


@overload(_below_all, inline="always")
def _overload_below_all(like):  # pyright: ignore[reportMissingParameterType]
    if isinstance(like, types.Integer):
        return lambda like: np.int16(-32768)
    return lambda like: np.float32(-np.inf)


@njit(cache=True, error_model="numpy", fastmath=FAST)
def _largest(group: Stored, zero: Any) -> Any:
    """Largest of some products, or 0. Positive bfloat16 numbers compare as integers, negative ones lie below."""
    best = zero
    for q in range(group.size):
        best = max(best, group[q])
    return best


@njit(cache=True, error_model="numpy", fastmath=FAST)
def _lanes(cell: Stored, cut: Any) -> Any:
    """Bit q: of the q-th products of a whole cell's groups, one is at least the cut."""
    a, b, c, d = cell[:32], cell[32:64], cell[64:96], cell[96:128]
    e, f, g, h = cell[128:160], cell[160:192], cell[192:224], cell[224:256]
    bits = np.uint32(0)
    for q in range(a.size):
        top = max(max(max(a[q], b[q]), max(c[q], d[q])), max(max(e[q], f[q]), max(g[q], h[q])))
        bits |= np.uint32(np.uint32(top >= cut) << np.uint32(q))
    return bits


@njit(cache=True, error_model="numpy", inline="always")
def _lowest(bits: Any) -> Any:
    """Number of the lowest bit that is set (a de Bruijn sequence tells)."""
    low = np.uint32(bits & np.uint32(-np.int64(bits)))
    return _BIT[np.uint32(low * np.uint32(0x077CB531)) >> np.uint32(27)]


@njit(cache=True, error_model="numpy", fastmath=FAST)
def _kth_largest(values: Floats, k: int) -> Any:
    """A lower bound of the k-th largest value, in most cases above the next one, by bisection."""
    low, high = values[0], values[0]
    for q in range(values.size):
        low, high = min(low, values[q]), max(high, values[q])
    for _ in range(STEPS):
        middle = low + (high - low) * np.float32(0.5)
        above = np.int32(0)
        for q in range(values.size):
            above += np.int32(values[q] >= middle)
        if above >= k:
            low = middle
        else:
            high = middle
        if above == k:
            break
    return low


@njit(cache=True, error_model="numpy", fastmath=FAST)
def _drop(columns: Integers, lower: Floats, upper: Floats, count: int, k: int, floor: Any) -> tuple[int, Any]:
    """Raise the floor towards the k-th largest lower bound and drop what lies below; (count, floor)."""
    if count >= k:
        floor = max(floor, _kth_largest(lower[:count], k))
    kept = 0
    for e in range(count):
        if upper[e] >= floor:
            columns[kept], lower[kept], upper[kept] = columns[e], lower[e], upper[e]
            kept += 1
    return kept, floor


@njit(cache=True, error_model="numpy", fastmath=FAST)
def _first_floor(row: Stored, zero: Any, low: Floats, slack: Floats, rounding: Any, k: int) -> Any:
    """A lower bound of the k-th largest score from the largest product of each group; low, slack by cell."""
    best, count = np.empty(row.size // GROUP, np.float32), 0
    for g in range(best.size):
        cell = g * GROUP // CELL
        t = _wide(_largest(row[g * GROUP : (g + 1) * GROUP], zero))
        if t > 0:
            best[count] = t - rounding * t + low[cell] - slack[cell]
            count += 1
    return _kth_largest(best[:count], k) if count >= k else np.float32(-3e38)


@njit(cache=True, error_model="numpy", fastmath=FAST)
def _reached(cell: Stored, lanes: Any, cut: Any, words: NDArray[np.uint32]) -> None:
    """Bit q of each group's word: its q-th product is at least the cut; ``lanes`` has a bit for each q to look at."""
    words[:] = 0
    while lanes:
        q = _lowest(lanes)
        lanes &= np.uint32(lanes - np.uint32(1))
        for g in range((cell.size + GROUP - 1 - q) // GROUP):
            words[g] |= np.uint32(np.uint32(cell[g * GROUP + q] >= cut) << np.uint32(q))


@njit(cache=True, error_model="numpy", fastmath=FAST)
def _take(
    cell: Stored,
    start: int,
    words: NDArray[np.uint32],
    latents: tuple[Floats, Floats, Floats, Floats],
    token: tuple[Any, Any, Any, int],
    lists: tuple[Integers, Floats, Floats],
    count: int,
    floor: Any,
) -> tuple[int, Any]:
    """Add the latents of a cell that reach the cut (`_reached`) and may be active to a token's list.

    ``token`` has near, far, V and k. Gives (count, floor), count -1 if the list overran.
    """
    (low, high, residual, norm), (near, far, rounding, k), (columns, lower, upper) = latents, token, lists
    for g in range(words.size):
        bits, first = words[g], g * GROUP
        if not bits:
            continue
        if count + GROUP > columns.size and k > 0:
            count, floor = _drop(columns, lower, upper, count, k, floor)
        if count + GROUP > columns.size:
            return -1, floor
        while bits:
            q = _lowest(bits)
            bits &= np.uint32(bits - np.uint32(1))
            j, t = start + first + q, _wide(cell[first + q])
            error = rounding * abs(t) + near * residual[j] + far * norm[j]
            if t + high[j] + error >= floor:
                columns[count], lower[count], upper[count] = j, t + low[j] - error, t + high[j] + error
                count += 1
    return count, floor

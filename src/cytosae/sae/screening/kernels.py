"""CPU kernels in Numba; `plain` has a twin of each in PyTorch, with the same arguments and the same results.

Every loop over tokens, entries or latents is independent of the others and sums in a fixed order, so results do not
depend on the number of threads. ``fastmath`` lets sums be reordered when a kernel is compiled (the bound covers any
order), never from one call to the next.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, prange, types
from numba.extending import overload
from numpy.typing import NDArray

Bits = NDArray[np.uint32]
Flags = NDArray[np.bool_]
Floats = NDArray[np.float32]
Integers = NDArray[np.int32]
Longs = NDArray[np.int64]
Stored = NDArray[Any]
"""Products or rounded rows: float32, or int16, the bits of bfloat16."""

GROUP = 32
"""Latents that are looked at together: a bit of a word for each."""
CELL = 8 * GROUP
"""Latents that share one cut (largest bias, norm and residual). The eight groups of a cell are compared with it lane by
lane, by the largest of eight products; few cells hold a candidate. Blocks begin at multiples of it."""
STEPS = 24
"""Most bisections in search of a floor."""
CHUNK = 256
"""Entries or latents that a thread takes at a time."""
FAST = {"nnan", "nsz", "arcp", "contract", "reassoc"}
"""Freedom of the compiler: order of sums and fused multiply-add, but infinities keep their meaning."""
SUMS = FAST - {"nnan"}
"""The same where numbers that are not finite have to show."""
_BIT = np.zeros(32, np.int64)
for _q in range(32):
    _BIT[np.uint32((0x077CB531 << _q) & 0xFFFFFFFF) >> 27] = _q


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
def _take(
    cell: Stored,
    start: int,
    lanes: Any,
    cut: Any,
    words: Bits,
    latents: tuple[Floats, Floats, Floats, Floats],
    near: Any,
    far: Any,
    rounding: Any,
    k: int,
    columns: Integers,
    lower: Floats,
    upper: Floats,
    count: int,
    floor: Any,
) -> tuple[int, Any]:
    """Add the latents of a cell's lanes that reach the cut and may be active to a token's list.

    ``words`` has room for the bits of the groups. Gives (count, floor), count -1 if the list overran.
    """
    low, high, residual, norm = latents
    words[:] = 0
    while lanes:
        q = _lowest(lanes)
        lanes &= np.uint32(lanes - np.uint32(1))
        for g in range((cell.size + GROUP - 1 - q) // GROUP):
            words[g] |= np.uint32(np.uint32(cell[g * GROUP + q] >= cut) << np.uint32(q))
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


@njit(cache=True, error_model="numpy", parallel=True, fastmath=FAST)
def scan(
    products: Stored,
    start: int,
    latents: tuple[Floats, Floats, Floats, Floats],
    cells: tuple[Floats, Floats, Floats, Floats],
    tokens: tuple[Floats, Floats],
    rounding: Any,
    k: int,
    lists: tuple[Integers, Floats, Floats],
    counts: Integers,
    floors: Floats,
    limits: Integers,
) -> None:
    """Add the latents of a block that may be active to each token's candidates.

    Parameters
    ----------
    products : (N, B) int16 (the bits of bfloat16) or float32, of the latents ``start`` to ``start + B - 1``
    latents : four (m,) float32: low, high, residual, norm, a latent's side of the bound (`screen.LatentTerms`)
    cells : the same by cell of `CELL` latents: smallest low, largest high, residual and norm
    tokens : two (N,) float32: near, far, a token's side of the bound (`bound.TokenTerms`)
    rounding : float32, V of the bound
    k : how many scores are wanted of each token; 0 for all above the floor
    lists : columns (N, L) int32, lower and upper (N, L) float32: candidates and their scores' bounds, extended here
    counts : (N,) int32, candidates of each token so far, -1 once there were more than L
    floors : (N,) float32, what an upper bound must reach, raised here where k > 0
    limits : (N,) int32, number of candidates at which the floor is raised next
    """
    columns, lower, upper = lists
    first_cell, n_cells = start // CELL, (products.shape[1] + CELL - 1) // CELL
    zero = products.dtype.type(0)
    for i in prange(products.shape[0]):
        count, floor, limit = counts[i], floors[i], limits[i]
        row, near, far = products[i], tokens[0][i], tokens[1][i]
        slack, words = np.empty(n_cells, np.float32), np.empty(CELL // GROUP, np.uint32)
        for c in range(n_cells):
            slack[c] = near * cells[2][first_cell + c] + far * cells[3][first_cell + c]
        if start == 0 and 0 < k <= row.size // GROUP:
            floor = max(floor, _first_floor(row, zero, cells[0], slack, rounding, k))
        for c in range(n_cells if count >= 0 else 0):
            top, cell = cells[1][first_cell + c], row[c * CELL : (c + 1) * CELL]
            margin = rounding * (abs(floor) + abs(top) + slack[c])
            cut = _at_most(max((floor - top - slack[c] - margin) * (1 - rounding), np.float32(0)), zero)
            if cut <= 0:
                cut = _below_all(zero)
            lanes = _lanes(cell, cut) if cell.size == CELL else np.uint32(0xFFFFFFFF)
            if lanes == 0:
                continue
            count, floor = _take(
                cell, start + c * CELL, lanes, cut, words, latents, near, far, rounding, k,
                columns[i], lower[i], upper[i], count, floor,
            )  # fmt: skip
            if count < 0:
                break
        if k > 0 and count > (k if start + row.size == latents[0].size else limit):
            count, floor = _drop(columns[i], lower[i], upper[i], count, k, floor)
            limit = count + count // 2 + GROUP
        counts[i], floors[i], limits[i] = count, floor, limit


@njit(cache=True, error_model="numpy")
def by_latent(columns: Stored, offsets: Longs, width: int) -> tuple[Longs, Integers, Longs]:
    """Sort entries (token by token) by latent, keeping the order of tokens: (order, token, first) - a counting sort.

    ``order`` (nnz,) are the positions of the entries, ``token`` (nnz,) their tokens, latent j's are
    ``order[first[j]:first[j + 1]]``.
    """
    first = np.zeros(width + 1, np.int64)
    for e in range(columns.size):
        first[columns[e] + 1] += 1
    for j in range(width):
        first[j + 1] += first[j]
    place = first[:-1].copy()
    order, token = np.empty(columns.size, np.int64), np.empty(columns.size, np.int32)
    for i in range(offsets.size - 1):
        for e in range(offsets[i], offsets[i + 1]):
            p = place[columns[e]]
            order[p], token[p] = e, i
            place[columns[e]] = p + 1
    return order, token, first


@njit(cache=True, error_model="numpy", fastmath=FAST)
def _dot(left: Floats, right: Floats) -> Any:
    total = np.float32(0)
    for q in range(left.size):
        total += left[q] * right[q]
    return total


@njit(cache=True, error_model="numpy", fastmath=FAST)
def _dots4(
    a: Floats, b: Floats, c: Floats, d: Floats, e: Floats, f: Floats, g: Floats, h: Floats
) -> tuple[Any, Any, Any, Any]:
    """<a, b>, <c, d>, <e, f>, <g, h>: four at once wait for memory together; each sums in the same order."""
    one, two, three, four = np.float32(0), np.float32(0), np.float32(0), np.float32(0)
    for q in range(a.size):
        one += a[q] * b[q]
        two += c[q] * d[q]
        three += e[q] * f[q]
        four += g[q] * h[q]
    return one, two, three, four


@njit(cache=True, error_model="numpy", parallel=True, fastmath=FAST)
def scores(
    x: Floats, rows: Floats, bias: Floats, columns: Integers, order: Longs, token: Integers, out: Floats
) -> None:
    """Float32 scores <x[i], rows[j]> + bias[j] of entries sorted by latent (`by_latent`), each row read once.

    x (N, d), rows (m, d), bias (m,) float32; columns (nnz,) of the unsorted entries; out (nnz,) in their order.
    """
    for c in prange((order.size + CHUNK - 1) // CHUNK):
        last = min((c + 1) * CHUNK, order.size) - 1
        for first in range(c * CHUNK, last + 1, 4):
            # the last ones are repeated: every score comes from the same instructions, whatever its neighbours
            p = first, min(first + 1, last), min(first + 2, last), min(first + 3, last)
            e = order[p[0]], order[p[1]], order[p[2]], order[p[3]]
            j = columns[e[0]], columns[e[1]], columns[e[2]], columns[e[3]]
            found = _dots4(
                x[token[p[0]]], rows[j[0]], x[token[p[1]]], rows[j[1]],
                x[token[p[2]]], rows[j[2]], x[token[p[3]]], rows[j[3]],
            )  # fmt: skip
            for q in range(4):
                out[e[q]] = found[q] + bias[j[q]]


@njit(cache=True, error_model="numpy", parallel=True, fastmath=FAST)
def dots(left: Floats, right: Floats, columns: Longs, offsets: Longs, out: Floats) -> None:
    """<left[i], right[j]> at the places (i, j): left (N, d), right (m, d) float32; columns (nnz,), offsets (N + 1,)."""
    for i in prange(offsets.size - 1):
        last, row = offsets[i + 1] - 1, left[i]
        for e in range(offsets[i], last + 1, 4):
            f, g, h = min(e + 1, last), min(e + 2, last), min(e + 3, last)
            out[e], out[f], out[g], out[h] = _dots4(
                row, right[columns[e]], row, right[columns[f]], row, right[columns[g]], row, right[columns[h]]
            )


@njit(cache=True, error_model="numpy", parallel=True)
def top_per_token(values: Floats, offsets: Longs, k: int, keep: Flags) -> None:
    """Mark the k largest positive values of each token; of equal ones the first. keep (nnz,) bool."""
    for i in prange(offsets.size - 1):
        first, last = offsets[i], offsets[i + 1]
        here = values[first:last]
        floor, equal = np.float32(0), 0
        if here.size > k:
            floor = np.partition(here, here.size - k)[here.size - k]
            equal = k
            for e in range(here.size):
                equal -= here[e] > floor
        for e in range(here.size):
            take = here[e] > floor
            if not take and equal > 0 and here[e] == floor:
                take = True
                equal -= 1
            keep[first + e] = take and here[e] > 0


@njit(cache=True, error_model="numpy")
def _adam(row: Floats, gradient: Floats, first: Floats, second: Floats, rates: tuple[Any, ...]) -> None:
    """Adam's step of a row as torch does it; rates: size, 1 - beta1, beta2, 1 - beta2, root, epsilon."""
    size, share, memory, square_share, root, epsilon = rates
    for q in range(row.size):
        g = gradient[q]
        mean = first[q] + share * (g - first[q])
        square = memory * second[q] + square_share * g * g
        first[q], second[q] = mean, square
        row[q] -= size * mean / (np.sqrt(square) / root + epsilon)


@njit(cache=True, error_model="numpy", fastmath=SUMS)
def _round_row(row: Floats, out: NDArray[np.int16], margins: tuple[Any, ...]) -> tuple[Any, Any]:
    """Round a row to bfloat16 (subnormals to 0); upper bounds of its norm and of its residual's norm."""
    raw = row.view(np.uint32)
    total, rest = np.float32(0), np.float32(0)
    for q in range(row.size):
        odd = np.uint32(np.uint32(raw[q] >> np.uint32(16)) & np.uint32(1))  # ties to even
        near = np.uint32(np.uint32(raw[q] + np.uint32(np.uint32(0x7FFF) + odd)) & np.uint32(0xFFFF0000))
        bits = np.uint32(near * np.uint32(np.uint32(near & np.uint32(0x7F800000)) != np.uint32(0)))
        out[q] = np.int16(np.uint16(bits >> np.uint32(16)))
        gap = row[q] - bits.view(np.float32)
        total += row[q] * row[q]
        rest += gap * gap
    scale, lost, slack = margins
    return np.sqrt(total * scale + lost) * slack, np.sqrt(rest * scale + lost) * slack


@njit(cache=True, error_model="numpy", parallel=True)
def round_rows(rows: Floats, out: NDArray[np.int16], norm: Floats, residual: Floats, margins: tuple[Any, ...]) -> None:
    """Round rows (m, d) float32 into out (m, d) int16, the bits of bfloat16, with upper bounds norm, residual (m,)."""
    for j in prange(rows.shape[0]):
        norm[j], residual[j] = _round_row(rows[j], out[j], margins)


@njit(cache=True, error_model="numpy", fastmath=FAST)
def _make_unit(row: Floats) -> None:
    """Scale a row to unit norm; one that has it to rounding stays as it is, so that doing it twice changes nothing."""
    norm = np.sqrt(_dot(row, row))
    if abs(norm - np.float32(1)) > np.float32(1e-6):
        scale = np.float32(1) / max(norm, np.float32(1e-12))
        for q in range(row.size):
            row[q] *= scale


@njit(cache=True, error_model="numpy", parallel=True)
def unit_rows(rows: Floats) -> None:
    """Bring rows (m, d) float32 to unit norm."""
    for j in prange(rows.shape[0]):
        _make_unit(rows[j])


@njit(cache=True, error_model="numpy", fastmath=FAST)
def _add(total: Floats, scale: Any, row: Floats) -> None:
    for q in range(total.size):
        total[q] += scale * row[q]


@njit(cache=True, error_model="numpy", fastmath=FAST)
def _add4(total: Floats, s: Any, t: Any, u: Any, v: Any, a: Floats, b: Floats, c: Floats, d: Floats) -> None:
    for q in range(total.size):
        total[q] += (s * a[q] + t * b[q]) + (u * c[q] + v * d[q])


@njit(cache=True, error_model="numpy")
def _gather(total: Floats, first: int, last: int, source: Integers, scale: Floats, matrix: Floats) -> None:
    """Add scale[e] matrix[source[e]] for first <= e < last, four rows at once: they wait for memory together."""
    e = first
    while e + 4 <= last:
        _add4(
            total, scale[e], scale[e + 1], scale[e + 2], scale[e + 3],
            matrix[source[e]], matrix[source[e + 1]], matrix[source[e + 2]], matrix[source[e + 3]],
        )  # fmt: skip
        e += 4
    while e < last:
        _add(total, scale[e], matrix[source[e]])
        e += 1


@njit(cache=True, error_model="numpy", parallel=True)
def update_rows(
    rows: Floats,
    first: Floats,
    second: Floats,
    gradients: tuple[Longs, Integers, Floats, Floats],
    extra: Floats,
    rates: tuple[Any, ...],
    unit: bool,
    rounded: NDArray[np.int16],
    norm: Floats,
    residual: Floats,
    margins: tuple[Any, ...],
) -> None:
    """Gather each row's gradient and step it with Adam in one pass, so that no gradient of the matrix's size exists.

    Parameters
    ----------
    rows, first, second : (m, d) float32: weights and Adam's moments, changed in place
    gradients : begin (m + 1,) int64, source (nnz,), scale (nnz,) float32, matrix (n, d) float32: row j's gradient is
        the sum of scale[e] matrix[source[e]] for begin[j] <= e < begin[j + 1]
    extra : (m, d) float32 added to it, or (0, d)
    rates : six float32, see `_adam`
    unit : take out the gradient's part parallel to its row before, and bring the row to unit norm after the step
    rounded, norm, residual : as for `round_rows`, refreshed; or of length 0
    """
    begin, source, scale, matrix = gradients
    for c in prange((rows.shape[0] + CHUNK - 1) // CHUNK):
        gradient = np.empty(rows.shape[1], np.float32)
        for j in range(c * CHUNK, min((c + 1) * CHUNK, rows.shape[0])):
            gradient[:] = np.float32(0)
            if extra.shape[0]:
                gradient[:] = extra[j]
            _gather(gradient, begin[j], begin[j + 1], source, scale, matrix)
            if unit:
                _add(gradient, -_dot(gradient, rows[j]), rows[j])
            _adam(rows[j], gradient, first[j], second[j], rates)
            if unit:
                _make_unit(rows[j])
            if rounded.shape[0]:
                norm[j], residual[j] = _round_row(rows[j], rounded[j], margins)

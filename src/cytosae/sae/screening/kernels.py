"""The CPU's other kernels in Numba; `plain` has a twin of each in PyTorch, with the same arguments and results.

Every loop over tokens, entries or latents is independent of the others and sums in a fixed order, so results do not
depend on the number of threads (`block_scan` has more).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from cytosae.sae.screening.block_scan import FAST, Floats, Integers, Stored, scan

__all__ = ["by_latent", "dots", "round_rows", "scan", "scores", "top_per_token", "unit_rows", "update_rows"]

Flags = NDArray[np.bool_]
Longs = NDArray[np.int64]

CHUNK = 256
"""Entries or latents that a thread takes at a time."""
SUMS = FAST - {"nnan"}
"""Freedom of the compiler as `block_scan.FAST`, where numbers that are not finite have to show."""


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
def _add4(total: Floats, scales: tuple[Any, Any, Any, Any], a: Floats, b: Floats, c: Floats, d: Floats) -> None:
    s, t, u, v = scales
    for q in range(total.size):
        total[q] += (s * a[q] + t * b[q]) + (u * c[q] + v * d[q])


@njit(cache=True, error_model="numpy")
def _gather(total: Floats, first: int, last: int, source: Integers, scale: Floats, matrix: Floats) -> None:
    """Add scale[e] matrix[source[e]] for first <= e < last, four rows at once: they wait for memory together."""
    e = first
    while e + 4 <= last:
        _add4(
            total, (scale[e], scale[e + 1], scale[e + 2], scale[e + 3]),
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
) -> None:
    """Gather each row's gradient and step it with Adam in one pass, so that no gradient of the matrix's size exists.

    Parameters
    ----------
    rows, first, second : ndarray of float32, shape (m, d)
        Weights and Adam's moments, changed in place.
    gradients : tuple (ndarray of int64, ndarray of int32, ndarray of float32, ndarray of float32)
        Begin (m + 1,) int64, source (nnz,), scale (nnz,) float32, matrix (n, d) float32: row j's gradient is the sum of
        scale[e] matrix[source[e]] for begin[j] <= e < begin[j + 1].
    extra : ndarray of float32, shape (m, d)
        Added to it, or (0, d).
    rates : tuple of object
        Six float32, see `_adam`.
    unit : bool
        Take out the gradient's part parallel to its row before, and bring the row to unit norm after the step.
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

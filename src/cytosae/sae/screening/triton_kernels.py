"""GPU kernels in Triton: the names, arguments and results of `kernels`, for tensors on a CUDA device.

One program computes one score, one row, or one token's list. Nothing is added atomically and nothing is tuned on the
way, so results are the same bits from run to run. A score or a row comes from the same instructions whatever its
neighbours and wherever its numbers lie: pointers are not specialised by alignment, which would change the order of a
sum. Products and sums are those of IEEE float32; nothing here uses tensor cores, so nothing is rounded to tf32.
"""
# pyright: reportMissingParameterType=false, reportOperatorIssue=false, reportGeneralTypeIssues=false
# (of the functions that Triton compiles; it infers the types of their parameters)

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from cytosae.sae.screening.bound import CELL, Bound, Candidates
from cytosae.sae.screening.plain import by_latent, top_per_token

if TYPE_CHECKING:
    from cytosae.sae.screening.plain import Terms

__all__ = ["by_latent", "dots", "round_rows", "scan", "scores", "top_per_token", "unit_rows", "update_rows"]

STEPS = 24
"""Most bisections in search of a floor."""
SPARE = 8
"""Candidates that a list may gain before its floor is raised again."""


def scan(products: Tensor, start: int, bound: Bound, k: int, candidates: Candidates) -> None:
    """`block_scan.scan`; ``products`` (N, B) bfloat16 or float32, each row contiguous."""
    last = int(start + products.shape[1] == len(bound.latents.low))
    columns, lower, upper, *state = candidates
    _launch(
        _scan, len(products), products, products.stride(0), start // CELL, products.shape[1], last, *bound.latents,
        *bound.cells[1:], bound.near, bound.far, bound.rounding, k, columns, lower, upper, columns.stride(0), *state,
        CELL=CELL, STEPS=STEPS, SPARE=SPARE, RAISES=k > 0, num_warps=1,
    )  # fmt: skip


def scores(x: Tensor, rows: Tensor, bias: Tensor, columns: Tensor, order: Tensor, token: Tensor, out: Tensor) -> None:
    """`kernels.scores`: one program an entry, in the order of latents, so that rows are found in cache."""
    _launch(
        _pairs, len(order), x.contiguous(), rows.contiguous(), bias.contiguous(), columns, order, token, out,
        SCORES=True, **_whole(x, 1024),
    )  # fmt: skip


def dots(left: Tensor, right: Tensor, columns: Tensor, offsets: Tensor, out: Tensor) -> None:
    """`kernels.dots`: one program a place."""
    tokens = torch.arange(len(left), dtype=torch.int32, device=left.device)
    token = tokens.repeat_interleave(offsets.diff(), output_size=len(columns))
    _launch(
        _pairs, len(columns), left.contiguous(), right.contiguous(), out, columns, columns, token, out,
        SCORES=False, **_whole(left, 1024),
    )  # fmt: skip


def round_rows(rows: Tensor, out: Tensor, norm: Tensor, residual: Tensor, margins: tuple[float, ...]) -> None:
    """`kernels.round_rows`; ``out`` is bfloat16 here, as in `plain`."""
    _launch(_round_rows, len(rows), rows.contiguous(), out.view(torch.int16), norm, residual, *margins, **_whole(rows))


def unit_rows(rows: Tensor) -> None:
    """`kernels.unit_rows`; rows contiguous."""
    _launch(_unit_rows, len(rows), rows, **_whole(rows))


def update_rows(
    rows: Tensor,
    first: Tensor,
    second: Tensor,
    gradients: Terms,
    extra: Tensor,
    rates: tuple[float, ...],
    unit: bool,
) -> None:
    """`kernels.update_rows`; rows, first, second and extra contiguous. One program a row."""
    _launch(
        _update_rows, len(rows), rows, first, second, *gradients, extra, *rates,
        EXTRA=len(extra) > 0, UNIT=unit, **_whole(rows),
    )  # fmt: skip


def _launch(kernel: Any, programs: int, first: Tensor, *others: Any, **options: Any) -> None:
    """Run a kernel on the device of its first argument."""
    if programs:
        with torch.cuda.device_of(first):
            kernel[(programs,)](first, *others, **options)


def _whole(rows: Tensor, share: int = 256) -> dict[str, Any]:
    """Options of a kernel whose programs take a row whole, ``share`` of its numbers a warp.

    Without fused multiply-add a row's norm has the same bits in every kernel: a row of unit norm stays as it is.
    """
    d = rows.shape[1]
    size = max(triton.next_power_of_2(d), 32)
    return {"D": d, "SIZE": size, "num_warps": min(max(size // share, 1), 8), "enable_fp_fusion": False}


@triton.jit(do_not_specialize=["left", "right", "bias", "columns", "order", "token", "out"])
def _pairs(
    left, right, bias, columns, order, token, out, D: tl.constexpr, SIZE: tl.constexpr, SCORES: tl.constexpr
):  # fmt: skip
    """<left[i], right[j]> of one entry, with SCORES + bias[j] and entries by ``order``."""
    p = tl.program_id(0)
    e = tl.load(order + p) if SCORES else p
    i, j = tl.load(token + p).to(tl.int64), tl.load(columns + e).to(tl.int64)
    q = tl.arange(0, SIZE)
    one = tl.load(left + i * D + q, mask=q < D, other=0.0)
    other = tl.load(right + j * D + q, mask=q < D, other=0.0)
    total = tl.sum(one * other, axis=0)
    if SCORES:
        total += tl.load(bias + j)
    tl.store(out + e, total)


@triton.jit
def _rounded(row, scale, lost, slack):
    """The bits of a row's bfloat16 numbers (subnormals 0), upper bounds of its norm and of its residual's norm."""
    raw = row.to(tl.uint32, bitcast=True)
    near = (raw + 0x7FFF + ((raw >> 16) & 1)) & 0xFFFF0000  # to nearest, ties to even
    bits = tl.where((near & 0x7F800000) != 0, near, 0)
    gap = row - bits.to(tl.float32, bitcast=True)
    norm = tl.sqrt_rn(tl.sum(row * row, axis=0) * scale + lost) * slack
    residual = tl.sqrt_rn(tl.sum(gap * gap, axis=0) * scale + lost) * slack
    return (bits >> 16).to(tl.int16), norm, residual


@triton.jit
def _of_unit_norm(row):
    """A row scaled to unit norm; one that has it to rounding stays as it is."""
    norm = tl.sqrt_rn(tl.sum(row * row, axis=0))
    scale = tl.div_rn(1.0, tl.maximum(norm, 1e-12))
    return tl.where(tl.abs(norm - 1.0) > 1e-6, row * scale, row)


@triton.jit(do_not_specialize=["rows", "out", "norm", "residual"])
def _round_rows(rows, out, norm, residual, scale, lost, slack, D: tl.constexpr, SIZE: tl.constexpr):
    """Round one row; see `_rounded`."""
    j = tl.program_id(0).to(tl.int64)
    q = tl.arange(0, SIZE)
    bits, whole, rest = _rounded(tl.load(rows + j * D + q, mask=q < D, other=0.0), scale, lost, slack)
    tl.store(out + j * D + q, bits, mask=q < D)
    tl.store(norm + j, whole)
    tl.store(residual + j, rest)


@triton.jit(do_not_specialize=["rows"])
def _unit_rows(rows, D: tl.constexpr, SIZE: tl.constexpr):
    """Bring one row to unit norm."""
    j = tl.program_id(0).to(tl.int64)
    q = tl.arange(0, SIZE)
    row = tl.load(rows + j * D + q, mask=q < D, other=0.0)
    tl.store(rows + j * D + q, _of_unit_norm(row), mask=q < D)


@triton.jit(do_not_specialize=["rows", "first", "second", "begin", "source", "weight", "matrix", "extra"])
def _update_rows(
    rows, first, second, begin, source, weight, matrix, extra, size, share, memory, square_share, root, epsilon,
    D: tl.constexpr, SIZE: tl.constexpr, EXTRA: tl.constexpr, UNIT: tl.constexpr,
):  # fmt: skip
    """Gather one row's gradient, in the order of its entries, and step it with Adam."""
    j = tl.program_id(0).to(tl.int64)
    q = tl.arange(0, SIZE)
    place, inside = j * D + q, q < D
    row = tl.load(rows + place, mask=inside, other=0.0)
    gradient = tl.load(extra + place, mask=inside, other=0.0) if EXTRA else tl.zeros([SIZE], tl.float32)
    stop = tl.load(begin + j + 1)
    for e in range(tl.load(begin + j), stop, 4):
        for s in tl.static_range(4):  # four rows wait for memory together
            here = e + s < stop
            i = tl.load(source + e + s, mask=here, other=0).to(tl.int64)
            factor = tl.load(weight + e + s, mask=here, other=0.0)
            gradient += factor * tl.load(matrix + i * D + q, mask=inside & here, other=0.0)
    if UNIT:
        gradient -= tl.sum(gradient * row, axis=0) * row
    mean, square = tl.load(first + place, mask=inside, other=0.0), tl.load(second + place, mask=inside, other=0.0)
    mean += share * (gradient - mean)
    square = memory * square + square_share * gradient * gradient
    row -= tl.div_rn(size * mean, tl.div_rn(tl.sqrt_rn(square), root) + epsilon)
    row = tl.where(inside, row, 0.0)
    if UNIT:
        row = _of_unit_norm(row)
    tl.store(first + place, mean, mask=inside)
    tl.store(second + place, square, mask=inside)
    tl.store(rows + place, row, mask=inside)


@triton.jit
def _raised(columns, lower, upper, count, k, floor, CHUNK: tl.constexpr, STEPS: tl.constexpr):
    """Raise the floor towards the k-th largest lower bound of a list and drop what lies below: (count, floor)."""
    q = tl.arange(0, CHUNK)
    tl.debug_barrier()  # what other threads have added is seen
    above, high = 0, floor
    for p in range(0, count, CHUNK):
        values = tl.load(lower + p + q, mask=p + q < count, other=-3e38)
        above += tl.sum((values >= floor).to(tl.int32), axis=0)
        high = tl.maximum(high, tl.max(values, axis=0))
    step = 0
    while (above > k) & (step < STEPS):  # at least k values are >= floor, always
        middle = floor + (high - floor) * 0.5
        reached = 0
        for p in range(0, count, CHUNK):
            values = tl.load(lower + p + q, mask=p + q < count, other=-3e38)
            reached += tl.sum((values >= middle).to(tl.int32), axis=0)
        if reached >= k:
            floor = middle
            above = reached
        else:
            high = middle
        step += 1
    kept = 0
    for p in range(0, count, CHUNK):
        inside = p + q < count
        name = tl.load(columns + p + q, mask=inside, other=0)
        least = tl.load(lower + p + q, mask=inside, other=0.0)
        most = tl.load(upper + p + q, mask=inside, other=0.0)
        keep = inside & (most >= floor)
        place = kept + tl.cumsum(keep.to(tl.int32), axis=0) - 1  # never behind what is still to be read
        tl.debug_barrier()
        tl.store(columns + place, name, mask=keep)
        tl.store(lower + place, least, mask=keep)
        tl.store(upper + place, most, mask=keep)
        kept += tl.sum(keep.to(tl.int32), axis=0)
    tl.debug_barrier()
    return kept, floor


@triton.jit(do_not_specialize=["first", "last", "k"])
def _scan(
    products, stride, first, size, last, low, high, residual, norm, cell_high, cell_residual, cell_norm,
    near, far, rounding, k, columns, lower, upper, length, counts, floors, limits,
    CELL: tl.constexpr, STEPS: tl.constexpr, SPARE: tl.constexpr, RAISES: tl.constexpr,
):  # fmt: skip
    """One token's candidates among the latents of a block, which begins with the cell ``first``, cell by cell."""
    i = tl.program_id(0).to(tl.int64)
    count = tl.load(counts + i)
    if count >= 0:
        floor, close, wide, limit = tl.load(floors + i), tl.load(near + i), tl.load(far + i), tl.load(limits + i)
        products += i * stride
        columns += i * length
        lower += i * length
        upper += i * length
        q = tl.arange(0, CELL)
        cells = (size + CELL - 1) // CELL
        c = 0
        while (c <= cells) & (count >= 0):  # the last round only raises: two copies of that would take its registers
            if RAISES:  # noqa: SIM102 - known when the kernel is compiled
                if count > tl.where(c < cells, length - CELL, tl.where(last != 0, k, limit)):
                    count, floor = _raised(columns, lower, upper, count, k, floor, CELL, STEPS)
                    if c == cells:
                        tl.store(limits + i, count + SPARE)
            inside = c * CELL + q < size
            t = tl.load(products + c * CELL + q, mask=inside, other=0.0).to(tl.float32)
            cell = first + tl.minimum(c, cells - 1)
            top = tl.load(cell_high + cell)
            slack = close * tl.load(cell_residual + cell) + wide * tl.load(cell_norm + cell)
            best = tl.max(tl.where(inside, t, -3e38), axis=0)
            # no upper bound of the cell is larger; twice: storage, and the roundings of this sum and of the bounds
            reach = best + top + slack + 2 * rounding * (tl.abs(best) + tl.abs(top) + slack + tl.abs(floor))
            if (reach >= floor) & (c < cells):
                j = cell * CELL + q  # a multiple of CELL, as Triton sees: terms are loaded four at a time
                error = rounding * tl.abs(t) + close * tl.load(residual + j, mask=inside, other=0.0)
                error += wide * tl.load(norm + j, mask=inside, other=0.0)
                least = t + tl.load(low + j, mask=inside, other=0.0) - error
                most = t + tl.load(high + j, mask=inside, other=0.0) + error
                found = inside & (most >= floor)
                more = tl.sum(found.to(tl.int32), axis=0)
                if count + more > length:
                    count = -1
                else:
                    place = count + tl.cumsum(found.to(tl.int32), axis=0) - 1
                    tl.store(columns + place, j, mask=found)
                    tl.store(lower + place, least, mask=found)
                    tl.store(upper + place, most, mask=found)
                    count += more
            c += 1
        tl.store(counts + i, count)
        tl.store(floors + i, floor)

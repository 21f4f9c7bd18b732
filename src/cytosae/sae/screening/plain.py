"""The kernels in plain PyTorch: the same arguments, on any device.

They are what the tests hold the kernels against, and serve where Numba cannot run.
"""

from __future__ import annotations

import torch
from torch import Tensor

from cytosae.sae.screening.bound import rounded as round_to
from cytosae.sae.screening.bound import upper_norm

Terms = tuple[Tensor, ...]


def scan(
    products: Tensor,
    start: int,
    latents: Terms,
    cells: Terms,
    tokens: Terms,
    rounding: float,
    k: int,
    lists: Terms,
    counts: Tensor,
    floors: Tensor,
    limits: Tensor,
) -> None:
    """Twin of `kernels.scan`: raises each token's floor from the whole block, so it may keep fewer candidates."""
    here = slice(start, start + products.shape[1])
    low, high, residual, norm = (terms[here] for terms in latents)
    t = products.float()
    error = rounding * t.abs() + torch.outer(tokens[0], residual) + torch.outer(tokens[1], norm)
    lower, upper = t + low - error, t + high + error
    columns, known_lower, known_upper = lists
    for i in range(len(t)):
        if counts[i] < 0:
            continue
        count = int(counts[i])
        bounds = torch.cat([known_lower[i, :count], lower[i]])
        if 0 < k <= len(bounds):
            floors[i] = torch.maximum(floors[i], torch.topk(bounds, k).values[-1])
        found = torch.cat([known_upper[i, :count], upper[i]]) >= floors[i]
        kept = int(found.sum())
        if kept > columns.shape[1]:
            counts[i] = -1
            continue
        names = torch.arange(start, start + t.shape[1], dtype=columns.dtype, device=t.device)
        columns[i, :kept] = torch.cat([columns[i, :count], names])[found]
        known_upper[i, :kept] = torch.cat([known_upper[i, :count], upper[i]])[found]
        known_lower[i, :kept] = bounds[found]
        counts[i] = kept


def by_latent(columns: Tensor, offsets: Tensor, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Twin of `kernels.by_latent`."""
    tokens = torch.arange(len(offsets) - 1, device=columns.device, dtype=torch.int32).repeat_interleave(offsets.diff())
    order = torch.argsort(columns, stable=True)
    first = offsets.new_zeros(width + 1)
    torch.cumsum(torch.bincount(columns, minlength=width), 0, out=first[1:])
    return order, tokens[order], first


def scores(x: Tensor, rows: Tensor, bias: Tensor, columns: Tensor, order: Tensor, token: Tensor, out: Tensor) -> None:
    """Twin of `kernels.scores`."""
    j = columns[order].long()
    for part in torch.arange(len(order), device=x.device).split(1 << 14):
        e, latent = order[part], j[part]
        out[e] = torch.linalg.vecdot(x[token[part].long()], rows[latent]) + bias[latent]


def top_per_token(values: Tensor, offsets: Tensor, k: int, keep: Tensor) -> None:
    """Twin of `kernels.top_per_token`."""
    for i in range(len(offsets) - 1):
        here = slice(int(offsets[i]), int(offsets[i + 1]))
        order = torch.argsort(values[here], descending=True, stable=True)[:k]
        keep[here] = False
        keep[here][order] = True
        keep[here] &= values[here] > 0


def round_rows(rows: Tensor, out: Tensor, norm: Tensor, residual: Tensor, margins: tuple[float, ...]) -> None:
    """Twin of `kernels.round_rows`; ``out`` is bfloat16 here."""
    out.copy_(round_to(rows, torch.bfloat16))
    norm.copy_(upper_norm(rows))
    residual.copy_(upper_norm(rows - out.float()))


def unit_rows(rows: Tensor) -> None:
    """Twin of `kernels.unit_rows`."""
    norm = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    rows.mul_(torch.where((norm - 1).abs() > 1e-6, 1 / norm.clamp_min(1e-12), torch.ones_like(norm)))


def update_rows(
    rows: Tensor,
    first: Tensor,
    second: Tensor,
    gradients: Terms,
    extra: Tensor,
    rates: tuple[float, ...],
    unit: bool,
    rounded: Tensor,
    norm: Tensor,
    residual: Tensor,
    margins: tuple[float, ...],
) -> None:
    """Twin of `kernels.update_rows`."""
    begin, source, scale, matrix = gradients
    size, share, memory, square_share, root, epsilon = rates
    gradient = extra.clone() if len(extra) else torch.zeros_like(rows)
    latent = torch.arange(len(rows), device=rows.device).repeat_interleave(begin.diff())
    gradient.index_add_(0, latent, scale[:, None] * matrix[source.long()])
    if unit:
        gradient -= torch.linalg.vecdot(gradient, rows)[:, None] * rows
    first.add_(share * (gradient - first))
    second.mul_(memory).addcmul_(gradient, gradient, value=square_share)
    rows.sub_(size * first / (second.sqrt() / root + epsilon))
    if unit:
        unit_rows(rows)
    if len(rounded):
        round_rows(rows, rounded, norm, residual, margins)

"""The kernels in plain PyTorch: the same arguments, on any device.

They are what the tests hold the kernels against, and serve where neither Numba nor Triton can run.
"""

from __future__ import annotations

import torch
from torch import Tensor

from cytosae.sae.screening.bound import Bound, Candidates, upper_norm
from cytosae.sae.screening.bound import rounded as round_to

Terms = tuple[Tensor, ...]


def scan(products: Tensor, start: int, bound: Bound, k: int, candidates: Candidates) -> None:
    """Twin of `block_scan.scan`: raises each token's floor from the whole block, so it may keep fewer candidates."""
    here = slice(start, start + products.shape[1])
    low, high, residual, norm = (terms[here] for terms in bound.latents)
    t = products.float()
    error = bound.rounding * t.abs() + torch.outer(bound.near, residual) + torch.outer(bound.far, norm)
    lower, upper = t + low - error, t + high + error
    columns, known_lower, known_upper, counts, floors, _ = candidates
    width, places = columns.shape[1], torch.arange(columns.shape[1], device=t.device)
    known = places < counts[:, None]
    names = torch.arange(start, start + t.shape[1], dtype=columns.dtype, device=t.device).expand(len(t), -1)
    everyone = (
        torch.cat([columns, names], 1),
        torch.cat([known_lower.masked_fill(~known, -torch.inf), lower], 1),
        torch.cat([known_upper.masked_fill(~known, -torch.inf), upper], 1),
    )
    if 0 < k <= everyone[1].shape[1]:
        floors.copy_(torch.maximum(floors, torch.topk(everyone[1], k).values[:, -1]))
    found = (everyone[2] >= floors[:, None]) & (counts >= 0)[:, None]
    found[:, :width] &= known
    kept = found.sum(1)
    counts.copy_(torch.where((counts < 0) | (kept > width), -1, kept))
    token, place = (found & (counts >= 0)[:, None]).nonzero(as_tuple=True)
    target = found.cumsum(1)[token, place] - 1
    for values, new in zip((columns, known_lower, known_upper), everyone, strict=True):
        values[token, target] = new[token, place]


def by_latent(columns: Tensor, offsets: Tensor, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Twin of `kernels.by_latent`."""
    tokens = torch.arange(len(offsets) - 1, device=columns.device, dtype=torch.int32)
    tokens = tokens.repeat_interleave(offsets.diff(), output_size=len(columns))
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


def dots(left: Tensor, right: Tensor, columns: Tensor, offsets: Tensor, out: Tensor) -> None:
    """Twin of `kernels.dots`."""
    tokens = torch.arange(len(left), device=left.device).repeat_interleave(offsets.diff())
    for part in torch.arange(len(columns), device=left.device).split(1 << 14):
        out[part] = torch.linalg.vecdot(left[tokens[part]], right[columns[part].long()])


def top_per_token(values: Tensor, offsets: Tensor, k: int, keep: Tensor) -> None:
    """Twin of `kernels.top_per_token`."""
    counts = offsets.diff()
    width = int(counts.max()) if len(counts) else 0
    token = torch.arange(len(counts), device=values.device).repeat_interleave(counts, output_size=len(values))
    place = torch.arange(len(values), device=values.device) - offsets[:-1][token]
    padded = values.new_full((len(counts), width), -torch.inf)
    padded[token, place] = values
    order = torch.argsort(padded, dim=1, descending=True, stable=True)[:, :k]
    marked = torch.zeros_like(padded, dtype=torch.bool).scatter_(1, order, torch.ones_like(order, dtype=torch.bool))
    keep.copy_(marked[token, place] & (values > 0))


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

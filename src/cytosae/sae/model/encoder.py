"""The one place where scores are computed and the active latents chosen.

Variants say by a rule which latents of a token are active; `activate` finds them, by the dense product, block by block
into a reused buffer, or where it pays by screening with a proven bound (`screening`). Both make the same choice:
variants, trainer and checkpoints see only the active entries.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from cytosae.sae.model.interface import Above, Rule, TopOfBatch, TopPerToken, Weights
from cytosae.sae.model.sparse import Activations, DenseActivations, Pattern, SparseActivations, score_active
from cytosae.sae.screening.screen import NotFiniteError, TooDense

BLOCK_SCORES = 1 << 22
"""Scores in the reused buffer (16 MB in float32): measured best at m = 4,096 on two cores."""
GPU_SCORES = 1 << 27
"""The same on a GPU (0.5 GB in float32), which needs large products and few launches."""
BLOCK_TOKENS = 256
"""Never fewer tokens a block than this: each block packs the whole encoder again."""
DENSE_ABOVE = 0.1
"""Share of active entries from which dense products are quicker than sparse ones (measured on two cores)."""

SCREENED_BELOW = 1 / 64
"""Share of candidates up to which screening is quicker than dense products and a mask."""


def activate(sae: Weights, x: Tensor, rule: Rule, *, latents: Tensor | None = None) -> Activations:
    """Scores of the latents that ``rule`` chooses, with their gradient.

    Parameters
    ----------
    sae : Weights
        Those of all latents; where they are split over ranks, `SparseAutoencoder.activate` asks each rank's part.
    x : Tensor, shape (N, d)
        Tokens in the units in which the SAE works (normalised).
    rule : Rule
        Which latents are active.
    latents : Tensor, shape (D,), int64, or None
        Choose among these only (`TopPerToken`); None for all.

    Returns
    -------
    Activations
        Of N tokens, with the scores (x - b_dec) W_enc + b_enc as values. Sparse, or dense where more than `DENSE_ABOVE`
        of the entries are active; the numbers are the same.
    """
    choice = _screened(sae, x.detach(), rule) if latents is None else None
    choice = choice or _choose(sae, x.detach(), rule, latents)
    if choice is None:
        return _dense(sae, x, rule)
    pattern = Pattern(choice.columns, choice.offsets, sae.d_sae)
    parameters = sae.W_enc, sae.b_enc, sae.b_dec
    return SparseActivations(score_active(choice.scores, x, *parameters, pattern, choice.centred), pattern)


def is_split(tensor: Tensor) -> bool:
    """Whether the latents are split over ranks (a DTensor, told apart without importing torch.distributed)."""
    return hasattr(tensor, "device_mesh")


class _Choice(NamedTuple):
    scores: Tensor
    columns: Tensor
    offsets: Tensor
    centred: Tensor | None = None
    """x - b_dec where it is at hand: its (N, d) numbers are needed again for the encoder's gradient."""


def _screened(sae: Weights, x: Tensor, rule: Rule) -> _Choice | None:
    """The choice by screening; None where dense products are to be used."""
    rows, bias = sae.W_enc.detach().T, sae.b_enc.detach()
    screen = sae.screening.screen_for(x, rows)
    if screen is None:
        return None
    centred = x - sae.b_dec.detach()
    try:
        match rule:
            case TopPerToken(k):
                return _Choice(*screen.top_per_token(centred, rows, bias, k), centred)
            case TopOfBatch(k):
                return _Choice(*screen.top_of_batch(centred, rows, bias, k), centred)
            case Above(threshold):
                return _Choice(*screen.above(centred, rows, bias, threshold, densest=SCREENED_BELOW), centred)
    except TooDense:
        return None
    except NotFiniteError:
        if torch.is_grad_enabled():
            return None  # training sees a loss that is no number, and says at which step and what to do
        raise


@torch.no_grad()
def _choose(sae: Weights, x: Tensor, rule: Rule, latents: Tensor | None) -> _Choice | None:
    """Active places and their scores; None where too many are active for a sparse representation to pay."""
    rows, bias = sae.W_enc.T, sae.b_enc
    if latents is not None:
        rows, bias = rows[latents], bias[latents]
    centred = x - sae.b_dec
    match rule:
        case TopPerToken(k):
            choice = _top_per_token(centred, rows, bias, min(k, len(rows)))
        case TopOfBatch(k):
            choice = _top_of_batch(centred, rows, bias, k)
        case Above(threshold):
            choice = _above(centred, rows, bias, threshold, limit=DENSE_ABOVE)
    if choice is None or latents is None:
        return choice
    return choice._replace(columns=latents[choice.columns])


def _dense(sae: Weights, x: Tensor, rule: Rule) -> DenseActivations:
    if not isinstance(rule, Above):
        raise AssertionError("only thresholds leave so many latents active")
    scores = torch.addmm(sae.b_enc, x - sae.b_dec, sae.W_enc)
    if isinstance(rule.threshold, float) and rule.threshold == 0:
        return DenseActivations(torch.relu_(scores))
    return DenseActivations(scores * (scores.detach() > rule.threshold))


def _top_per_token(x: Tensor, rows: Tensor, bias: Tensor, k: int) -> _Choice:
    values = x.new_empty(len(x), k)
    columns = torch.empty(len(x), k, dtype=torch.int64, device=x.device)
    for start, scores in _blocks(x, rows, bias):
        here = slice(start, start + len(scores))
        torch.topk(scores, k, dim=1, sorted=False, out=(values[here], columns[here]))
    values, columns = values.flatten(), columns.flatten()
    offsets = torch.arange(0, k * len(x) + 1, k, device=x.device)
    positive = torch.le(values, 0).logical_not_()  # not `> 0`: NaN must show, not vanish
    if bool(positive.all()):
        return _Choice(values, columns, offsets)
    counts = positive.view(len(x), k).sum(1)
    return _Choice(values[positive], columns[positive], _offsets(counts))


def _above(x: Tensor, rows: Tensor, bias: Tensor, threshold: Tensor | float, *, limit: float) -> _Choice | None:
    scores_found, columns_found, counts_found = [], [], []
    found = seen = 0
    for _, scores in _blocks(x, rows, bias):
        mask = torch.le(scores, threshold).logical_not_()
        places = mask.flatten().nonzero()[:, 0]
        found, seen = found + len(places), seen + mask.numel()
        if found > limit * seen:
            return None
        scores_found.append(scores.flatten()[places])
        columns_found.append(places % len(rows))
        counts_found.append(torch.bincount(places // len(rows), minlength=len(scores)))
    return _Choice(torch.cat(scores_found), torch.cat(columns_found), _offsets(torch.cat(counts_found)))


def _top_of_batch(x: Tensor, rows: Tensor, bias: Tensor, k: int) -> _Choice:
    """Guess a threshold from a part of the scores, gather what lies above it, and repeat if that was too few."""
    wanted = k * len(x)
    share = 1.5 * k / len(rows)
    while True:
        threshold = _guess_threshold(x, rows, bias, share)
        choice = _above(x, rows, bias, threshold, limit=float("inf"))
        if choice is not None and (len(choice.scores) >= wanted or threshold == 0):
            break
        share *= 2
    if len(choice.scores) <= wanted:
        return choice
    kept = torch.topk(choice.scores, wanted, sorted=False).indices.sort().values
    token = torch.searchsorted(choice.offsets, kept, right=True) - 1
    counts = torch.bincount(token, minlength=len(x))
    return _Choice(choice.scores[kept], choice.columns[kept], _offsets(counts))


def _guess_threshold(x: Tensor, rows: Tensor, bias: Tensor, share: float) -> float:
    """Score that about ``share`` of all entries exceed, from every n-th token; never below 0."""
    some = x[:: max(4 * len(x) * len(rows) // BLOCK_SCORES, 1)]
    scores = torch.addmm(bias, some, rows.T).flatten()[::7]
    count = int(share * len(scores)) + 1
    if count >= len(scores):
        return 0.0
    return max(float(torch.topk(scores, count, sorted=False).values.min()), 0.0)


def _blocks(x: Tensor, rows: Tensor, bias: Tensor) -> Iterator[tuple[int, Tensor]]:
    """(start, float scores) for blocks of tokens; all share one buffer. Under autocast products are bfloat16."""
    device = x.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
    low, rows, bias = x.to(dtype), rows.to(dtype), bias.to(dtype)
    scores = GPU_SCORES if x.is_cuda else BLOCK_SCORES
    size = min(max(scores // max(len(rows), 1), BLOCK_TOKENS), max(len(x), 1))
    buffer = low.new_empty(size, len(rows))
    for start in range(0, max(len(x), 1), size):  # no tokens are one block, too
        block = low[start : start + size]
        yield start, torch.addmm(bias, block, rows.T, out=buffer[: len(block)]).to(x.dtype)


def _offsets(counts: Tensor) -> Tensor:
    offsets = torch.zeros(len(counts) + 1, dtype=torch.int64, device=counts.device)
    torch.cumsum(counts, 0, out=offsets[1:])
    return offsets

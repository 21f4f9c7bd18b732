"""Choosing the active latents exactly without computing all scores: a cheap product, a proven bound, exact candidates.

The choice is that of the float32 scores as `kernels.scores` computes them, whatever the cheap product rounds to:
products in bfloat16 and in float32 give bitwise the same entries.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from cytosae.common.errors import InputError, UsageError
from cytosae.sae.screening.backend import LOCK, Backend, backend
from cytosae.sae.screening.bound import (
    CELL,
    LARGEST_PRODUCT,
    STORED,
    Bound,
    Candidates,
    LatentTerms,
    TokenTerms,
    latent_terms,
    sides,
    token_terms,
)

SPARE = 32
"""Room at the end of a list, so that a group of latents always fits."""


class Sizes(NamedTuple):
    """How much is done at once.

    Attributes
    ----------
    tokens : int
        Screened together; each group of them reads the whole encoder once.
    latents : int
        Of one product.
    product : int
        Scores of one product.
    places : int
        In the candidate lists of all tokens screened together (12 bytes each).
    whole : int
        Scores computed at once for tokens whose candidates overran their list.
    """

    tokens: int
    latents: int
    product: int
    places: int
    whole: int


ON_CPU = Sizes(4096, 4096, 1 << 24, 1 << 22, 1 << 21)
"""2,048 tokens of a product take 16 MB, which stay in cache for the scan."""
ON_GPU = Sizes(32_768, 1 << 20, 1 << 28, 1 << 24, 1 << 26)
"""Few launches, each of a wave of programs: a product takes 0.5 GB."""


class Entries(NamedTuple):
    """Active places, token by token, latents ascending: scores (nnz,), columns (nnz,) int64, offsets (N + 1,) int64."""

    scores: Tensor
    columns: Tensor
    offsets: Tensor


class NotFiniteError(InputError):
    """Tokens or scores are not finite numbers."""


class TooDense(Exception):  # noqa: N818 - not an error: dense products are quicker here
    """More latents are active than screening pays for."""


class Part(NamedTuple):
    """Kept entries of some tokens: tokens (n,), counts (n,), columns and scores, token by token."""

    tokens: Tensor
    counts: Tensor
    columns: Tensor
    scores: Tensor


class Encoder(NamedTuple):
    """Encoder rows (m, d) and bias (m,) as they are now, and the rows' terms."""

    rows: Tensor
    bias: Tensor
    terms: LatentTerms


Keep = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(scores, columns, offsets) of candidates to a mask of those that are active."""


@dataclass
class Counters:
    """What screening has met so far.

    Attributes
    ----------
    tokens : int
        Tokens screened.
    candidates : int
        Latents whose scores were computed exactly, overruns not counted.
    overruns : int
        Tokens for which all scores were computed, because their candidates overran or their norm is extreme.
    """

    tokens: int = 0
    candidates: int = 0
    overruns: int = 0


class Screen:
    """Finds active latents of centred tokens for one encoder.

    Nothing of the encoder is kept between calls: its rows are rounded anew for each batch, which costs as much as
    reading them (17 ms of at least 0.5 s at m = 49,152), so that a change of the weights is always seen, in whatever
    way it was made. Threads take turns (`backend.LOCK`).

    Parameters
    ----------
    dtype : dtype
        Of the cheap product, bfloat16 or float32.
    kernels : Backend
        Who computes, by default Numba.
    capacity : int or None
        Candidates a token may have before all its scores are computed; None for 16 k (at least 512), and 2,048 where k
        is not known.
    """

    dtype: torch.dtype
    kernels: Backend
    capacity: int | None
    counters: Counters

    def __init__(
        self, dtype: torch.dtype = torch.bfloat16, *, kernels: Backend | None = None, capacity: int | None = None
    ) -> None:
        if dtype not in STORED:
            raise UsageError(f"screening multiplies in bfloat16 or float32, not in {dtype}.")
        self.dtype, self.kernels, self.capacity = dtype, kernels or backend(), capacity
        self.counters = Counters()
        self._buffers: dict[str, Tensor] = {}

    def top_per_token(self, x: Tensor, rows: Tensor, bias: Tensor, k: int) -> Entries:
        """The k largest scores x rows^T + bias of each token, as far as they are positive; ties to the lower latent.

        x (N, d) centred tokens, rows (m, d), bias (m,) float32.
        """

        def keep(scores: Tensor, _: Tensor, offsets: Tensor) -> Tensor:
            mask = torch.empty(len(scores), dtype=torch.bool, device=scores.device)
            self.kernels.top_per_token(scores, offsets, k, mask)
            return mask

        with LOCK:
            return self._entries(x, self._encoder(rows, bias), 0.0, k, keep)

    def above(
        self, x: Tensor, rows: Tensor, bias: Tensor, threshold: Tensor | float, *, densest: float = 1.0
    ) -> Entries:
        """All scores greater than ``threshold``, one number or one for each latent (m,).

        Raises
        ------
        TooDense
            where more than the share ``densest`` of the latents screened so far are candidates.
        """
        with LOCK:
            return self._above(x, self._encoder(rows, bias), threshold, densest)

    def top_of_batch(self, x: Tensor, rows: Tensor, bias: Tensor, k: int) -> Entries:
        """The k N largest scores of N tokens, as far as they are positive; ties to the earlier token, lower latent."""
        wanted, share = k * len(x), 1.4 * k / len(rows)
        with LOCK:
            encoder = self._encoder(rows, bias)
            while True:
                guess = self._guess(x, encoder, share)
                found = self._above(x, encoder, guess)
                if len(found.scores) >= wanted or guess == 0:
                    break
                share *= 2
        if len(found.scores) <= wanted:
            return found
        least = torch.topk(found.scores, wanted, sorted=False).values.min()
        mask = found.scores > least
        ties = (found.scores == least).nonzero()[:, 0]
        mask[ties[: wanted - int(mask.sum())]] = True
        return _masked(found, mask)

    def _encoder(self, rows: Tensor, bias: Tensor) -> Encoder:
        rows = rows.detach()
        out = self._buffer("rows", rows.shape, self.dtype, rows) if self.dtype != torch.float32 else rows
        terms = latent_terms(rows, self.dtype, self.kernels.round_rows, out)
        if not bool(torch.isfinite(terms.norm).all()):
            raise NotFiniteError(
                "the encoder has weights that are not finite or too large for float32; load another state."
            )
        return Encoder(rows, bias.detach(), terms)

    def _above(self, x: Tensor, encoder: Encoder, threshold: Tensor | float, densest: float = 1.0) -> Entries:
        def keep(scores: Tensor, columns: Tensor, _: Tensor) -> Tensor:
            return scores > (threshold[columns.long()] if isinstance(threshold, Tensor) else threshold)

        return self._entries(x, encoder, threshold, 0, keep, densest)

    def _guess(self, x: Tensor, encoder: Encoder, share: float) -> float:
        """Score that about ``share`` of all entries exceed, roughly and from every n-th token; never below 0."""
        some = self._token_terms(x[:: max(len(x) // 64, 1)].detach().contiguous()).rounded
        scores = (torch.mm(some, encoder.terms.rounded.T) + encoder.bias).float().flatten()
        count = int(share * len(scores)) + 1
        if count >= len(scores):
            return 0.0
        return max(float(torch.topk(scores, count, sorted=False).values.min().nan_to_num()), 0.0)

    def _entries(
        self, x: Tensor, encoder: Encoder, threshold: Tensor | float, k: int, keep: Keep, densest: float = 1.0
    ) -> Entries:
        """Entries that ``keep`` marks among the latents that may exceed the threshold (and be of the top k)."""
        x, (rows, bias, terms) = x.detach().contiguous(), encoder
        if self.dtype == torch.float32 and torch.get_float32_matmul_precision() != "highest":
            raise UsageError(
                "screening by float32 products needs them in full; call torch.set_float32_matmul_precision('highest')."
            )
        floor, shifted, size = threshold, bias, bias.abs()
        if isinstance(threshold, Tensor):  # one for each latent: 0 for scores from which it has been subtracted
            floor, shifted, size = 0.0, bias - threshold, size + threshold.abs()
        latents, cells = sides(terms, shifted, size)
        parts, start, sizes = [], 0, _sizes(x)
        capacity = min(self.capacity or (max(16 * k, 512) if k else 2048), len(rows)) + SPARE
        for tokens in x.split(min(max(sizes.places // capacity, 256), sizes.tokens)):
            own = self._token_terms(tokens)
            _require_finite(x, start, own.near)
            bound = Bound(latents, cells, own.near, own.far, STORED[self.dtype])
            blocks = self._products(own.rounded, terms.rounded)
            columns, counts = self._candidates(blocks, bound, float(floor), k, capacity, densest)
            parts.extend(self._exact(tokens, encoder, columns, counts, keep, start))
            start += len(tokens)
        return _joined(parts, len(x))

    def _candidates(
        self, products: Iterator[tuple[int, Tensor]], bound: Bound, floor: float, k: int, capacity: int, densest: float
    ) -> tuple[Tensor, Tensor]:
        """Columns (nnz,) int32, token by token, and counts (N,), -1 for tokens whose scores must all be computed."""
        x, n = bound.near, len(bound.near)
        columns = self._buffer("columns", (n, capacity), torch.int32, x)
        lower, upper = (self._buffer(name, (n, capacity), torch.float32, x) for name in ("lower", "upper"))
        counts = torch.zeros(n, dtype=torch.int32, device=x.device)
        counts[~(x * bound.latents.norm.max() < LARGEST_PRODUCT)] = -1
        floors = x.new_full((n,), floor)
        limits = torch.full((n,), 2 * k + SPARE, dtype=torch.int32, device=x.device)
        candidates = Candidates(columns, lower, upper, counts, floors, limits)
        for start, product in products:
            self.kernels.scan(product, start, bound, k, candidates)
            if densest < 1 and int(torch.where(counts < 0, capacity, counts).sum()) > densest * n * (
                start + product.shape[1]
            ):
                raise TooDense
        width = int(counts.max().clamp_min(0)) if n else 0
        inside = torch.arange(width, device=x.device) < counts[:, None]
        inside &= upper[:, :width] >= floors[:, None]
        return columns[:, :width][inside], torch.where(counts < 0, counts, inside.sum(1).to(counts.dtype))

    def _token_terms(self, x: Tensor) -> TokenTerms:
        out = self._buffer("tokens", x.shape, self.dtype, x) if self.dtype != torch.float32 else x
        return token_terms(x, self.dtype, self.kernels.round_rows, out)

    def _products(self, x: Tensor, rows: Tensor) -> Iterator[tuple[int, Tensor]]:
        sizes = _sizes(x)
        most = min(sizes.latents, max(sizes.product // max(len(x), 1), CELL))
        blocks = -(-len(rows) // most)  # of equal size: a small one at the end would multiply slower
        size = -(-len(rows) // (blocks * CELL)) * CELL
        block = self._buffer("product", (len(x) * min(size, len(rows)),), x.dtype, x)
        for start in range(0, len(rows), size):
            here = rows[start : start + size]
            out = block[: len(x) * len(here)].view(len(x), len(here))
            with whole_sums():
                torch.mm(x, here.T, out=out)
            yield start, out

    def _exact(
        self, x: Tensor, encoder: Encoder, columns: Tensor, counts: Tensor, keep: Keep, start: int
    ) -> Iterator[Part]:
        """What is kept of the candidates, then of the tokens that overran; ``start`` is the first token's number."""
        over, m = (counts < 0).nonzero()[:, 0], len(encoder.rows)
        self.counters.tokens += len(x)
        self.counters.candidates += len(columns)
        self.counters.overruns += len(over)
        everyone = torch.arange(start, start + len(x), device=x.device)
        yield self._kept(x, encoder, columns, counts.clamp_min(0), keep, everyone)
        every = torch.arange(m, dtype=torch.int32, device=x.device)
        for group in over.split(max(_sizes(x).whole // m, 1)) if len(over) else ():
            full = torch.full((len(group),), m, device=x.device)
            yield self._kept(x[group], encoder, every.repeat(len(group)), full, keep, start + group)

    def _kept(self, x: Tensor, encoder: Encoder, columns: Tensor, counts: Tensor, keep: Keep, tokens: Tensor) -> Part:
        rows, bias, _ = encoder
        offsets = _offsets(counts)
        order, token, _ = self.kernels.by_latent(columns, offsets, len(rows))
        scores = x.new_empty(len(columns))
        self.kernels.scores(x, rows, bias, columns, order, token, scores)
        if not bool(torch.isfinite(scores).all()):
            raise NotFiniteError("scores of this batch overflow float32; scale the tokens or the encoder down.")
        mask = keep(scores, columns, offsets)
        kept = mask.nonzero()[:, 0]
        return Part(tokens, _offsets(mask)[offsets].diff(), columns[kept].long(), scores[kept])

    def _buffer(self, name: str, shape: tuple[int, ...], dtype: torch.dtype, like: Tensor) -> Tensor:
        """Memory that is kept from call to call: fresh pages cost more than what is written to them."""
        size = 1
        for length in shape:
            size *= length
        buffer = self._buffers.get(name)
        if buffer is None or buffer.numel() < size or buffer.dtype != dtype:
            buffer = self._buffers[name] = torch.empty(size, dtype=dtype, device=like.device)
        return buffer[:size].view(shape)


@contextmanager
def whole_sums() -> Iterator[None]:
    """Let CUDA's bfloat16 products add up in float32 throughout, as the bound assumes; by default parts need not."""
    settings = torch.backends.cuda.matmul
    before = settings.allow_bf16_reduced_precision_reduction
    settings.allow_bf16_reduced_precision_reduction = False
    try:
        yield
    finally:
        settings.allow_bf16_reduced_precision_reduction = before


def _sizes(x: Tensor) -> Sizes:
    return ON_GPU if x.is_cuda else ON_CPU


def _require_finite(x: Tensor, start: int, norms: Tensor) -> None:
    """Name the first token of x (N, d) that is not finite; ``norms``, of the tokens from ``start``, show whether."""
    if bool(torch.isfinite(norms).all()):
        return
    finite = torch.isfinite(x[start : start + len(norms)]).all(1)  # the norm of finite tokens may overflow, too
    if not bool(finite.all()):
        raise NotFiniteError(
            f"token {start + int((~finite).nonzero()[0])} of this batch of {len(x)} has values that are not finite; "
            "extract the tokens again, in bfloat16 if float16 overflowed."
        )


def _joined(parts: list[Part], n: int) -> Entries:
    tokens, counts, columns, scores = (torch.cat(pieces) for pieces in zip(*parts, strict=True))
    totals = counts.new_zeros(n).index_add_(0, tokens, counts)
    if len(tokens) > n:  # overruns come after the others: back into the order of tokens
        order = torch.argsort(tokens.repeat_interleave(counts), stable=True)
        columns, scores = columns[order], scores[order]
    return Entries(scores, columns, _offsets(totals))


def _masked(entries: Entries, mask: Tensor) -> Entries:
    return Entries(entries.scores[mask], entries.columns[mask], _offsets(mask)[entries.offsets])


def _offsets(counts: Tensor) -> Tensor:
    offsets = torch.zeros(len(counts) + 1, dtype=torch.int64, device=counts.device)
    torch.cumsum(counts, 0, out=offsets[1:])
    return offsets

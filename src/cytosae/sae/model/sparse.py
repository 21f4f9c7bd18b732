"""Activations of which only the active entries exist, and the products that touch nothing else.

With k of m latents active, decoding N tokens costs 2 N k d instead of 2 N m d operations, and so do its gradients.
Plain PyTorch: sums of weighted rows by ``embedding_bag``, dot products at chosen places by ``sampled_addmm``.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
import scipy.sparse
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import embedding_bag

from cytosae.sae.screening.update import row_gradient

DOT_BLOCK = 1 << 22
"""Elements gathered at once where ``sampled_addmm`` cannot be used."""
WITH_CSR = ("cpu", "cuda")
"""Kinds of devices on which torch has compressed rows."""


@dataclass(frozen=True, eq=False)
class Pattern:
    """Places of the active entries, token by token (compressed rows).

    Attributes
    ----------
    columns : Tensor, shape (nnz,), int64
        The latent of each entry.
    offsets : Tensor, shape (N + 1,), int64
        Entries of token i are ``offsets[i]:offsets[i + 1]``.
    width : int
        m, number of latents.
    """

    columns: Tensor
    offsets: Tensor
    width: int

    @cached_property
    def rows(self) -> Tensor:
        """(nnz,) int64, the token of each entry."""
        counts = self.offsets.diff()
        tokens = torch.arange(len(counts), device=counts.device)
        return tokens.repeat_interleave(counts, output_size=len(self.columns))

    @cached_property
    def transposed(self) -> tuple[Tensor, Tensor, Tensor]:
        """(order, rows, offsets): the entries sorted by latent, their tokens, and where each latent begins."""
        if self.columns.device.type == "cpu":
            return self._counting_sort()
        order = torch.argsort(self.columns, stable=True)
        offsets = self.offsets.new_zeros(self.width + 1)
        torch.cumsum(torch.bincount(self.columns, minlength=self.width), 0, out=offsets[1:])
        return order, self.rows[order], offsets

    def _counting_sort(self) -> tuple[Tensor, Tensor, Tensor]:
        # scipy counts instead of comparing: a fifth of the time of torch's sort at 131,072 entries, and one thread
        entries = np.arange(len(self.columns))
        shape = (len(self.offsets) - 1, self.width)
        by_row = scipy.sparse.csr_array((entries, self.columns.numpy(), self.offsets.numpy()), shape=shape)
        by_latent = by_row.tocsc()
        order = torch.from_numpy(by_latent.data)
        return order, torch.from_numpy(by_latent.indices).long(), torch.from_numpy(by_latent.indptr).long()

    def weighted_rows(self, values: Tensor, matrix: Tensor) -> Tensor:
        """A M for the sparse A [N, m] of these ``values`` and M [m, d]: (N, d)."""
        return _weighted_rows(self.columns, self.offsets, values, matrix)

    def weighted_tokens(self, values: Tensor, matrix: Tensor) -> Tensor:
        """A^T M for the sparse A [N, m] of these ``values`` and M [N, d]: (m, d)."""
        order, rows, offsets = self.transposed
        return _weighted_rows(rows, offsets, values[order], matrix)

    def dots(self, left: Tensor, right: Tensor) -> Tensor:
        """<left[i], right[j]> at the active places (i, j) only, left [N, d], right [m, d]: (nnz,)."""
        if left.is_cuda or (left.device.type == "cpu" and torch.backends.mkl.is_available()):
            zeros = csr(self.offsets, self.columns, left.new_zeros(len(self.columns)), self.width)
            return torch.sparse.sampled_addmm(zeros, left, right.T).values()
        result = left.new_empty(len(self.columns))
        block = max(DOT_BLOCK // left.shape[1], 1)
        for start in range(0, len(result), block):
            here = slice(start, start + block)
            result[here] = torch.linalg.vecdot(left[self.rows[here]], right[self.columns[here]])
        return result


@dataclass(frozen=True, eq=False)
class SparseActivations:
    """Activations of N tokens: (nnz,) ``values``, which may carry a gradient, at the places of ``pattern``."""

    values: Tensor
    pattern: Pattern

    def decode(self, W_dec: Tensor) -> Tensor:
        """Sum of each token's active decoder rows, W_dec [m, d]: (N, d)."""
        return _Decode.apply(self.values, W_dec, self.pattern)

    def map(self, function: Callable[..., Tensor], *per_latent: Tensor) -> SparseActivations:
        """Apply ``function(values, *per_latent)`` entry by entry; tensors (m,) are taken at each entry's latent."""
        taken = [tensor[self.pattern.columns] for tensor in per_latent]
        return SparseActivations(function(self.values, *taken), self.pattern)

    def total(self) -> Tensor:
        """Sum of all values."""
        return self.values.sum()

    def active(self) -> int:
        """How many values are > 0."""
        return int(torch.count_nonzero(self.values.detach() > 0))

    def smallest(self) -> Tensor:
        """The smallest value, () without gradient; infinite where there is none."""
        return self.values.detach().min() if len(self.values) else self.values.new_full((), torch.inf)

    def fired(self) -> Tensor:
        """(m,) bool: the latents that are > 0 on any of the tokens."""
        fired = torch.zeros(self.pattern.width, dtype=torch.bool, device=self.values.device)
        fired[self.pattern.columns[self.values.detach() > 0]] = True
        return fired

    def keep(self, mask: Tensor) -> SparseActivations:
        """Only the entries where ``mask`` (nnz,) is true."""
        if bool(mask.all()):
            return self
        kept = torch.zeros(len(mask) + 1, dtype=torch.int64, device=mask.device)
        torch.cumsum(mask, 0, out=kept[1:])
        pattern = Pattern(self.pattern.columns[mask], kept[self.pattern.offsets], self.pattern.width)
        return SparseActivations(self.values[mask], pattern)

    def latents(self, start: int, stop: int) -> SparseActivations:
        """Only the entries of the latents ``start`` to ``stop`` - 1; the width stays."""
        columns = self.pattern.columns
        return self.keep((columns >= start) & (columns < stop))

    def to_dense(self) -> Tensor:
        """(N, m) with zeros where nothing is active; keeps the gradient."""
        shape = (len(self.pattern.offsets) - 1, self.pattern.width)
        return self.values.new_zeros(shape).index_put((self.pattern.rows, self.pattern.columns), self.values)

    def to_csr(self) -> Tensor:
        """``torch.sparse_csr`` (N, m), columns ascending in each row, entries that are 0 left out."""
        kept = self.keep(self.values.detach() != 0)
        pattern = kept.pattern
        places = pattern.rows * pattern.width + pattern.columns
        if bool((places.diff() > 0).all()):  # as screening leaves them
            return csr(pattern.offsets, pattern.columns, kept.values, pattern.width)
        order = torch.argsort(places)
        return csr(pattern.offsets, pattern.columns[order], kept.values[order], pattern.width)


@dataclass(frozen=True, eq=False)
class DenseActivations:
    """The same face for (N, m) ``values`` while so many are active that dense products are quicker."""

    values: Tensor

    def decode(self, W_dec: Tensor) -> Tensor:
        """(N, d)."""
        return self.values @ W_dec

    def map(self, function: Callable[..., Tensor], *per_latent: Tensor) -> DenseActivations:
        """Apply ``function(values, *per_latent)`` entry by entry; tensors (m,) are broadcast over tokens."""
        return DenseActivations(function(self.values, *per_latent))

    def total(self) -> Tensor:
        """Sum of all values."""
        return self.values.sum()

    def active(self) -> int:
        """How many values are > 0 (none is below)."""
        return int(torch.count_nonzero(self.values.detach()))

    def smallest(self) -> Tensor:
        """The smallest active value, () without gradient; infinite where there is none."""
        values = self.values.detach()
        return torch.where(values > 0, values, torch.inf).min()

    def fired(self) -> Tensor:
        """(m,) bool: the latents that are > 0 on any of the tokens."""
        return self.values.detach().amax(0) > 0

    def latents(self, start: int, stop: int) -> DenseActivations:
        """Only the latents ``start`` to ``stop`` - 1; the width stays."""
        inside = torch.zeros(self.values.shape[1], dtype=self.values.dtype, device=self.values.device)
        inside[start:stop] = 1
        return DenseActivations(self.values * inside)

    def to_dense(self) -> Tensor:
        """(N, m)."""
        return self.values

    def to_csr(self) -> Tensor:
        """``torch.sparse_csr`` (N, m)."""
        _say_once_that_csr_is_new()
        return _where_csr_is(self.values).to_sparse_csr()


Activations = SparseActivations | DenseActivations


def score_active(
    scores: Tensor,
    x: Tensor,
    W_enc: Tensor,
    b_enc: Tensor,
    b_dec: Tensor,
    pattern: Pattern,
    centred: Tensor | None = None,
) -> Tensor:
    """Give already computed ``scores`` their gradient: (x - b_dec) W_enc + b_enc at the places of ``pattern``.

    Parameters
    ----------
    scores : Tensor, shape (nnz,)
        Values of that formula, without a gradient.
    x : Tensor, shape (N, d)
        W_enc : (d, m); b_enc : (m,); b_dec : (d,).
    centred : Tensor, shape (N, d), or None
        x - b_dec without a gradient where it is at hand.

    Returns
    -------
    Tensor, shape (nnz,)
        The same numbers; backward touches the active entries only.
    """
    return _Score.apply(scores, x, W_enc, b_enc, b_dec, pattern, centred)


def csr(offsets: Tensor, columns: Tensor, values: Tensor, width: int) -> Tensor:
    """A ``torch.sparse_csr`` tensor (N, width), on the CPU where the device of the parts has none, as Apple's."""
    offsets, columns, values = (_where_csr_is(part) for part in (offsets, columns, values))
    _say_once_that_csr_is_new()
    return torch.sparse_csr_tensor(offsets, columns, values, (len(offsets) - 1, width), check_invariants=False)


class _Decode(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, W_dec: Tensor, pattern: Pattern) -> Tensor:
        ctx.save_for_backward(values, W_dec)
        ctx.pattern, ctx.listening = pattern, row_gradient(W_dec)
        return pattern.weighted_rows(values, W_dec)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (gradient,) = grad_outputs
        values, W_dec = ctx.saved_tensors
        gradient = gradient.contiguous()
        if ctx.listening is not None:
            ctx.listening.add(ctx.pattern, values, gradient)
            return ctx.listening.dots(ctx.pattern, gradient, W_dec), None, None
        to_values = ctx.pattern.dots(gradient, W_dec) if ctx.needs_input_grad[0] else None
        to_W_dec = ctx.pattern.weighted_tokens(values, gradient) if ctx.needs_input_grad[1] else None
        return to_values, to_W_dec, None


class _Score(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        scores: Tensor,
        x: Tensor,
        W_enc: Tensor,
        b_enc: Tensor,
        b_dec: Tensor,
        pattern: Pattern,
        centred: Tensor | None,
    ) -> Tensor:
        ctx.save_for_backward(x, W_enc, b_dec)
        ctx.pattern, ctx.centred, ctx.listening = pattern, centred, row_gradient(W_enc)
        return scores.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (gradient,) = grad_outputs
        x, W_enc, b_dec = ctx.saved_tensors
        pattern: Pattern = ctx.pattern
        _, to_x, to_W_enc, to_b_enc, to_b_dec, *_ = ctx.needs_input_grad
        if ctx.listening is not None:
            ctx.listening.add(pattern, gradient, x - b_dec if ctx.centred is None else ctx.centred)
            to_W_enc = False
        per_latent = gradient.new_zeros(pattern.width)
        if to_b_enc or to_b_dec:
            per_latent.index_add_(0, pattern.columns, gradient)
        return (
            None,
            pattern.weighted_rows(gradient, W_enc.T) if to_x else None,
            # transposed last: the gradient then lies in memory as the encoder does, latent by latent
            pattern.weighted_tokens(gradient, x - b_dec).T if to_W_enc else None,
            per_latent if to_b_enc else None,
            -(W_enc @ per_latent) if to_b_dec else None,
            None,
            None,
        )


def _weighted_rows(columns: Tensor, offsets: Tensor, values: Tensor, matrix: Tensor) -> Tensor:
    return embedding_bag(
        columns, matrix.contiguous(), offsets, mode="sum", per_sample_weights=values, include_last_offset=True
    )


def _where_csr_is(tensor: Tensor) -> Tensor:
    return tensor if tensor.device.type in WITH_CSR else tensor.cpu()


@cache
def _say_once_that_csr_is_new() -> None:
    """Have torch's only warning of the layout where nobody hears it; the filters of warnings are all threads'."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.zeros(1, 1).to_sparse_csr()

"""The fused update: weight gradients exist only row by row, in the pass that also steps, normalises and rounds the row.

While a `RowUpdate` listens, backward passes through `sparse` leave their part of a weight gradient as places, scales
and tokens instead of a matrix; what else autograd puts into ``.grad`` (ghost gradients, dense steps) is added.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import Tensor, nn

from cytosae.sae.screening.backend import Backend, backend_for

LISTENER = "row_gradient"
"""Attribute of a parameter under which its `RowGradient` is found while one listens."""


class Places(Protocol):
    """Active places (`sparse.Pattern`): columns (nnz,) int64, token by token, and offsets (N + 1,)."""

    @property
    def columns(self) -> Tensor: ...  # noqa: D102
    @property
    def offsets(self) -> Tensor: ...  # noqa: D102


Sorted = dict[tuple[int, ...], tuple[Tensor, Tensor, Tensor]]
"""What `kernels.by_latent` gave, by the identities of the places, which live as long as the gradients do."""


class RowGradient:
    """Parts of the gradient of a matrix (m, d), each sum over its entries (i, j) of scale * matrix[i], for row j."""

    kernels: Backend
    device: torch.device
    parts: list[tuple[Places, Tensor, Tensor]]

    def __init__(self, kernels: Backend, device: torch.device, known: Sorted) -> None:
        self.kernels, self.device, self.parts, self._known = kernels, device, [], known

    def add(self, places: Places, scales: Tensor, matrix: Tensor) -> None:
        """A part: scales (nnz,) at the places, matrix (N, d)."""
        self.parts.append((places, scales.detach(), matrix.detach()))

    def dots(self, places: Places, left: Tensor, right: Tensor) -> Tensor:
        """<left[i], right[j]> at the places (i, j), left (N, d), right (m, d): (nnz,)."""
        out = left.new_empty(len(places.columns))
        self.kernels.dots(left.detach(), right.detach(), places.columns, places.offsets, out)
        return out

    def gathered(self, m: int, d: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(begin (m + 1,), source (nnz,), scale (nnz,), matrix (n, d)) as `kernels.update_rows` takes it."""
        if not self.parts:
            begin = torch.zeros(m + 1, dtype=torch.int64, device=self.device)
            none = torch.empty(0, device=self.device)
            return begin, none.to(torch.int32), none, none.view(0, d)
        order, source, begin = self._by_latent(m)
        scales = torch.cat([scale for _, scale, _ in self.parts])
        matrices = [matrix.contiguous() for _, _, matrix in self.parts]
        return begin, source, scales[order], matrices[0] if len(matrices) == 1 else torch.cat(matrices)

    def _by_latent(self, m: int) -> tuple[Tensor, Tensor, Tensor]:
        """The places of all parts sorted by latent: once for the encoder and the decoder, whose places are the same."""
        key = tuple(id(places) for places, _, _ in self.parts)
        if key not in self._known:
            columns = torch.cat([places.columns for places, _, _ in self.parts]).to(torch.int32)
            counts = torch.cat([places.offsets.diff() for places, _, _ in self.parts])
            offsets = torch.zeros(len(counts) + 1, dtype=torch.int64, device=self.device)
            torch.cumsum(counts, 0, out=offsets[1:])
            self._known[key] = self.kernels.by_latent(columns, offsets, m)
        return self._known[key]


class RowUpdate:
    """Adam for the encoder and the decoder of one SAE, row by row; the optimizer keeps owning moments and rates.

    Parameters
    ----------
    encoder : Parameter
        W_enc (d, m), its transpose contiguous.
    decoder : Parameter
        W_dec (m, d).
    adam : Adam
        The optimizer that has both among its parameters (no weight decay, no amsgrad).
    kernels : Backend
        Who computes, by default Numba on the CPU and Triton on CUDA.
    """

    encoder: nn.Parameter
    decoder: nn.Parameter
    adam: torch.optim.Adam
    kernels: Backend
    gradients: tuple[RowGradient, RowGradient]

    def __init__(
        self, encoder: nn.Parameter, decoder: nn.Parameter, adam: torch.optim.Adam, kernels: Backend | None = None
    ) -> None:
        self.encoder, self.decoder, self.adam = encoder, decoder, adam
        self.kernels = kernels or backend_for(encoder.device)
        self.gradients = self._fresh()

    @contextmanager
    def listen(self) -> Iterator[None]:
        """Take in what backward passes leave for the two matrices; the decoder's rows have unit norm then."""
        self.kernels.unit_rows(self.decoder.detach())
        _touch(self.decoder)
        self.gradients = self._fresh()
        listening = list(zip((self.encoder, self.decoder), self.gradients, strict=True))
        for parameter, gradient in listening:
            setattr(parameter, LISTENER, gradient)
        try:
            yield
        finally:
            for parameter, _ in listening:
                delattr(parameter, LISTENER)

    def _fresh(self) -> tuple[RowGradient, RowGradient]:
        device, known = self.encoder.device, Sorted()
        return RowGradient(self.kernels, device, known), RowGradient(self.kernels, device, known)

    @torch.no_grad()
    def finish(self) -> None:
        """Step both matrices and take their gradients away."""
        encoder, decoder = self.gradients
        self._step(decoder, self.decoder, self.decoder, unit=True)
        self._step(encoder, self.encoder, self.encoder.T, unit=False)

    def _step(self, gradient: RowGradient, parameter: nn.Parameter, rows: Tensor, *, unit: bool) -> None:
        extra = parameter.grad
        parameter.grad = None
        if not gradient.parts and extra is None:
            return  # as torch.optim.Adam: no gradient, no step
        first, second, rates = self._moments(parameter)
        if rows is not parameter:
            first, second, extra = first.T, second.T, None if extra is None else extra.T
        extra = rows.new_empty(0, rows.shape[1]) if extra is None else extra.contiguous()
        gathered = gradient.gathered(rows.shape[0], rows.shape[1])
        self.kernels.update_rows(rows, first, second, gathered, extra, rates, unit)
        _touch(parameter)

    def _moments(self, parameter: nn.Parameter) -> tuple[Tensor, Tensor, tuple[float, ...]]:
        """Adam's moments of the parameter, made as torch makes them, and the rates of `kernels.update_rows`."""
        state = self.adam.state[parameter]
        group = next(g for g in self.adam.param_groups if any(p is parameter for p in g["params"]))
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device if group["fused"] else "cpu")
            state["exp_avg"] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
            state["exp_avg_sq"] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
        state["step"] += 1
        step = float(state["step"])
        beta1, beta2 = group["betas"]
        size, root = group["lr"] / (1 - beta1**step), math.sqrt(1 - beta2**step)
        return state["exp_avg"], state["exp_avg_sq"], (size, 1 - beta1, beta2, 1 - beta2, root, group["eps"])


def row_gradient(parameter: Tensor) -> RowGradient | None:
    """What listens to the gradient of ``parameter``, if anything does."""
    return getattr(parameter, LISTENER, None)


def _touch(parameter: Tensor) -> None:
    """Count a change that a kernel made behind torch's back, so that a backward pass from before it is refused."""
    parameter.detach()[:0].zero_()

"""Functions whose gradient is given by hand."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def mean_square(error: Tensor) -> Tensor:
    """Mean of the squares, () tensor."""
    return _MeanSquare.apply(error)


def with_slope(values: Tensor, threshold: Tensor, slope: Tensor) -> Tensor:
    """``values``, as if their derivative by ``threshold`` were ``slope``: for steps, which have none of their own."""
    return _WithSlope.apply(values, threshold, slope.detach())


class _MeanSquare(torch.autograd.Function):
    """One array in the backward pass, where that of a norm makes three: fresh pages cost more than the arithmetic."""

    @staticmethod
    def forward(ctx: Any, error: Tensor) -> Tensor:
        ctx.save_for_backward(error)
        return torch.linalg.vector_norm(error).square() / error.numel()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        (error,) = ctx.saved_tensors
        return error * (2 / error.numel() * grad_outputs[0])


class _WithSlope(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, threshold: Tensor, slope: Tensor) -> Tensor:
        ctx.save_for_backward(slope)
        ctx.shape = threshold.shape
        return values.view_as(values)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (gradient,) = grad_outputs
        (slope,) = ctx.saved_tensors
        return gradient, (slope * gradient).sum_to_size(ctx.shape), None

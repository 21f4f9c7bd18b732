"""What can be asked of the devices of this machine; apart from `runtime`, which imports Fabric."""

from __future__ import annotations

import torch
from torch import Tensor

from cytosae.common.errors import UsageError

WITHOUT_DOUBLE = {"mps"}
"""Kinds of devices that have no float64."""


def require_device(device: str) -> None:
    """Refuse "cuda" where no CUDA device is usable."""
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError("device is 'cuda' but no CUDA device is usable here; use 'auto' or 'cpu'.")


def double_device(device: torch.device) -> torch.device:
    """Where float64 numbers from ``device`` are kept: there, or on the CPU where it has none (Apple's)."""
    return torch.device("cpu") if device.type in WITHOUT_DOUBLE else device


def to_double(tensor: Tensor) -> Tensor:
    """The tensor in float64, on its `double_device`."""
    return tensor.to(double_device(tensor.device)).double()

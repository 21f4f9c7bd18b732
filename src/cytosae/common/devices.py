"""What can be asked of the devices of this machine; apart from `runtime`, which imports Fabric."""

from __future__ import annotations

import os

import torch
from torch import Tensor

from cytosae.common.errors import UsageError

WITHOUT_DOUBLE = {"mps"}
"""Kinds of devices that have no float64."""


def require_device(device: str) -> None:
    """Refuse "cuda" and "mps" where there is no such device."""
    usable = {"cuda": torch.cuda.is_available, "mps": torch.backends.mps.is_available}
    if device in usable and not usable[device]():
        raise UsageError(f"device is {device!r} but no {device.upper()} device is usable here; use 'auto' or 'cpu'.")


def list_devices() -> dict[torch.device, str]:
    """Usable devices of this machine, the CPU first, and what they are called."""
    capability = torch.backends.cpu.get_cpu_capability()
    found = {torch.device("cpu"): f"{os.cpu_count()} cores, {torch.get_num_threads()} threads, {capability}"}
    for i in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        found[torch.device("cuda", i)] = torch.cuda.get_device_name(i)
    if torch.backends.mps.is_available():
        found[torch.device("mps")] = "Apple"
    for i in range(torch.xpu.device_count() if torch.xpu.is_available() else 0):
        found[torch.device("xpu", i)] = f"{torch.xpu.get_device_name(i)}; `auto` does not choose it"  # Fabric cannot
    return found


def double_device(device: torch.device) -> torch.device:
    """Where float64 numbers from ``device`` are kept: there, or on the CPU where it has none (Apple's)."""
    return torch.device("cpu") if device.type in WITHOUT_DOUBLE else device


def to_double(tensor: Tensor) -> Tensor:
    """The tensor in float64, on its `double_device`."""
    return tensor.to(double_device(tensor.device)).double()

"""Who computes: the Numba kernels on a CPU, the Triton kernels on a GPU, or their PyTorch twins."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import cache
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from cytosae.sae.screening import plain

LOCK = threading.RLock()
"""Held by whoever screens: a kernel has all cores to itself, the simplest of Numba's threading layers ends the process
when two threads enter it, and a setting of torch that screening needs is the whole process's."""
_log = logging.getLogger("cytosae.sae")


class Backend(Protocol):
    """The kernels, with tensors as arguments; `kernels` describes them."""

    scan: Callable[..., None]
    by_latent: Callable[..., tuple[Tensor, Tensor, Tensor]]
    scores: Callable[..., None]
    dots: Callable[..., None]
    top_per_token: Callable[..., None]
    round_rows: Callable[..., None]
    unit_rows: Callable[..., None]
    update_rows: Callable[..., None]


@cache
def backend(name: Literal["numba", "triton", "plain"] = "numba") -> Backend:
    """The kernels by ``name``. Numba compiles each at its first use and keeps the result beside the source."""
    if name == "triton":
        from cytosae.sae.screening import triton_kernels

        return triton_kernels
    return _Numba() if name == "numba" else plain  # pyright: ignore[reportReturnType]


def backend_for(device: torch.device) -> Backend:
    """Who computes on a device: Numba on the CPU, Triton on CUDA where it works, else the twins."""
    if device.type == "cpu":
        return backend("numba")
    return backend("triton" if has_kernels(device) else "plain")


def has_kernels(device: torch.device) -> bool:
    """Whether kernels run on this device, not their twins, which make large intermediates."""
    return numba_works() if device.type == "cpu" else device.type == "cuda" and triton_works()


@cache
def numba_works() -> bool:
    """Whether the kernels can run here at all."""
    try:
        import numba  # noqa: F401
    except ImportError:  # pragma: no cover - numba is a dependency; some platforms have no build of it
        return False
    return True


@cache
def triton_works() -> bool:
    """Whether Triton is here and can compile for this machine's GPU (asked once a process)."""
    try:
        rows = torch.eye(2, device="cuda")
        backend("triton").unit_rows(rows)
        return bool((rows == torch.eye(2, device="cuda")).all())
    except Exception as error:  # Triton, its compiler or its launcher: whatever is missing, the twins serve
        _log.warning("Triton cannot be used here (%s): plain PyTorch screens on the GPU", error)
        return False


class _Numba:
    def __getattr__(self, name: str) -> Callable[..., Any]:
        import numba

        from cytosae.sae.screening import kernels

        kernel = getattr(kernels, name)

        def call(*arguments: Any) -> Any:
            with LOCK:
                threads = torch.get_num_threads()
                numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))  # pyright: ignore
                if torch.get_num_threads() != threads:  # Numba's pool, when it starts, sets OpenMP's threads for all
                    torch.set_num_threads(threads)
                return _tensors(kernel(*_arrays(arguments)))

        setattr(self, name, call)
        return call


def _arrays(value: Any) -> Any:
    if isinstance(value, Tensor):
        value = value.detach()
        return (value.view(torch.int16) if value.dtype == torch.bfloat16 else value).numpy()
    if isinstance(value, tuple):
        parts = [_arrays(part) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    return np.float32(value) if isinstance(value, float) else value


def _tensors(value: Any) -> Any:
    return tuple(torch.from_numpy(v) for v in value) if isinstance(value, tuple) else value

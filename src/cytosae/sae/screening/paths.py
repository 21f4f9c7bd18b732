"""Which way the active latents are found: dense products, or screening in bfloat16 or float32.

Screened entries are bitwise the same for both products, so measuring which is quicker here cannot change a result.
Whether to screen at all depends on the size of the problem and on the density met, never on a clock: a resumed training
takes the same way as before.
"""

from __future__ import annotations

import logging
import time
from functools import cache
from typing import Any

import torch
from torch import Tensor

from cytosae.common.errors import UsageError
from cytosae.sae.screening import Path
from cytosae.sae.screening.backend import LOCK, backend_for, has_kernels, numba_works
from cytosae.sae.screening.screen import Screen, whole_sums

WORTH_SCREENING = 1 << 34
"""Multiplications of a batch (N m d) from which `auto` screens on a CPU; compiling the kernels has to pay, too."""
WORTH_ON_GPU = 1 << 36
"""The same on a GPU, where each of many small kernels has to be launched (measured on an H200, d = 768, k = 32)."""
_log = logging.getLogger("cytosae.sae")


class Screening:
    """How one SAE finds its active latents; holds the screen of the device it is on. Not saved, not copied."""

    def __init__(self, path: Path = "auto") -> None:
        if path not in ("auto", "dense", "blocks", "screened"):
            raise UsageError(f"path must be auto, dense, blocks or screened, not {path!r}.")
        self.path: Path = path
        self.screen: Screen | None = None
        self._device: torch.device | None = None

    def screen_for(self, x: Tensor, rows: Tensor) -> Screen | None:
        """The screen for a batch x (N, d) and the encoder's rows (m, d); None where a dense product is to be used."""
        if self.path == "dense" or (self.path == "auto" and not self._worth(x, rows)):
            return None
        if self.path != "auto" and not (_can_screen(rows) and rows.dtype == torch.float32):
            raise UsageError(
                f"path = {self.path!r} needs a float32 SAE, on a CPU with numba or on a CUDA device; use path = 'auto'."
            )
        with LOCK:
            if self.screen is None or self._device != rows.device:
                on_gpu = torch.bfloat16 if rows.is_cuda else None
                fixed = {"blocks": torch.float32, "screened": torch.bfloat16}.get(self.path)
                dtype = fixed or on_gpu or quickest_product()
                self.screen, self._device = Screen(dtype, kernels=backend_for(rows.device)), rows.device
                _log.info("active latents are found by screening in %s", str(dtype).removeprefix("torch."))
            return self.screen

    @staticmethod
    def _worth(x: Tensor, rows: Tensor) -> bool:
        if x.numel() * len(rows) < (WORTH_ON_GPU if rows.is_cuda else WORTH_SCREENING) or rows.dtype != torch.float32:
            return False
        return numba_works() if rows.device.type == "cpu" else _quick_on(rows.device)

    def __deepcopy__(self, memo: dict[int, Any]) -> Screening:
        return Screening(self.path)

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "screen": None, "_device": None}


def describe_path(device: torch.device) -> str:
    """What `auto` does with large batches on a device, in words."""
    if device.type == "cpu" and numba_works():
        return f"screening in {str(quickest_product()).removeprefix('torch.')} by Numba"
    return "screening in bfloat16 by Triton" if _quick_on(device) else "dense products"


def _can_screen(rows: Tensor) -> bool:
    if rows.device.type == "cpu":
        return numba_works()
    return rows.device.type == "cuda" and keeps_bound(rows.device)


@cache
def _quick_on(device: torch.device) -> bool:
    """Whether a device has kernels, and bfloat16 products of its own that keep the bound (NVIDIA's since Ampere)."""
    if device.type != "cuda" or torch.cuda.get_device_capability(device) < (8, 0):
        return False
    return has_kernels(device) and keeps_bound(device)


@cache
def quickest_product() -> torch.dtype:
    """bfloat16 where its product keeps the bound and is quicker than that of float32 (measured once a process)."""
    if not keeps_bound():
        return torch.float32
    g = torch.Generator().manual_seed(0)
    seconds = {}
    for dtype in (torch.float32, torch.bfloat16):
        x, rows = (torch.randn(n, 512, generator=g).to(dtype) for n in (512, 2048))
        out = torch.empty(512, 2048, dtype=dtype)
        laps = []
        for _ in range(4):
            start = time.perf_counter()
            torch.mm(x, rows.T, out=out)
            laps.append(time.perf_counter() - start)
        seconds[dtype] = min(laps[1:])
    _log.info("product of 512 x 512 x 2048: %s", {str(k): f"{v * 1e3:.2f} ms" for k, v in seconds.items()})
    return min(seconds, key=lambda dtype: seconds[dtype])


@cache
def keeps_bound(device: torch.device | str = "cpu") -> bool:
    """Whether a device's bfloat16 product accumulates in float32 and rounds to nearest once, as the bound assumes.

    The sum of 1 and 4,096 times 2^-9 is 9, but stays 1 in bfloat16; the other sums lie beside a halfway case.
    """
    d = 4097
    x = torch.ones(32, d, dtype=torch.bfloat16, device=device)
    rows = torch.full((32, d), 2.0**-9, dtype=torch.bfloat16, device=device)
    rows[:, 0] = 1
    rows[1, 1:], rows[1, 1] = 0, 2.0**-7 * 0.75  # rounds up
    rows[2, 1:], rows[2, 1] = 0, 2.0**-7 * 0.25  # rounds down
    with whole_sums():
        found = torch.mm(x, rows.T)[0, :3].float().cpu()
    return torch.equal(found, torch.tensor([9.0, 1 + 2.0**-7, 1.0]))

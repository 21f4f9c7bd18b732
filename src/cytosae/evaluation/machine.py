"""What a measurement was made on."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

import torch

TELLING = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "bf16", "asimd", "sve")
"""Flags of a processor that say how fast it multiplies."""


@dataclass(frozen=True)
class Machine:
    """A processor and the torch that uses it.

    Attributes
    ----------
    processor : str
        Its name as the system gives it.
    cores : int
        Logical ones.
    threads : int
        That torch uses.
    flags : tuple of str
        Those of `TELLING` that it has.
    torch : str
        Version.
    gpu : str or None
        Name of the first GPU, or None.
    """

    processor: str
    cores: int
    threads: int
    flags: tuple[str, ...]
    torch: str
    gpu: str | None

    def __str__(self) -> str:
        flags = " ".join(self.flags) or "no vector flags known"
        gpu = f", {self.gpu}" if self.gpu else ""
        return f"{self.processor}, {self.cores} cores ({flags}){gpu}; torch {self.torch}, {self.threads} threads"


def describe_machine() -> Machine:
    """This machine as it is now; where the system does not tell, "unknown"."""
    name, flags = _cpuinfo()
    return Machine(
        processor=name or platform.processor() or platform.machine() or "unknown",
        cores=os.cpu_count() or 1,
        threads=torch.get_num_threads(),
        flags=tuple(flag for flag in TELLING if flag in flags),
        torch=torch.__version__,
        gpu=torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
    )


def _cpuinfo() -> tuple[str, set[str]]:
    """Name and flags from Linux's table of processors; empty elsewhere."""
    path = Path("/proc/cpuinfo")
    name, flags = "", set[str]()
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        key, _, value = line.partition(":")
        match key.strip():
            case "model name" if not name:
                name = value.strip()
            case "flags" | "Features" if not flags:
                flags = set(value.split())
    return name, flags

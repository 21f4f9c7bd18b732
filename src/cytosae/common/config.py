"""Where the work runs, as it is asked for; nothing here computes, so that the command line reads it quickly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Precision = Literal["32-true", "bf16-mixed"]


@dataclass(frozen=True)
class RuntimeConfig:
    """Where and how to compute; no result depends on it beyond rounding.

    Attributes
    ----------
    device : {"auto", "cpu", "cuda", "mps"}
        "auto", "cpu", "cuda" or "mps".
    devices : int or {"auto"}
        Processes on this machine ("auto" takes all GPUs, one process on a CPU).
    nodes : int
        Machines; under torchrun and Slurm Fabric reads the ranks from the environment.
    precision : {"32-true", "bf16-mixed"}
        "32-true", or "bf16-mixed" (float32 weights, bfloat16 products).
    compile : bool
        Let torch.compile work on models, on CUDA devices only.
    threads : int
        CPU threads of each process, 0 for torch's own choice.
    tracker : {"none", "tensorboard", "wandb"}
        Where training curves go beside metrics.csv: none, tensorboard (``runs/``) or wandb.
    """

    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    devices: int | Literal["auto"] = "auto"
    nodes: int = 1
    precision: Precision = "32-true"
    compile: bool = False
    threads: int = 0
    tracker: Literal["none", "tensorboard", "wandb"] = "none"

"""Where the work runs: device, precision and ranks, through Lightning Fabric."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from lightning_fabric import Fabric
from torch import nn
from torch.optim import Optimizer

from cytosae.common.devices import require_device
from cytosae.common.errors import UsageError
from cytosae.common.tracking import tracking

Precision = Literal["32-true", "bf16-mixed"]


@dataclass(frozen=True)
class RuntimeConfig:
    """Where and how to compute; no result depends on it beyond rounding.

    Attributes
    ----------
    device : "auto", "cpu", "cuda" or "mps"
    devices : processes on this machine ("auto" takes all GPUs, one process on a CPU)
    nodes : machines; under torchrun and Slurm Fabric reads the ranks from the environment
    precision : "32-true", or "bf16-mixed" (float32 weights, bfloat16 products)
    compile : let torch.compile work on models, on CUDA devices only
    threads : CPU threads of each process, 0 for torch's own choice
    tracker : where training curves go beside metrics.csv: none, tensorboard (``runs/``) or wandb
    """

    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    devices: int | Literal["auto"] = "auto"
    nodes: int = 1
    precision: Precision = "32-true"
    compile: bool = False
    threads: int = 0
    tracker: Literal["none", "tensorboard", "wandb"] = "none"


class CompilingFabric(Fabric):
    """A Fabric that hands every model to torch.compile when it is set up."""

    def setup(self, module: nn.Module, *optimizers: Optimizer, **options: Any) -> Any:
        """As Fabric's, for the compiled model; compiled by Fabric again under its own wrappers."""
        return super().setup(cast("nn.Module", torch.compile(module)), *optimizers, **options)


def make_fabric(config: RuntimeConfig | None = None, *, loggers: list[Any] | None = None) -> Fabric:
    """Build and launch a Fabric for ``config``; under torchrun or Slurm it joins the other ranks."""
    config = config or RuntimeConfig()
    require_device(config.device)
    if config.compile and (config.device == "cpu" or not torch.cuda.is_available()):
        raise UsageError("compile needs a CUDA device; leave it out here.")
    if config.threads:
        torch.set_num_threads(config.threads)
    launched = "LOCAL_RANK" in os.environ or "SLURM_NTASKS" in os.environ
    devices = config.devices
    if devices == "auto" and not torch.cuda.is_available():
        devices = int(os.environ.get("LOCAL_WORLD_SIZE", 1)) if launched else 1
    strategy = (
        "ddp" if launched and int(os.environ.get("WORLD_SIZE", os.environ.get("SLURM_NTASKS", 1))) > 1 else "auto"
    )
    kind = CompilingFabric if config.compile else Fabric
    fabric = kind(
        accelerator=config.device,
        devices=devices,
        num_nodes=config.nodes,
        precision=config.precision,
        strategy=strategy,
        loggers=[*(loggers or []), *tracking(config.tracker)],
    )
    fabric.launch()
    return fabric

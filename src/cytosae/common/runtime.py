"""Where the work runs: device, precision and ranks, through Lightning Fabric."""

from __future__ import annotations

import os
from typing import Any, cast

import torch
from lightning_fabric import Fabric
from torch import nn
from torch.optim import Optimizer

from cytosae.common.config import RuntimeConfig
from cytosae.common.devices import require_device
from cytosae.common.errors import UsageError
from cytosae.common.ranks import leave_at_exit
from cytosae.common.tracking import tracking


class CompilingFabric(Fabric):
    """A Fabric that hands every model to torch.compile when it is set up."""

    def setup(self, module: nn.Module, *optimizers: Optimizer, **options: Any) -> Any:
        """As Fabric's, for the compiled model; compiled by Fabric again under its own wrappers."""
        return super().setup(cast("nn.Module", torch.compile(module)), *optimizers, **options)


def make_fabric(config: RuntimeConfig | None = None, *, loggers: list[Any] | None = None) -> Fabric:
    """Build and launch a Fabric for ``config``; under torchrun or Slurm it joins the other ranks.

    Without either, several devices are worked by as many processes: Fabric starts the same command again for each, and
    `cytosae.common.ranks.is_first` tells them apart. The process group is left when the process ends.
    """
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
    leave_at_exit()
    return fabric

"""Training curves outside of ``metrics.csv``: TensorBoard and Weights & Biases, both optional, as loggers of Fabric."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from typing import Any

from lightning_fabric.loggers.logger import Logger
from lightning_fabric.loggers.tensorboard import TensorBoardLogger

from cytosae.common.errors import UsageError

PROJECT = "cytosae"


def tracking(tracker: str) -> list[Logger]:
    """Loggers for a tracker: none, tensorboard (into ``runs/``) or wandb; one sentence where its package is missing."""
    if tracker == "none":
        return []
    if importlib.util.find_spec(tracker) is None:
        raise UsageError(f"tracker is {tracker!r}, which is not installed; run: pip install 'cytosae[tracking]'.")
    return [TensorBoardLogger(root_dir="runs", name=PROJECT) if tracker == "tensorboard" else WandbLogger()]


class WandbLogger(Logger):
    """Weights & Biases for Fabric; nothing is sent before the first metrics, nothing at all if WANDB_MODE=offline."""

    def __init__(self) -> None:
        self._run: Any = None

    @property
    def name(self) -> str:
        """Name of the project."""
        return PROJECT

    @property
    def version(self) -> str | None:
        """Identifier of the run, None before it has begun."""
        return self._run.id if self._run is not None else None

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log values of a step."""
        self._started().log(dict(metrics), step=step)

    def log_hyperparams(self, params: Any, *_: Any, **__: Any) -> None:
        """Log the configuration."""
        self._started().config.update(dict(params))

    def finalize(self, status: str) -> None:
        """End the run."""
        if self._run is not None:
            self._run.finish(exit_code=0 if status == "success" else 1)

    def _started(self) -> Any:
        if self._run is None:
            self._run = importlib.import_module("wandb").init(project=PROJECT)
        return self._run

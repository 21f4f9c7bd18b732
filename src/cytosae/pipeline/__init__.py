"""The study: one directory that holds a piece of work, and the steps that fill it."""

from __future__ import annotations

from cytosae.pipeline.configuration import (
    Dataset,
    StudyConfig,
    name_datasets,
    read_config,
    read_toml,
    recipe_changes,
    tidy,
    write_config,
)
from cytosae.pipeline.index import Holding, index
from cytosae.pipeline.step import StepResult
from cytosae.pipeline.study import Study

__all__ = [
    "Dataset",
    "Holding",
    "StepResult",
    "Study",
    "StudyConfig",
    "index",
    "name_datasets",
    "read_config",
    "read_toml",
    "recipe_changes",
    "tidy",
    "write_config",
]

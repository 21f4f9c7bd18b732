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
from cytosae.pipeline.study import StepResult, Study

__all__ = [
    "Dataset",
    "StepResult",
    "Study",
    "StudyConfig",
    "name_datasets",
    "read_config",
    "read_toml",
    "recipe_changes",
    "tidy",
    "write_config",
]

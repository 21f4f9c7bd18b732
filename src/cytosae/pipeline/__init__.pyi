from .holdings import Holding, index
from .step import StepResult
from .study import Study
from .study_config import (
    Dataset,
    StudyConfig,
    name_datasets,
    read_config,
    read_toml,
    recipe_changes,
    tidy,
    write_config,
)

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

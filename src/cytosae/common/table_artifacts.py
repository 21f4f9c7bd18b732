"""Artifacts that are one table in one Parquet file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cytosae.common.artifact import read_artifact, write_file_artifact
from cytosae.common.records import reading

if TYPE_CHECKING:
    import pandas as pd


def save_table(
    table: pd.DataFrame,
    path: Path,
    kind: str,
    *,
    config: Any = None,
    inputs: Mapping[str, str] | None = None,
    details: dict[str, Any] | None = None,
) -> Path:
    """Write a table as a Parquet artifact of this kind; ``attrs`` are kept."""
    with write_file_artifact(path, kind, config=config, inputs=inputs, details=details) as temporary:
        table.to_parquet(temporary)
    return path


def open_table(path: Path | str, kind: str, *, verify: bool = False, mend: str = "run the step again") -> pd.DataFrame:
    """Open what `save_table` wrote; ``mend`` ends the sentence of a file that cannot be read."""
    import pandas as pd

    path = read_artifact(path, kind, verify=verify).path
    with reading(path, mend):
        return pd.read_parquet(path)

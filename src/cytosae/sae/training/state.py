"""Checkpoints of a training: written beside and renamed into place, the last few kept."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

from safetensors.torch import load_file, save_file
from torch import Tensor

from cytosae.common.artifact import hash_file
from cytosae.common.errors import ArtifactError, NewerArtifactError
from cytosae.common.records import read_record, reading, write_json
from cytosae.common.unfinished import remove, written_whole

FORMAT = 1
TENSORS, STATE = "state.safetensors", "state.json"


class _Format(TypedDict):
    format: int


class State(_Format):
    """The plain values of a checkpoint: whose it is, and where its readers (one a rank) stand."""

    step: int
    sha256: str
    recipe: str
    reader: list[dict[str, Any]]
    smoothed: list[float]


class TrainingState(NamedTuple):
    """One checkpoint: where it lies, its tensors by name, and plain values (step, reader, recipe, ...)."""

    path: Path
    tensors: dict[str, Tensor]
    values: State


def write_state(
    folder: Path, step: int, tensors: Mapping[str, Tensor], values: Mapping[str, Any], *, keep: int
) -> Path:
    """Write ``folder/step-<step>`` atomically and remove all but the ``keep`` last checkpoints."""
    path = folder / f"step-{step:09d}"
    with written_whole(path, folder=True) as temporary:
        save_file(dict(tensors), temporary / TENSORS)
        _flush(temporary / TENSORS)
        record = {"format": FORMAT, "step": step, "sha256": hash_file(temporary / TENSORS), **values}
        write_json(temporary / STATE, record)
        remove(path)
    _flush(folder)
    for old in list_states(folder)[:-keep]:
        remove(old)
    return path


def list_states(folder: Path) -> list[Path]:
    """Finished checkpoints, oldest first."""
    return sorted(path for path in folder.glob("step-*") if path.is_dir())


def read_state(path: Path) -> TrainingState:
    """Read one checkpoint.

    Raises
    ------
    ArtifactError
        where it is damaged, or of a newer format.
    """
    mend = f"delete {path} and resume from an older one"
    known = read_record(_Format, path / STATE, mend)
    if known["format"] > FORMAT:
        raise NewerArtifactError(f"{path} was written by a newer cytosae (format {known['format']}); update cytosae.")
    values = read_record(State, path / STATE, mend)
    with reading(path, mend):
        if hash_file(path / TENSORS) != values["sha256"]:
            raise ArtifactError(f"{path / TENSORS} differs from its checksum; {mend}.")
        return TrainingState(path, load_file(path / TENSORS), values)


def latest_state(folder: Path) -> TrainingState | None:
    """The newest readable checkpoint, None where there is none; leftovers of an interruption are removed."""
    for leftover in folder.glob(".step-*.partial"):
        shutil.rmtree(leftover, ignore_errors=True)
    problem = None
    for path in reversed(list_states(folder)):
        try:
            return read_state(path)
        except ArtifactError as error:
            problem = problem or error
    if problem is not None:
        raise problem
    return None


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

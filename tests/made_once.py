"""Heavy things that the processes of one run of tests share, so that two do not make the same."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder in which ``make(folder)`` was called, by the first process to ask; tests leave it as it is."""
    base = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent  # of all workers
    folder = base / f"once-{name}"
    with FileLock(f"{folder}.lock"):
        if not (folder / ".made").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            (folder / ".made").touch()
    return folder


def own_copy(folder: Path, factory: pytest.TempPathFactory) -> Path:
    """The study of a folder, copied for this process, since a command locks it and would turn others away."""
    return shutil.copytree(folder / "study", factory.mktemp(folder.name) / "study")

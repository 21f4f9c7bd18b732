"""The examples in docstrings run as they stand."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

import cytosae

ROOT = Path(cytosae.__file__).parent
FILES = [path.relative_to(ROOT) for path in ROOT.rglob("*.py") if ">>> " in path.read_text(encoding="utf-8")]


@pytest.mark.parametrize("file", FILES, ids=str)
def test_examples_say_what_comes_out(file: Path) -> None:
    module = importlib.import_module(".".join(["cytosae", *file.with_suffix("").parts]))
    result = doctest.testmod(module)
    assert result.attempted
    assert not result.failed

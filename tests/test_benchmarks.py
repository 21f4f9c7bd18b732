"""Benchmarks and scripts are run by hand and rarely; that what they import is still there is asked here."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = sorted(file for folder in ("benchmarks", "scripts") for file in (ROOT / folder).rglob("*.py"))


def imported(file: Path) -> list[tuple[str, str]]:
    """(module, name) of all that a file imports from the package."""
    nodes = [node for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))) if isinstance(node, ast.ImportFrom)]
    return [
        (n.module, name.name) for n in nodes if n.module and n.module.split(".")[0] == "cytosae" for name in n.names
    ]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_what_a_benchmark_imports_is_there(file: Path) -> None:
    for module, name in imported(file):
        try:
            assert hasattr(importlib.import_module(module), name), f"{module} has no {name}"
        except AssertionError:
            importlib.import_module(f"{module}.{name}")  # a module of the package


def test_the_benchmarks_are_found() -> None:
    assert any(imported(file) for file in FILES)

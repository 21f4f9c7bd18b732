"""What the code imports is declared: a wheel brings all that it needs, and nothing comes by way of another package."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
WITH_EXTRA = {"explorer": "explorer", "reviews": "explorer"}
"""Rooms that an extra opens."""
COMES_WITH = {"triton": "torch"}
"""What another package brings by its own word, where it can be had at all."""


def names(requirements: list[str]) -> set[str]:
    """Distributions, as PyPI compares their names."""
    found = {re.split(r"[\[<>=~! ;]", requirement)[0] for requirement in requirements}
    return {re.sub(r"[-_.]+", "-", name).lower() for name in found} - {"cytosae"}


def imported(tree: ast.Module, *, everywhere: bool) -> set[str]:
    """First parts of the modules that are imported: everywhere, or as soon as the file is."""
    found, waiting = set(), list(tree.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add(str(node.module).partition(".")[0])
        elif everywhere or not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.If, ast.Try)):
            waiting += ast.iter_child_nodes(node)
    return found - set(sys.stdlib_module_names) - {"cytosae"}


def test_every_package_that_is_imported_is_declared() -> None:
    core, extras = names(PROJECT["dependencies"]), {k: names(v) for k, v in PROJECT["optional-dependencies"].items()}
    brought_by, missing, seen = packages_distributions(), set(), set()
    for file in sorted((ROOT / "src" / "cytosae").rglob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        extra = extras.get(WITH_EXTRA.get(file.relative_to(ROOT / "src" / "cytosae").parts[0], ""), set())
        for everywhere, allowed in ((False, core | extra), (True, core.union(*extras.values()))):
            for module in imported(tree, everywhere=everywhere):
                package = COMES_WITH.get(module, module)
                known = names(brought_by.get(package, [package]))
                seen |= known
                if not known & allowed:
                    missing.add(f"{file.relative_to(ROOT)}: {module}")
    assert sorted(missing) == []
    assert core - seen <= {"torchvision"}, "declared, but imported nowhere"

"""The house: who may import whom, no circles, names that say one thing each, sizes that can be read at once."""

from __future__ import annotations

import ast
from collections import Counter
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import cytosae

SOURCE = Path(cytosae.__file__).parent
LAYERS = [
    "common",
    "cells",
    "backbones",
    "tokens",
    "sae",
    "atlas",
    "cohort",
    "evaluation",
    "reviews",
    "views",
    "report",
    "pipeline",
    "explorer",
    "cli",
]
"""Each may import those before it."""
KERNELS = {"cytosae.sae.screening.triton_kernels", "cytosae.sae.screening.kernels"}
"""Compiled functions get pointers, strides and sizes one by one."""
TWINS = {"config.py", "__init__.py", "__init__.pyi"}
"""Names that mean the same in every room."""


@cache
def modules() -> dict[str, ast.Module]:
    """Dotted name -> syntax tree of every module."""
    found = {}
    for path in sorted(SOURCE.rglob("*.py")):
        parts = ["cytosae", *path.relative_to(SOURCE).with_suffix("").parts]
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = ast.parse(path.read_text(encoding="utf-8"))
    return found


@cache
def imports() -> dict[str, set[str]]:
    """Module -> modules of the package that it imports anywhere in it, for types too."""
    known = modules()
    found: dict[str, set[str]] = {}
    for name, tree in known.items():
        targets = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                targets |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                within = {f"{node.module}.{alias.name}" for alias in node.names}
                targets |= {target if target in known else node.module for target in within}
        found[name] = {target for target in targets if target in known and target != name}
    return found


def layer(module: str) -> str:
    return [*module.split("."), ""][1]


def room(module: str) -> str:
    """``layer.room`` of a module in a room, else nothing."""
    parts = module.split(".")
    return ".".join(parts[1:3]) if len(parts) > 3 else ""


def test_every_folder_is_a_layer():
    assert {p.parent.name for p in SOURCE.glob("*/__init__.py")} <= set(LAYERS)


def test_imports_flow_one_way():
    place = {name: i for i, name in enumerate(LAYERS)}
    back = [
        f"{name} imports {target}"
        for name, targets in imports().items()
        for target in targets
        if layer(name) and layer(target) and place[layer(target)] > place[layer(name)]
    ]
    assert back == []


def test_there_is_no_circle():
    files = {name: {t for t in targets if t.count(".") > 1} for name, targets in imports().items()}  # not of packages
    TopologicalSorter(files).prepare()  # CycleError names one


def test_rooms_have_a_first_and_a_last():
    """But for those of `sae`: the autoencoder makes its variant by name, and a variant encodes by products of it."""
    rooms: dict[str, set[str]] = {}
    for name, targets in imports().items():
        if (own := room(name)) and layer(name) != "sae":
            rooms.setdefault(own, set()).update(filter(None, map(room, targets)))
    TopologicalSorter({one: targets - {one} for one, targets in rooms.items()}).prepare()  # CycleError names one


def test_names_of_files_mean_one_thing():
    counts = Counter(p.name for p in SOURCE.rglob("*.py") if p.name not in TWINS)
    assert [name for name, count in counts.items() if count > 1] == []


def test_files_can_be_read_at_once():
    lengths = {p.relative_to(SOURCE).as_posix(): p.read_text().count("\n") for p in SOURCE.rglob("*.py")}
    assert {name: length for name, length in lengths.items() if length > 400} == {}


def test_functions_have_eight_parameters_at_most():
    many = []
    for name, tree in modules().items():
        if name in KERNELS:
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                arguments = [a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
                own = [argument for argument in arguments if argument not in ("self", "cls")]
                many += [f"{name}.{node.name}: {len(own)}"] if len(own) > 8 else []
    assert many == []

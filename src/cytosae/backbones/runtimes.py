"""Who answers to ``<runtime>:<model>``: the runtimes of this package, and those that other packages register.

Another package names a function in its own pyproject.toml::

    [project.entry-points."cytosae.backbones"]
    mine = "my_package:load"

and ``load_backbone("mine:model", weights, block=...)`` calls ``load("model", weights, block)``.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path

from cytosae.backbones.protocol import MEMBERS, AnyBackbone
from cytosae.common.errors import UsageError

GROUP = "cytosae.backbones"
RUNTIMES = {
    "timm": "cytosae.backbones.timm_backbones:load_timm",
    "onnx": "cytosae.backbones.onnx_backbone:load_onnx",
}
"""Name -> the function that loads a model of it, imported when it is asked for."""

Load = Callable[[str, Path | None, int | None], AnyBackbone]


def load_by_runtime(name: str, weights: Path | None, block: int | None) -> AnyBackbone:
    """Load ``<runtime>:<model>``.

    Raises
    ------
    UsageError
        for a runtime that nobody registered, or a package whose function gives no backbone.
    """
    runtime, _, model = name.partition(":")
    found = _loader(runtime)(model, weights, block)
    missing = [member for member in MEMBERS if not hasattr(found, member)]
    if missing or not callable(found):
        raise UsageError(
            f"What {runtime!r} gives for {name} is no backbone: it lacks {', '.join(missing) or '__call__'}; "
            "see cytosae.backbones.AnyBackbone."
        )
    return found


def _loader(runtime: str) -> Load:
    if runtime in RUNTIMES:
        module, _, function = RUNTIMES[runtime].partition(":")
        return getattr(import_module(module), function)
    for entry in entry_points(group=GROUP, name=runtime):
        return entry.load()
    known = sorted({*RUNTIMES, *(entry.name for entry in entry_points(group=GROUP))})
    raise UsageError(
        f"No runtime {runtime!r} for backbones is installed; take one of {', '.join(known)}, or install the package "
        f"that registers it (entry points {GROUP!r})."
    )

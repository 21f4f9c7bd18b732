"""``cytosae doctor``: what works here, what is missing, how to get it."""

from __future__ import annotations

import importlib.util
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

import cytosae
from cytosae.common.errors import CytosaeError

NEEDED = ("torch", "torchvision", "timm", "lightning-fabric", "numba", "anndata", "tifffile", "imagecodecs", "pillow")
OPTIONAL = {
    "tensorboard": "training curves in TensorBoard: pip install 'cytosae[tracking]'",
    "wandb": "training curves in Weights & Biases: pip install 'cytosae[tracking]'",
}


class Finding(NamedTuple):
    """One line of the doctor: whether something works, and the mend where it does not."""

    what: str
    state: str
    """"ok", "missing" or "broken"; only "broken" makes the command fail."""
    detail: str


def examine(study: Path | None = None) -> list[Finding]:
    """Look at the installation, the machine and, if one is given, a study."""
    return [*_packages(), *_machine(), _finding("bundled backbone", _backbone), *(_study(study) if study else ())]


def _packages() -> Iterator[Finding]:
    yield Finding("cytosae", "ok", f"{cytosae.__version__} on Python {platform.python_version()}, {platform.system()}")
    for name in NEEDED:
        try:
            yield Finding(name, "ok", version(name))
        except PackageNotFoundError:
            yield Finding(name, "broken", f"is not installed: {sys.executable} -m pip install {name}")
    for name, mend in OPTIONAL.items():
        there = importlib.util.find_spec(name) is not None
        yield Finding(name, "ok" if there else "missing", version(name) if there else mend)


def _machine() -> Iterator[Finding]:
    from cytosae.common.devices import list_devices
    from cytosae.sae.screening.paths import describe_path

    found = list_devices()
    for device, name in found.items():
        what = "processor" if device.type == "cpu" else f"device {device}"
        yield Finding(what, "ok", f"{name}; wide SAEs by {describe_path(device)}")
    if len(found) == 1:
        yield Finding("GPU", "missing", "none usable; everything runs on the CPU, dinobloom-b is slow there")
    free = shutil.disk_usage(Path.cwd()).free
    yield Finding("disk", "ok", f"{free / 1e9:.0f} GB free here; float16 tokens of dinobloom-b take 0.39 MB a cell")


def _backbone() -> str:
    import numpy as np

    backbone = cytosae.load_backbone("tiny")
    tokens = backbone(backbone.prepare([np.zeros((64, 64, 3), np.uint8)]))
    return f"tiny gives tokens {list(tokens.shape)}, weights {backbone.weights_hash[:12]}"


def _study(path: Path) -> Iterator[Finding]:
    from cytosae.pipeline import Study, index

    for holding in index(Study(path).path, verify=True):
        whole = f"whole, {holding.kind} {holding.fingerprint[:12]}"
        yield Finding(str(path / holding.path), "broken" if holding.problem else "ok", holding.problem or whole)


def _finding(what: str, check: Callable[[], str]) -> Finding:
    try:
        return Finding(what, "ok", check())
    except CytosaeError as problem:
        return Finding(what, "broken", str(problem))

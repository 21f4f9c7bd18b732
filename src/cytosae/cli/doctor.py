"""``cytosae doctor``: what works here, what is missing, how to get it."""

from __future__ import annotations

import importlib.util
import locale
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from filelock import FileLock, Timeout

import cytosae
from cytosae.common.cache import cache_folder, is_offline
from cytosae.common.errors import CytosaeError

if TYPE_CHECKING:
    import torch

NEEDED = ("torch", "torchvision", "timm", "lightning-fabric", "numba", "anndata", "tifffile", "imagecodecs", "pillow")
OPTIONAL = {
    "fastapi": "the explorer: pip install 'cytosae[explorer]'",
    "onnxruntime": "backbones as ONNX files: pip install 'cytosae[onnx]'",
    "tensorboard": "training curves in TensorBoard: pip install 'cytosae[tracking]'",
    "wandb": "training curves in Weights & Biases: pip install 'cytosae[tracking]'",
}

SCARCE = 2_000_000_000
"""Bytes of free disk below which little can be done."""


class Finding(NamedTuple):
    """One line of the doctor: whether something works, and the mend where it does not."""

    what: str
    state: str
    """"ok", "missing" or "broken"; only "broken" makes the command fail."""
    detail: str


def examine(study: Path | None = None) -> list[Finding]:
    """Look at the installation, the machine and, if one is given, a study."""
    return [
        *_packages(),
        *_machine(),
        *_places(study or Path.cwd()),
        *_backbone(),
        *_weights(),
        *(_study(study) if study else ()),
    ]


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
    encoding = locale.getpreferredencoding(False)
    if encoding.lower().replace("-", "") == "utf8":
        yield Finding("locale", "ok", f"text is {encoding}")
    else:
        yield Finding("locale", "missing", f"text is {encoding}, names of images may not be: export PYTHONUTF8=1")


def _places(here: Path) -> Iterator[Finding]:
    """Room, the cache, the network, and whether locks hold where work is done."""
    free = shutil.disk_usage(here).free
    tokens = f"{free / 1e9:.1f} GB free at {here}; float16 tokens of dinobloom-b take 0.39 MB a cell"
    scarce = f"{tokens}: too little for most work; name a --study on another disk"
    yield Finding("disk", *(("ok", tokens) if free > SCARCE else ("missing", scarce)))
    cache = cache_folder()
    there = next(folder for folder in (cache, *cache.absolute().parents) if folder.exists())
    room = f"{shutil.disk_usage(there).free / 1e9:.1f} GB free"
    yield Finding("cache", "ok", f"{cache}, {room}; another: export CYTOSAE_CACHE=DIR")
    if is_offline():
        yield Finding(
            "network", "missing", "CYTOSAE_OFFLINE forbids every download; to allow them: unset CYTOSAE_OFFLINE"
        )
    yield _locks(here)


def _locks(here: Path) -> Finding:
    """Some network discs grant a lock to everybody, and two runs would then write the same study."""
    mend = "put the study on a local disk: --study DIR"
    try:
        with tempfile.TemporaryDirectory(prefix=".cytosae-doctor-", dir=here) as folder:
            place = Path(folder) / "lock"
            with FileLock(place, timeout=0):
                try:
                    with FileLock(place, timeout=0):
                        return Finding("file locks", "broken", f"do not hold at {here}; {mend}")
                except Timeout:
                    return Finding("file locks", "ok", f"hold at {here}")
    except (OSError, NotImplementedError) as problem:
        return Finding("file locks", "missing", f"cannot be tried at {here} ({problem}); {mend}")


def _weights() -> Iterator[Finding]:
    from cytosae.backbones import REGISTRY
    from cytosae.backbones.fetched_weights import find_weights

    for entry in REGISTRY.values():
        if not entry.record:
            continue
        place = find_weights(entry)
        detail = f"{entry.licence}: cytosae model fetch {entry.name}" if place is None else f"{place}, {entry.licence}"
        yield Finding(f"weights of {entry.name}", "missing" if place is None else "ok", detail)


def _backbone() -> Iterator[Finding]:
    """The bundled weights, and whether every device makes of them what it must."""
    from cytosae.backbones import verify_answer
    from cytosae.common.devices import list_devices

    def check(device: torch.device) -> str:
        backbone = cytosae.load_backbone("tiny")
        distance = verify_answer(backbone.to(device))
        return f"tiny gives its known answer ({distance:.0e} from it), weights {backbone.weights_hash[:12]}"

    for device in list_devices():
        where = "" if device.type == "cpu" else f" on {device}"
        yield _finding(f"bundled backbone{where}", lambda device=device: check(device))


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

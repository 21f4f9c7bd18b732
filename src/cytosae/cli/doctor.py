"""``cytosae doctor``: what works here, what is missing, how to get it."""

from __future__ import annotations

import locale
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from filelock import FileLock, Timeout
from packaging.requirements import Requirement

import cytosae
from cytosae.common.cache import cache_folder, is_offline
from cytosae.common.errors import CytosaeError

if TYPE_CHECKING:
    import torch

SHOWN = ("torch", "torchvision", "timm", "lightning-fabric", "numba", "anndata", "tifffile", "imagecodecs", "pillow")
"""Packages whose version is worth a line; of the others only what is missing is told."""
EXTRAS = {
    "explorer": "the explorer",
    "onnx": "backbones as ONNX files",
    "postgres": "reviews in PostgreSQL",
    "tracking": "training curves in TensorBoard and Weights & Biases",
}
NETWORK_DISCS = ("nfs", "cifs", "smb", "lustre", "beegfs", "gpfs", "ceph", "glusterfs", "afs", "9p", "fuse.sshfs")
"""How the kinds of file systems begin that several machines may share."""
CUDA_WHEELS = "https://download.pytorch.org/whl/cu128"
"""As in the Dockerfile's example."""

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
    problems = {(package, extra): problem for package, extra, problem in _unmet()}
    for name in SHOWN:
        if (name, "") not in problems:
            yield Finding(name, "ok", version(name))
    for (name, extra), problem in problems.items():
        if not extra:
            yield Finding(name, "broken", f"{problem}: {sys.executable} -m pip install --upgrade {name}")
    for extra, use in EXTRAS.items():
        lacking = [name for name, of in problems if of == extra]
        told = f"{use}; missing {', '.join(lacking)}: {sys.executable} -m pip install 'cytosae[{extra}]'"
        yield Finding(f"extra {extra}", *(("missing", told) if lacking else ("ok", use)))


def _unmet() -> Iterator[tuple[str, str, str]]:
    """What the package asks for and is not here, or too old: name, extra ("" for what is always needed), problem."""
    for asked in map(Requirement, requires("cytosae") or ()):
        extra = next((name for name in EXTRAS if f"'{name}'" in str(asked.marker).replace('"', "'")), "")
        if asked.marker and not asked.marker.evaluate({"extra": extra}):
            continue  # of other extras, or other systems
        try:
            found = version(asked.name)
        except PackageNotFoundError:
            yield asked.name, extra, "is not installed"
        else:
            if not asked.specifier.contains(found, prereleases=True):
                yield asked.name, extra, f"is {found}, needed is {asked.specifier}"


def _machine() -> Iterator[Finding]:
    from cytosae.common.devices import list_devices
    from cytosae.sae.screening.paths import describe_path

    found = list_devices()
    for device, name in found.items():
        what = "processor" if device.type == "cpu" else f"device {device}"
        yield Finding(what, "ok", f"{name}; wide SAEs by {describe_path(device)}")
    if len(found) == 1:
        yield Finding("GPU", "missing", _why_no_gpu())
    encodings = {"text": locale.getpreferredencoding(False), "names of files": sys.getfilesystemencoding()}
    told = ", ".join(f"{what}: {encoding}" for what, encoding in encodings.items())
    if {encoding.lower().replace("-", "") for encoding in encodings.values()} == {"utf8"}:
        yield Finding("locale", "ok", told)
    else:
        yield Finding("locale", "missing", f"{told}; names of images may be in UTF-8: export PYTHONUTF8=1")


def _why_no_gpu() -> str:
    """Whether there is one that this PyTorch cannot use, and the command that mends it."""
    import torch

    if shutil.which("nvidia-smi") is None:
        return "none usable; everything runs on the CPU, dinobloom-b is slow there"
    if torch.version.cuda is None:
        mend = f"{sys.executable} -m pip install --force-reinstall torch torchvision --index-url {CUDA_WHEELS}"
        return f"there is NVIDIA's driver, but this PyTorch is for the CPU alone: {mend}"
    return (
        f"there is NVIDIA's driver, but PyTorch for CUDA {torch.version.cuda} sees no GPU: nvidia-smi tells whether "
        "there is one and for which CUDA the driver is; also look at CUDA_VISIBLE_DEVICES"
    )


def _places(here: Path) -> Iterator[Finding]:
    """Room, the cache, the network, and whether locks hold where work is done."""
    free = shutil.disk_usage(here).free
    tokens = f"{free / 1e9:.1f} GB free at {here}; float16 tokens of dinobloom-b take 0.39 MB a cell"
    scarce = f"{tokens}: too little for most work; name a --study on another disk"
    yield Finding("disk", *(("ok", tokens) if free > SCARCE else ("missing", scarce)))
    cache = cache_folder()
    there = next(folder for folder in (cache, *cache.absolute().parents) if folder.exists())
    room = shutil.disk_usage(there).free
    writable = os.access(there, os.W_OK)
    told = f"{cache}, {room / 1e9:.1f} GB free{'' if writable else ', not writable'}; another: export CYTOSAE_CACHE=DIR"
    yield Finding("cache", "ok" if writable and room > SCARCE else "missing", told)
    if is_offline():
        yield Finding(
            "network", "missing", "CYTOSAE_OFFLINE forbids every download; to allow them: unset CYTOSAE_OFFLINE"
        )
    yield _locks(here)


def _locks(here: Path) -> Finding:
    """Some network discs grant a lock to everybody, and two runs would then write the same study."""
    mend = "put the study on a local disk: --study DIR"
    kind = _network_disc(here)
    tried = f"hold at {here}" + (f" among programs of this machine; on {kind} others were not tried" if kind else "")
    try:
        with tempfile.TemporaryDirectory(prefix=".cytosae-doctor-", dir=here) as folder:
            place = Path(folder) / "lock"
            with FileLock(place, timeout=0):
                try:
                    with FileLock(place, timeout=0):
                        return Finding("file locks", "broken", f"do not hold at {here}; {mend}")
                except Timeout:
                    return Finding("file locks", "ok", tried)
    except (OSError, NotImplementedError) as problem:
        return Finding("file locks", "missing", f"cannot be tried at {here} ({problem}); {mend}")


def _network_disc(here: Path, mounts: Path = Path("/proc/self/mounts")) -> str:
    """The kind of file system where that may be shared by machines; "" elsewhere, and where it is not known."""
    if not mounts.is_file():  # not Linux
        return ""
    fields = [line.split() for line in mounts.read_text(encoding="utf-8", errors="replace").splitlines()]
    # the last of those mounted at one place lies above the others; spaces are written as \\040
    kinds = {Path(place.replace("\\040", " ")): kind for _, place, kind, *_ in fields}
    place = here.resolve()
    kind = next((kinds[folder] for folder in (place, *place.parents) if folder in kinds), "")
    return kind if kind.startswith(NETWORK_DISCS) else ""


def _weights() -> Iterator[Finding]:
    from cytosae.backbones import REGISTRY
    from cytosae.backbones.fetched_weights import find_weights
    from cytosae.sae.exchange.published_saes import SAES, find_published

    for entry in REGISTRY.values():
        if not entry.record:
            continue
        place = find_weights(entry)
        detail = f"{entry.licence}: cytosae model fetch {entry.name}" if place is None else f"{place}, {entry.licence}"
        yield Finding(f"weights of {entry.name}", "missing" if place is None else "ok", detail)
    for sae in SAES.values():
        place = find_published(sae)
        licence = f"licence: {sae.licence} {sae.origin}"
        detail = f"{licence}: cytosae model fetch {sae.name}" if place is None else f"{place}, {licence}"
        yield Finding(f"SAE {sae.name}", "missing" if place is None else "ok", detail)


def _backbone() -> Iterator[Finding]:
    """The bundled weights, and whether every device makes of them what it must."""
    from cytosae.backbones import verify_answer
    from cytosae.common.devices import list_devices

    def check(device: torch.device) -> str:
        backbone = cytosae.load_backbone("tiny")
        distance, licence = verify_answer(backbone.to(device)), backbone.describe()["licence"]
        return f"tiny gives its known answer ({distance:.0e} from it); {backbone.weights_hash[:12]}, {licence}"

    for device in list_devices():
        what = "bundled backbone" if device.type == "cpu" else f"bundled backbone on {device}"
        try:
            yield _finding(what, lambda device=device: check(device))
        except (RuntimeError, AssertionError) as problem:  # as torch says that a device fails
            said = " ".join(str(problem).split())[:200]
            yield Finding(what, "missing", f"cannot be computed there ({said}); elsewhere: --runtime.device cpu")


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

"""`load_backbone`: from a name and a weights file to a backbone, or to a sentence that says what is missing."""

from __future__ import annotations

import json
import re
from contextlib import nullcontext
from importlib import resources
from pathlib import Path
from typing import Any

import timm
from timm.models.eva import Eva

from cytosae.backbones.backbone import Backbone
from cytosae.backbones.blocks import hooked_backbone
from cytosae.backbones.checkpoints import (
    dinobloom_state,
    hash_weights_file,
    load_strictly,
    read_state,
)
from cytosae.backbones.fetched_weights import find_weights
from cytosae.backbones.former_weights import find_former
from cytosae.backbones.known_answer import verify_answer
from cytosae.backbones.preprocessing import Preprocessing
from cytosae.backbones.protocol import AnyBackbone
from cytosae.backbones.registry import REGISTRY, BackboneEntry
from cytosae.backbones.runtimes import load_by_runtime
from cytosae.common.errors import UsageError, WeightsError

_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def load_backbone(
    name: str = "tiny", weights: str | Path | None = None, *, block: int | None = None, verify: bool = False
) -> AnyBackbone:
    """Load a backbone with its weights, never with random ones.

    Parameters
    ----------
    name : str
        ``tiny`` (shipped), ``dinobloom-s``, ``-b``, ``-l``, ``-g``, or ``timm:<model>``, any vision transformer of
        timm (``timm:hf-hub:<owner>/<name>``: on the hub), ``onnx:<name>``, a file of `export_onnx`, or
        ``<runtime>:<model>`` of another package (`runtimes`).
    weights : str or Path or None
        File with the weights: for DinoBloom one as published (None: as `cytosae model fetch` left it in the cache); for
        timm a state dict in timm's names (None: fetched through timm); for ONNX the file; for tiny another training of
        it, or the sha256 of weights that an earlier version bundled (None: the shipped ones).
    block : int or None
        The block after which tokens are taken: 1 for the first, or negative, -1 for the last; None for the second to
        last, as in the paper.
    verify : bool
        Compute the known answer of the weights, too, where there is one (`verify_answer`).

    Returns
    -------
    AnyBackbone
        A `Backbone`, or what another runtime has; in evaluation mode, on the CPU, in float32

    Raises
    ------
    UsageError
        for an unknown name, or a block that the model does not have.
    WeightsError
        where the weights are missing, damaged, unsafe, do not fit in every key, or do not give their known answer.

    Examples
    --------
    >>> import cytosae
    >>> import numpy as np
    >>> backbone = cytosae.load_backbone("tiny")
    >>> images = [np.full((64, 64, 3), 200, np.uint8), np.zeros((90, 80, 3), np.uint8)]
    >>> backbone(backbone.prepare(images)).shape
    torch.Size([2, 257, 192])
    """
    backbone = _load(name, weights, block)
    if verify:
        verify_answer(backbone)
    return backbone


def _load(name: str, weights: str | Path | None, block: int | None) -> AnyBackbone:
    path = None if weights is None else Path(weights)
    if ":" in name:
        return load_by_runtime(name, path, block)
    if name == "tiny" and re.fullmatch("[0-9a-f]{64}", str(weights)):
        return _load_tiny(REGISTRY[name], find_former(str(weights)), block, source=REGISTRY[name].origin)
    entry = REGISTRY.get(name)
    if entry is None:
        raise UsageError(f"Unknown backbone {name!r}; take one of {', '.join(REGISTRY)}, onnx:<name> or timm:<model>.")
    return _load_tiny(entry, path, block) if name == "tiny" else _load_dinobloom(entry, path, block)


def _load_tiny(entry: BackboneEntry, path: Path | None, block: int | None, source: str | None = None) -> Backbone:
    """Load the bundled backbone: tiny.safetensors, with tiny.json beside it; ``source`` as tokens record it."""
    shipped = resources.files("cytosae.backbones") / "weights" / entry.files[0]
    with resources.as_file(shipped) if path is None else nullcontext(path) as file:
        if not file.is_file():
            raise WeightsError(
                f"There is no weights file {file}; install cytosae anew, or train it (scripts/train_tiny.py)."
            )
        metadata = _read_metadata(file.with_suffix(".json"))
        found = hash_weights_file(file)
        if found != metadata["sha256"]:
            raise WeightsError(
                f"{file} is not the file that {file.stem}.json describes (sha256 {found}); install it anew."
            )
        model = Eva(**metadata["architecture"]["arguments"])
        load_strictly(model, read_state(file), str(file))
    asked = metadata["preprocessing"]
    preprocessing = Preprocessing(
        size=asked["size"], mean=tuple(asked["mean"]), std=tuple(asked["std"]), interpolation=asked["interpolation"]
    )
    source = source or (entry.origin if path is None else path.name)
    return hooked_backbone(model, entry.name, preprocessing, block, found, source, metadata["licence"])


def _read_metadata(path: Path) -> dict[str, Any]:
    """Read the description beside the weights of tiny."""
    try:
        metadata = json.loads(path.read_text())
        known = metadata["architecture"]["class"] == "Eva" and {"sha256", "preprocessing", "licence"} <= metadata.keys()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{path}, which describes the weights, is missing or damaged; restore it.") from error
    if not known:
        raise WeightsError(f"{path} describes weights that this version does not know; install a newer cytosae.")
    return metadata


def _load_dinobloom(entry: BackboneEntry, path: Path | None, block: int | None) -> Backbone:
    """Load a published DinoBloom checkpoint into timm's DINOv2 of the same size, at 224 px."""
    path = path or find_weights(entry)
    if path is None:
        known = "".join(f" (sha256 of {file}: {value})" for file, value in entry.sha256.items())
        raise WeightsError(
            f"The weights of {entry.name} do not come with cytosae: cytosae model fetch {entry.name}, or fetch "
            f"{' or '.join(entry.files)} from {entry.origin}{known}, and pass the file as weights=PATH "
            "(--backbone.weights on the command line)."
        )
    loaded = read_state(path)
    found = hash_weights_file(path)
    expected = entry.sha256.get(path.name)
    if expected is not None and found != expected:
        raise WeightsError(
            f"{path} has the name of a published file but not its checksum (sha256 {found} instead of {expected}); "
            "fetch it again, or rename it if it is meant to be another one."
        )
    model = timm.create_model(entry.timm_model, pretrained=False, num_classes=0, img_size=224, dynamic_img_size=False)
    load_strictly(model, dinobloom_state(loaded, str(path)), str(path))
    preprocessing = Preprocessing(size=224, mean=_IMAGENET_MEAN, std=_IMAGENET_STD, interpolation="bilinear")
    return hooked_backbone(
        model, entry.name, preprocessing, block, found, f"{path.name} ({entry.origin})", entry.licence
    )

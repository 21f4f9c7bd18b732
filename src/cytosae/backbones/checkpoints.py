"""Reading weights made by others: safe, every key accounted for, and refused with a sentence where they do not fit."""

from __future__ import annotations

import hashlib
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from cytosae.common.errors import WeightsError

_SAFETENSORS = ".safetensors"
_PICKLES = (".pth", ".pt", ".bin")


def load_strictly(model: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Put a state dict into a model; keys that are missing, left over or of another shape are an error.

    Parameters
    ----------
    model : Module
        Whose parameters and persistent buffers are to be filled; float tensors are cast to their dtypes.
    state : mapping of str to Tensor
        By the names of the model.
    source : str
        File, for the message.

    Raises
    ------
    WeightsError
        naming the file and the keys.
    """
    own = model.state_dict()
    shared = [key for key in own if key in state]
    problems = [
        ("lacks", [key for key in own if key not in state]),
        ("has in excess", [key for key in state if key not in own]),
        (
            "has in another shape",
            [
                f"{k} {list(state[k].shape)} instead of {list(own[k].shape)}"
                for k in shared
                if state[k].shape != own[k].shape
            ],
        ),
    ]
    found = "; ".join(f"{verb} {len(keys)} keys ({_some(keys)})" for verb, keys in problems if keys)
    if found:
        raise WeightsError(
            f"The weights in {source} do not fit {type(model).__name__}: it {found}; check that it is of this backbone."
        )
    model.load_state_dict(dict(state))


def read_state(path: Path) -> dict[str, Any]:
    """Read a .safetensors, .pth, .pt or .bin file without running anything that is in it.

    Returns
    -------
    dict of str to object
        What the file holds: tensors by name, or a mapping of such mappings.

    Raises
    ------
    WeightsError
        for a missing, damaged or foreign file, or a pickle that holds more than tensors and plain containers.
    """
    if not path.is_file():
        raise WeightsError(f"There is no weights file {path}; check the path.")
    if path.suffix == _SAFETENSORS:
        try:
            return dict(load_file(path))
        except (SafetensorError, OSError) as error:
            raise WeightsError(
                f"{path} is not a readable safetensors file ({first_line(error)}); fetch it again."
            ) from error
    if path.suffix not in _PICKLES:
        raise WeightsError(f"{path} is no weights file that cytosae reads; it takes .safetensors, .pth, .pt and .bin.")
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path} is damaged, or holds more than tensors and so could run code when opened; it was not loaded: "
            "take the file of the original publication."
        ) from error
    except Exception as error:  # a damaged pickle provokes whatever its opcodes can
        raise WeightsError(f"{path} is not a readable checkpoint ({first_line(error)}); fetch it again.") from error
    if not isinstance(loaded, Mapping):
        raise WeightsError(f"{path} holds a {type(loaded).__name__} instead of tensors by name; take a state dict.")
    return dict(loaded)


def dinobloom_state(loaded: Mapping[str, Any], source: str) -> dict[str, Tensor]:
    """Translate a published DinoBloom (or DINOv2 hub) checkpoint to the names of timm.

    The published files hold ``{"teacher": {"backbone.<key>": tensor}}`` with the heads of the self-supervised training
    beside; state dicts of the hub have the keys alone. Blocks may be in chunks (``blocks.0.3.``), the SwiGLU of G is
    called w12 and w3, and a mask token is left over from training.

    Raises
    ------
    WeightsError
        where there are no tensors by name.
    """
    teacher = loaded.get("teacher", loaded)
    if not isinstance(teacher, Mapping) or not all(isinstance(value, Tensor) for value in teacher.values()):
        raise WeightsError(
            f"{source} has no tensors by name under 'teacher'; take a DinoBloom checkpoint as published."
        )
    state: dict[str, Tensor] = {}
    for key, value in teacher.items():
        if "dino_head" in key or "ibot_head" in key:
            continue
        name = str(key).removeprefix("backbone.")
        if name == "mask_token":
            continue
        name = re.sub(r"^blocks\.\d+\.(\d+)\.", r"blocks.\1.", name)
        name = name.replace(".mlp.w12.", ".mlp.fc1.").replace(".mlp.w3.", ".mlp.fc2.")
        if name in state:
            raise WeightsError(f"{source} holds the key {name} twice; take a DinoBloom checkpoint as published.")
        state[name] = value
    return state


def hash_weights_file(path: Path) -> str:
    """Return the sha256 of a file's bytes, hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def hash_state(model: nn.Module) -> str:
    """Return the sha256 of a model's names, dtypes, shapes and bytes, for weights that come from no single file."""
    digest = hashlib.sha256()
    for key, value in sorted(model.state_dict().items()):
        digest.update(f"{key} {value.dtype} {list(value.shape)}\n".encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _some(keys: list[str], most: int = 4) -> str:
    """Name a few keys, and say that there are more."""
    return ", ".join(keys[:most]) + (", ..." if len(keys) > most else "")


def first_line(error: BaseException) -> str:
    """Return the beginning of an error's message, for one sentence."""
    return (str(error) or type(error).__name__).splitlines()[0][:160]

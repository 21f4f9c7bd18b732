"""Any vision transformer of timm, from its hub or from a file."""

from __future__ import annotations

from pathlib import Path

import timm
from timm.data.config import resolve_data_config
from torch import nn

from cytosae.backbones.backbone import Backbone
from cytosae.backbones.blocks import hooked_backbone
from cytosae.backbones.checkpoints import first_line, hash_state, hash_weights_file, load_strictly, read_state
from cytosae.backbones.preprocessing import Preprocessing
from cytosae.common.errors import UsageError, WeightsError


def load_timm(asked: str, path: Path | None, block: int | None) -> Backbone:
    """Load ``timm:<asked>``."""
    name = f"timm:{asked}"
    # hf-hub:OWNER/NAME and local-dir:FOLDER are models in timm's format that its own list does not have
    if ":" not in asked and not timm.is_model(asked):
        raise UsageError(f"timm has no model {asked!r}; see timm.list_models() for those that it has.")
    try:
        model = timm.create_model(asked, pretrained=path is None, num_classes=0)
    except Exception as error:  # hubs fail in as many ways as there are clients of them
        raise WeightsError(
            f"The weights of {name} could not be fetched through timm ({first_line(error)}); "
            "connect to its hub, or pass a local file as weights=PATH (--backbone.weights)."
        ) from error
    if path is None:
        digest, source = hash_state(model), f"timm {timm.__version__}, pretrained {asked}"
        licence = str(getattr(model, "pretrained_cfg", {}).get("license") or "see the model's page in timm's hub")
    else:
        state = read_state(path)
        # the classifier is no part of a backbone; everything else must fit
        state = {key: value for key, value in state.items() if not key.startswith(("head.", "head_dist."))}
        load_strictly(model, state, str(path))
        digest, source, licence = hash_weights_file(path), path.name, "that of the file given"
    return hooked_backbone(model, name, _timm_preprocessing(model, name), block, digest, source, licence)


def _timm_preprocessing(model: nn.Module, name: str) -> Preprocessing:
    """Take size, mean, s.d. and interpolation from timm's data config; without its crop: cells fill images."""
    config = resolve_data_config({}, model=model)
    channels, *size = config["input_size"]
    size = getattr(getattr(model, "patch_embed", None), "img_size", None) or size  # of this model, made for any size
    if channels != 3:
        raise WeightsError(f"{name} takes images of {channels} channels; cytosae needs 3, of colours.")
    return Preprocessing(
        tuple(size), mean=tuple(config["mean"]), std=tuple(config["std"]), interpolation=config["interpolation"]
    )

"""The block after which tokens are taken, counted from 1, and the backbone that is hooked there."""

from __future__ import annotations

from typing import Any

from torch import nn

from cytosae.backbones.backbone import Backbone
from cytosae.backbones.preprocessing import Preprocessing
from cytosae.common.errors import UsageError


def hooked_backbone(
    model: nn.Module, name: str, preprocessing: Preprocessing, block: int | None, digest: str, source: str, licence: str
) -> Backbone:
    """Build the backbone, with the block counted from 1."""
    blocks: Any = getattr(model, "blocks", ())
    hooked = block_number(block, len(blocks), name) if len(blocks) else 1  # no blocks: refused by Backbone itself
    return Backbone(
        model,
        name=name,
        preprocessing=preprocessing,
        block=hooked,
        weights_hash=digest,
        source=source,
        licence=licence,
    )


def block_number(block: int | None, depth: int, name: str) -> int:
    """Return the number of a block, 1 to depth, from a number or a negative index."""
    asked = -2 if block is None else block
    number = asked if asked > 0 else depth + 1 + asked
    if asked == 0 or not 1 <= number <= depth:
        raise UsageError(f"{name} has blocks 1 to {depth} (or -{depth} to -1), not {asked}.")
    return number

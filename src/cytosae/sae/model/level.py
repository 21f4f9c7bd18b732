"""Which tokens an SAE was trained on; others have the same width and mean something else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cytosae.cells.focus.patch_grid import Grid, grid_of
from cytosae.common.configuration import to_plain
from cytosae.common.errors import InputError

if TYPE_CHECKING:
    from cytosae.sae.model.autoencoder import SparseAutoencoder

_WORDS = {
    "weights": "by the weights {}",
    "block": "after block {}",
    "preprocessing": "of images prepared by {}",
    "side": "on a grid of {} patches",
    "stain": "with the stain normalisation {}",
}
"""What makes a level of tokens, and how it is said."""


def level_of(backbone: Mapping[str, Any]) -> dict[str, Any]:
    """The level of tokens, from what a backbone or a token store says (``describe()``, ``manifest["backbone"]``).

    A file that was exported from other weights (ONNX) counts as these.
    """
    weights = backbone.get("exported_from", backbone.get("weights_hash"))
    known = {**to_plain(backbone), "weights": weights, "stain": backbone.get("stain", "none")}
    return {field: known.get(field) for field in _WORDS}


def refuse_other_level(sae: SparseAutoencoder, backbone: Mapping[str, Any], where: str) -> None:
    """Raise `InputError` where an SAE that knows its tokens meets others, named ``where``, than it was trained on."""
    if sae.level is None:
        return
    found = level_of(backbone)
    for field, words in _WORDS.items():
        if field in sae.level and sae.level[field] != found[field]:
            trained, given = (words.format(_shown(level[field], field)) for level in (sae.level, found))
            raise InputError(
                f"The SAE was trained on tokens {trained}, but {where} gives those {given}; use what the SAE was "
                "trained with."
            )


def trained_grid(sae: SparseAutoencoder) -> Grid | None:
    """The grid of patches that an SAE was trained on, where it knows."""
    side = (sae.level or {}).get("side")
    return None if side is None else grid_of(side)


def _shown(value: Any, field: str) -> str:
    if field == "side" and value is not None:
        return "{} x {}".format(*grid_of(value))
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {part}" for key, part in value.items())
    return value[:12] if isinstance(value, str) else str(value)

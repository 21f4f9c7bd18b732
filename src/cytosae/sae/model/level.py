"""Which tokens an SAE was trained on; others have the same width and mean something else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cytosae.common.configuration import to_plain
from cytosae.common.errors import InputError

if TYPE_CHECKING:
    from cytosae.sae.model.autoencoder import SparseAutoencoder

_WORDS = {
    "weights": "by the weights {}",
    "block": "after block {}",
    "preprocessing": "of images prepared by {}",
    "side": "on a grid of {0} x {0} patches",
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
            raise InputError(
                f"The SAE was trained on tokens {words.format(_shown(sae.level[field]))}, but {where} gives those "
                f"{words.format(_shown(found[field]))}; use what the SAE was trained with."
            )


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {part}" for key, part in value.items())
    return value[:12] if isinstance(value, str) else str(value)

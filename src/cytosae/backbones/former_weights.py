"""Weights that were bundled before: found by their hash, so that studies made with them can be continued."""

from __future__ import annotations

from pathlib import Path

from cytosae.backbones.registry import REGISTRY
from cytosae.common.cache import cache_folder
from cytosae.common.errors import WeightsError

IN_THE_REPOSITORY = Path(__file__).parents[3] / "weights"
"""Where the source repository keeps them; an installed wheel has no such folder."""


def is_former(weights_hash: str) -> bool:
    """Whether these are weights of `tiny` that an earlier version bundled."""
    return weights_hash in REGISTRY["tiny"].former


def find_former(weights_hash: str) -> Path:
    """The file of former weights, with its description beside it.

    Parameters
    ----------
    weights_hash : str
        sha256 of the weights, hexadecimal.

    Returns
    -------
    Path

    Raises
    ------
    WeightsError
        where no version bundled such weights, or they are not on this machine; says where they are looked for.
    """
    if not is_former(weights_hash):
        raise WeightsError(
            f"No version of cytosae bundled weights with the sha256 {weights_hash!r}; pass the file as weights=PATH "
            "(--backbone.weights on the command line)."
        )
    name, folder = REGISTRY["tiny"].former[weights_hash], cache_folder() / "weights"
    for file in (IN_THE_REPOSITORY / name, folder / name):
        if file.is_file():
            return file
    raise WeightsError(
        f"{name} (sha256 {weights_hash}) no longer comes with cytosae: copy weights/{name} and the .json beside it "
        f"from the source repository to {folder}, or start a new study with the present weights."
    )

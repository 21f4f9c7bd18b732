"""Which image is image k in the published statistics of Acevedo: they name images by their place in a shuffled list."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

import numpy as np

CLASS_OF_PREFIX = {
    "BA": "basophil",
    "BNE": "neutrophil_band",
    "EO": "eosinophil",
    "ERB": "erythroblast",
    "IG": "ig",
    "LY": "lymphocyte",
    "MMY": "metamyelocyte",
    "MO": "monocyte",
    "MY": "myelocyte",
    "NEUTROPHIL": "neutrophil",
    "PLATELET": "platelet",
    "PMY": "promyelocyte",
    "SNE": "neutrophil_segmented",
}
"""Prefix of a file of Acevedo et al. (Mendeley Data snkd93bnjr) -> the folder that it was sorted into."""
SEED = 1
"""Of the permutation behind the published statistics."""


@cache
def acevedo_order() -> tuple[str, ...]:
    """File name of each of the 17,092 images, in the order of the published statistics.

    The 13 classes that the prefixes give are folders in alphabetical order, files sorted within them by name as text;
    ``numpy.random.default_rng(1).permutation(17092)`` then says which file is image k.
    """
    names = sorted(_names(), key=lambda name: (class_of(name), name))
    return tuple(names[i] for i in np.random.default_rng(SEED).permutation(len(names)))


def class_of(name: str) -> str:
    """Class of a file of Acevedo by the prefix of its name."""
    return CLASS_OF_PREFIX[name.partition("_")[0]]


def _names() -> list[str]:
    """File names as published; the list has a prefix and numbers in each line."""
    text = files("cytosae.atlas.published").joinpath("acevedo_files.txt").read_text(encoding="utf-8")
    lines = (line.split() for line in text.splitlines())
    return [f"{prefix}_{number}.jpg" for prefix, *numbers in lines for number in numbers]

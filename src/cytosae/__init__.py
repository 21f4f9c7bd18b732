"""cytosae: the tokens of a blood-cell vision transformer as concepts that a hematologist can see and check."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from cytosae.common.artifact import package_version

if TYPE_CHECKING:
    from cytosae.atlas import build_atlas, concept_map
    from cytosae.backbones import load_backbone
    from cytosae.cells import CellTable, read_cells
    from cytosae.cohort import barcodes, classify, contrast, explain_decision
    from cytosae.pipeline import Study
    from cytosae.sae import SparseAutoencoder, load_sae
    from cytosae.tokens import extract, open_tokens

__version__ = package_version()

# Public name -> module. Imported at first use, so that `import cytosae` and `cytosae --help` stay quick.
_PUBLIC = {
    "CellTable": "cytosae.cells",
    "SparseAutoencoder": "cytosae.sae",
    "Study": "cytosae.pipeline",
    "barcodes": "cytosae.cohort",
    "build_atlas": "cytosae.atlas",
    "classify": "cytosae.cohort",
    "concept_map": "cytosae.atlas",
    "contrast": "cytosae.cohort",
    "explain_decision": "cytosae.cohort",
    "extract": "cytosae.tokens",
    "load_backbone": "cytosae.backbones",
    "load_sae": "cytosae.sae",
    "open_tokens": "cytosae.tokens",
    "read_cells": "cytosae.cells",
}

__all__ = [
    "CellTable",
    "SparseAutoencoder",
    "Study",
    "barcodes",
    "build_atlas",
    "classify",
    "concept_map",
    "contrast",
    "explain_decision",
    "extract",
    "load_backbone",
    "load_sae",
    "open_tokens",
    "read_cells",
]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'cytosae' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])

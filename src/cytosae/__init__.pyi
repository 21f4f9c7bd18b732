from . import atlas, backbones, cells, cohort, common, evaluation, pipeline, report, sae, tokens
from .atlas import build_atlas, compare_atlases, concept_map
from .backbones import load_backbone
from .cells import CellTable, read_cells
from .cohort import barcodes, classify, contrast, explain_decision
from .pipeline import Study
from .sae import SparseAutoencoder, SparseCoder, load_sae
from .tokens import extract, open_tokens

__version__: str

__all__ = [
    "CellTable",
    "SparseAutoencoder",
    "SparseCoder",
    "Study",
    "atlas",
    "backbones",
    "barcodes",
    "build_atlas",
    "cells",
    "classify",
    "cohort",
    "common",
    "compare_atlases",
    "concept_map",
    "contrast",
    "evaluation",
    "explain_decision",
    "extract",
    "load_backbone",
    "load_sae",
    "open_tokens",
    "pipeline",
    "read_cells",
    "report",
    "sae",
    "tokens",
]

"""What each latent does on a data set: statistics, reference cells, maps and where they lie in the cell."""

from __future__ import annotations

from cytosae.atlas.build import AtlasPiece, build_atlas, build_piece, reference_table
from cytosae.atlas.maps import concept_map, concept_maps, reference_maps
from cytosae.atlas.mask_agreement import localisation, open_localisation, save_localisation
from cytosae.atlas.matrix import read_rows, row_blocks, stored_entries
from cytosae.atlas.statistics import LatentStatistics, class_selectivity, label_entropy
from cytosae.atlas.storage import open_atlas, save_atlas, write_atlas
from cytosae.atlas.unit_search import Localisation, LocalisationConfig
from cytosae.atlas.usefulness import select_concepts, usefulness

__all__ = [
    "AtlasPiece",
    "LatentStatistics",
    "Localisation",
    "LocalisationConfig",
    "build_atlas",
    "build_piece",
    "class_selectivity",
    "concept_map",
    "concept_maps",
    "label_entropy",
    "localisation",
    "open_atlas",
    "open_localisation",
    "read_rows",
    "reference_maps",
    "reference_table",
    "row_blocks",
    "save_atlas",
    "save_localisation",
    "select_concepts",
    "stored_entries",
    "usefulness",
    "write_atlas",
]

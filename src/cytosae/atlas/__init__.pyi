from .comparing.carried_latents import AtlasComparison, compare_atlases
from .comparing.drift import Drift, measure_drift
from .comparing.matching import Matching, match_directions, match_profiles
from .comparing.merging import merge_atlases, share_atlas
from .config import GazeConfig, LocalisationConfig
from .explaining.gaze import Gaze, where_it_looks
from .explaining.intervention import (
    DoseResponse,
    Effect,
    Interaction,
    change_concepts,
    dose_response,
    interaction,
    token_directions,
)
from .making.build import AtlasPiece, build_atlas, build_piece, reference_table
from .making.random_latents import describe_random, open_random_latents, save_random_latents
from .making.statistics import LatentStatistics, class_selectivity, label_entropy
from .making.streaming import write_atlas
from .meaning.concept_choice import select_concepts, usefulness
from .places.locations import latent_places
from .places.maps import concept_map, concept_maps, reference_maps
from .places.mask_agreement import localisation, open_localisation, save_localisation
from .places.unit_search import Localisation
from .published.official_atlas import OfficialAtlas, import_official
from .stored.matrix import read_rows, row_blocks, stored_entries
from .stored.storage import cells_place, open_atlas, open_cells, save_atlas

__all__ = [
    "AtlasComparison",
    "AtlasPiece",
    "DoseResponse",
    "Drift",
    "Effect",
    "Gaze",
    "GazeConfig",
    "Interaction",
    "LatentStatistics",
    "Localisation",
    "LocalisationConfig",
    "Matching",
    "OfficialAtlas",
    "build_atlas",
    "build_piece",
    "cells_place",
    "change_concepts",
    "class_selectivity",
    "compare_atlases",
    "concept_map",
    "concept_maps",
    "describe_random",
    "dose_response",
    "import_official",
    "interaction",
    "label_entropy",
    "latent_places",
    "localisation",
    "match_directions",
    "match_profiles",
    "measure_drift",
    "merge_atlases",
    "open_atlas",
    "open_cells",
    "open_localisation",
    "open_random_latents",
    "read_rows",
    "reference_maps",
    "reference_table",
    "row_blocks",
    "save_atlas",
    "save_localisation",
    "save_random_latents",
    "select_concepts",
    "share_atlas",
    "stored_entries",
    "token_directions",
    "usefulness",
    "where_it_looks",
    "write_atlas",
]

"""Names of the concepts of an atlas: from its cells, from a table of human attributes, and from people."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from cytosae.atlas import open_atlas, open_cells
from cytosae.atlas.places.patch_looks import open_looks
from cytosae.cells.annotations import join_annotations, read_attributes
from cytosae.common.errors import UsageError
from cytosae.evaluation.concept_pairs import open_pairs
from cytosae.evaluation.real_cells import HumanTruth, annotators
from cytosae.pipeline.pairs_step import PAIRS
from cytosae.views.concepts.name_table import table_of_names
from cytosae.views.datasets.pairs_view import sentences
from cytosae.views.parts.opened_dataset import OpenedAtlas


def names_of_atlas(
    path: Path,
    *,
    attributes: Path | None = None,
    second: Path | None = None,
    accepted: Mapping[int, str] | None = None,
) -> pd.DataFrame:
    """See `table_of_names`; ``attributes`` and ``second`` are tables of two annotators, joined by file name."""
    if second is not None and attributes is None:
        raise UsageError("a second annotator is compared with the first; give --attributes, too.")
    atlas = open_atlas(path, backed="r")
    cells = open_cells(path, str(atlas.uns["provenance"]["dataset"]))
    if attributes is not None:
        if not len(cells):
            raise UsageError(f"{path} lies beside no cell table, so which image is which is not known.")
        joined = join_annotations(cells, read_attributes(attributes))
        known = joined.frame.set_index("cell_id").reindex(atlas.obs_names)
        for name in [name for name in known if name not in cells.frame]:
            atlas.obs[name] = known[name].astype(object).to_numpy()
        cells = joined
    ceiling = _agreement(attributes, second) if attributes is not None and second is not None else None
    place = path.with_name(f"{path.stem}-looks.parquet")
    looks = open_looks(place) if place.is_file() else None
    return table_of_names(OpenedAtlas(atlas, cells, accepted=accepted or {}, looks=looks), ceiling)


def followed_beside(path: Path) -> dict[int, str]:
    """What drawn pairs tell of each concept, where they were shown to the study that an atlas lies in."""
    place = PAIRS.below(path.absolute().parent.parent)
    return sentences(open_pairs(place).latents) if place.is_dir() else {}


def _agreement(first: Path, second: Path) -> pd.DataFrame:
    """AUC of the second annotator's answers for the first one's, on the cells that both have seen."""
    tables = [read_attributes(path).set_index("file").astype(object).fillna("") for path in (first, second)]
    return annotators(HumanTruth(*tables), seed=0, resamples=2)

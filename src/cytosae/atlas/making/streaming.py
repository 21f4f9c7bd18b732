"""An atlas that is written cell by cell as it is computed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cytosae.atlas.making.build import AtlasPlan, cell_blocks, plan_atlas
from cytosae.atlas.making.statistics import LatentStatistics
from cytosae.atlas.stored.atlas_file import AtlasFile
from cytosae.atlas.stored.storage import atlas_artifact, inputs_of
from cytosae.common.ahead import one_ahead

if TYPE_CHECKING:
    from cytosae.cells import CellTable
    from cytosae.sae import SparseAutoencoder
    from cytosae.tokens import TokenStore

BATCH_CELLS = 32
"""Cells that are encoded at a time."""


def write_atlas(
    path: Path,
    sae: SparseAutoencoder,
    store: TokenStore,
    cells: CellTable,
    *,
    reference_cells: int = 10,
    tau: float | None = None,
    config: Any = None,
    inputs: Mapping[str, str] | None = None,
) -> Path:
    """`build_atlas` and `save_atlas` in one, for any number of cells: what is computed goes straight to the file.

    In memory are the statistics of the latents, one batch of cells, and the cell table. The parameters are those of
    `build_atlas`; ``config`` and ``inputs`` go to the artifact's record. The file appears at ``path`` complete or not
    at all, and holds the same as that of `save_atlas`.

    Raises
    ------
    InputError
        as `build_atlas`.
    ArtifactError
        the file cannot be written.
    """
    plan = plan_atlas(sae, store, cells, tau)
    return write_planned(path, sae, store, plan, reference_cells=reference_cells, config=config, inputs=inputs)


def write_planned(
    path: Path,
    sae: SparseAutoencoder,
    store: TokenStore,
    plan: AtlasPlan,
    *,
    reference_cells: int = 10,
    config: Any = None,
    inputs: Mapping[str, str] | None = None,
) -> Path:
    """`write_atlas` of what `cytosae.atlas.making.build.plan_atlas` planned."""
    statistics = LatentStatistics(sae.d_sae, store.grid, len(plan.classes), reference_cells)
    blocks = cell_blocks(
        sae,
        store,
        statistics,
        plan.labels,
        tau=plan.tau,
        rows=(0, len(store)),
        batch_cells=BATCH_CELLS,
        description=plan.description,
    )
    inputs = inputs or inputs_of(plan.provenance)
    details = {"cells": len(store), "latents": sae.d_sae, "dataset": plan.provenance["dataset"]}
    with (
        atlas_artifact(path, "atlas", config=config, inputs=inputs, details=details) as temporary,
        AtlasFile(temporary, path, sae.d_sae, store.width) as file,
    ):
        for _ in one_ahead(lambda block: file.append(block.means, block.above, block.mean_tokens), blocks):
            pass
        file.finish(plan.slots(statistics))
    return path

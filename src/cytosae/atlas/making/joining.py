"""An atlas in parts: each of some of the cells, made anywhere and in any order; joined they are the atlas of all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from safetensors.numpy import load_file, save_file

from cytosae.atlas.making.build import AtlasPlan, cell_blocks
from cytosae.atlas.making.statistics import LatentStatistics
from cytosae.atlas.making.streaming import BATCH_CELLS
from cytosae.atlas.stored.atlas_file import AtlasFile
from cytosae.atlas.stored.matrix import read_array_rows, read_rows, row_blocks
from cytosae.atlas.stored.storage import atlas_artifact, open_left_there
from cytosae.cells.focus.patch_grid import grid_of
from cytosae.common.artifact import read_artifact, write_file_artifact
from cytosae.common.progress import progress
from cytosae.common.records import reading

if TYPE_CHECKING:
    from anndata import AnnData

    from cytosae.atlas.config import Part
    from cytosae.sae import SparseAutoencoder
    from cytosae.tokens import TokenStore

COUNTED = tuple(field.name for field in fields(LatentStatistics) if not field.init)
"""The arrays of `LatentStatistics`."""


def rows_of_part(cells: int, part: Part) -> tuple[int, int]:
    """The rows [start, stop) of a part.

    Every part begins where a batch of the undivided pass does, so that each cell is encoded in the same company and
    the numbers come out the same to the last bit.
    """
    batches = -(-cells // BATCH_CELLS)
    start, stop = (min(cells, BATCH_CELLS * (batches * edge // part.of)) for edge in (part.number - 1, part.number))
    return start, stop


def write_part(
    path: Path,
    sae: SparseAutoencoder,
    store: TokenStore,
    plan: AtlasPlan,
    part: Part,
    *,
    config: Any = None,
    inputs: Mapping[str, str] | None = None,
) -> Path:
    """Write what a part of the cells contributes to the atlas that was planned, as an artifact of kind "atlas_part".

    An AnnData file of these cells with ``X``, ``layers["tokens_above"]`` and ``obsm["X_backbone"]`` as in the atlas;
    of the statistics it has what cannot be had from these.
    """
    start, stop = rows_of_part(len(store), part)
    statistics = LatentStatistics(sae.d_sae, store.grid, len(plan.classes), 1)
    blocks = cell_blocks(
        sae,
        store,
        statistics,
        plan.labels,
        tau=plan.tau,
        rows=(start, stop),
        batch_cells=BATCH_CELLS,
        description=f"{plan.description}, part {part}",
    )
    details = {"cells": stop - start, "latents": sae.d_sae, "dataset": plan.provenance["dataset"]}
    with (
        write_file_artifact(path, "atlas_part", config=config, inputs=inputs, details=details) as temporary,
        AtlasFile(temporary, path, sae.d_sae, store.width) as file,
    ):
        for block in blocks:
            file.append(block.means, block.above, block.mean_tokens)
        latents = pd.Index([str(latent) for latent in range(sae.d_sae)], name="latent")
        file.finish(
            {
                "obs": pd.DataFrame(index=pd.Index(list(plan.frame.index[start:stop]), dtype=str, name="cell_id")),
                "var": pd.DataFrame({"max_token_activation": statistics.token_max}, index=latents),
                "varm": {"tokens_active": statistics.tokens_active.T.astype(np.int32)},
                "uns": {"tokens_counted": statistics.tokens_counted},
            }
        )
    return path


def open_part(path: Path) -> AnnData:
    """Open what `write_part` wrote; the numbers of the cells stay in the file."""
    read_artifact(path, "atlas_part", verify=False)
    with reading(path, "delete it and make it again"):
        return open_left_there(path)


def write_joined(
    path: Path,
    parts: Sequence[AnnData],
    plan: AtlasPlan,
    *,
    reference_cells: int,
    config: Any = None,
    inputs: Mapping[str, str] | None = None,
) -> Path:
    """Write the atlas that was planned from parts of it, whose cells together are its cells in its order.

    Cells are read block by block and counted one after the other as in one pass, so that sums are equal, too.

    Parameters
    ----------
    path : Path
        Of the atlas.
    parts : sequence of AnnData
        Parts (`open_part`), or atlases.
    plan : AtlasPlan
        What the atlas says beside the numbers of its cells.
    reference_cells : int
        Cells kept per latent.
    config, inputs : object, mapping
        For the record of the artifact.
    """
    latents, width = parts[0].n_vars, parts[0].obsm["X_backbone"].shape[1]
    statistics = LatentStatistics(latents, grid_of(plan.provenance["side"]), len(plan.classes), reference_cells)
    details = {"cells": len(plan.frame), "latents": latents, "dataset": plan.provenance["dataset"]}
    with (
        atlas_artifact(path, "atlas", config=config, inputs=inputs, details=details) as temporary,
        AtlasFile(temporary, path, latents, width) as file,
        progress(plan.description, len(plan.frame), "cells") as bar,
    ):
        start = 0
        for means, above, mean_tokens in _blocks(parts):
            rows = np.arange(start, start + len(mean_tokens))
            statistics.update_cells(means, rows, plan.labels[rows])
            file.append(means, above, mean_tokens)
            start += len(rows)
            bar.advance(len(rows))
        for one in parts:
            statistics.tokens_active += np.asarray(one.varm["tokens_active"], np.int64).T
            statistics.tokens_counted += np.asarray(one.uns.get("tokens_counted", one.n_obs), np.int64)
            token_max = np.asarray(one.var["max_token_activation"], np.float32)
            statistics.token_max = np.maximum(statistics.token_max, token_max)
        file.finish(plan.slots(statistics))
    return path


def _blocks(parts: Sequence[AnnData]) -> Iterator[tuple[Any, Any, Any]]:
    for one in parts:
        for start, means in row_blocks(one.X):
            rows = np.arange(start, start + len(means.indptr) - 1)
            above = read_rows(one.layers["tokens_above"], rows)
            yield means, above, read_array_rows(one.obsm["X_backbone"], rows)


def save_statistics(
    statistics: LatentStatistics, path: Path, *, config: Any = None, inputs: Mapping[str, str] | None = None
) -> Path:
    """Write statistics as a safetensors artifact of kind "random_part", to be merged later."""
    arrays = {name: np.ascontiguousarray(getattr(statistics, name)) for name in COUNTED}
    with write_file_artifact(path, "random_part", config=config, inputs=inputs) as temporary:
        save_file({**arrays, "n_cells": np.array([statistics.n_cells]), "grid": np.array(statistics.grid)}, temporary)
    return path


def open_statistics(path: Path) -> LatentStatistics:
    """Open what `save_statistics` wrote."""
    read_artifact(path, "random_part", verify=False)
    with reading(path, "delete it and make it again"):
        arrays = load_file(path)
    latents, k = arrays["reference_rows"].shape
    classes, cells = len(arrays["class_cells"]), int(arrays["n_cells"][0])
    statistics = LatentStatistics(latents, grid_of(arrays["grid"]), classes, k, cells)
    for name in COUNTED:
        setattr(statistics, name, arrays[name])
    return statistics

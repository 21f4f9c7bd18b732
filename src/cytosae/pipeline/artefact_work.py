"""Artefact or morphology: verdicts on the latents of an atlas, and what goes when the artefacts are suppressed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cytosae.atlas import open_atlas, open_cells, read_rows, token_directions
from cytosae.atlas.encoding.unreconstructed import unreconstructed_shares
from cytosae.atlas.meaning.verdicts import CELL_FACTS, IMAGE_FACTS, give_verdicts
from cytosae.atlas.stored.matrix import read_array_rows
from cytosae.cells.looks import cell_looks
from cytosae.common.errors import UsageError
from cytosae.evaluation.suppression import LabelledCells, Suppression, measure_suppression
from cytosae.sae import SparseAutoencoder, load_sae
from cytosae.tokens import open_tokens

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

    from cytosae.evaluation.config import SuppressionConfig


def verdicts_of_atlas(path: Path, looks: int) -> tuple[pd.DataFrame, int]:
    """Verdicts on the latents of an atlas (index latent) from at most ``looks`` cells, and how many these were."""
    atlas = open_atlas(path, backed="r")
    seen = looks_of_atlas(path, atlas, looks)
    if seen.empty:
        raise UsageError(f"the images of {path} are not there, so nothing is known of their colours; bring them back.")
    rows = np.sort(atlas.obs_names.get_indexer(seen.index))
    found = _verdicts(atlas, rows, seen)
    found.index = pd.Index(atlas.var_names.astype(int), name="latent")
    return found, len(rows)


def suppress_artefacts(
    path: Path, sae: SparseAutoencoder, config: SuppressionConfig, *, by: str | None = None, looks: int = 2000
) -> Suppression:
    """Suppress the latents of an atlas of ``sae`` that are artefacts by the rule; see `measure_suppression`.

    Cells are those with a label, at most ``looks`` of them, spread evenly. ``by`` is the column that says which stain a
    cell has; where None, the first of `IMAGE_FACTS` that tells two apart.
    """
    atlas = open_atlas(path, backed="r")
    column = by or _stain_column(atlas)
    if column not in atlas.obs:
        raise UsageError(f"{path} has no column {column!r}; its cells have: {', '.join(map(str, atlas.obs.columns))}.")
    seen = looks_of_atlas(path, atlas, looks)
    obs = pd.DataFrame(atlas.obs)
    told = obs["label"].notna() & obs[column].notna() & obs.index.isin(seen.index)
    rows = np.flatnonzero(told.to_numpy())
    if not len(rows):
        raise UsageError(f"no cell of {path} has a label, a {column} and an image; all three are needed.")
    values = read_rows(atlas.X, rows)
    # a latent that is silent here is neither an artefact nor a control
    live = np.flatnonzero(np.bincount(values.indices, minlength=atlas.n_vars))

    def choose(chosen: NDArray[np.intp]) -> NDArray[np.intp]:
        found = _verdicts(atlas, rows[chosen], seen, resamples=config.resamples)
        return np.flatnonzero(found["verdict"].to_numpy()[live] == "artefact")

    patients = obs["patient"].iloc[rows] if "patient" in obs else pd.Series(index=obs.index[rows], dtype=object)
    known = patients.astype(object)
    cells = LabelledCells(
        values=values[:, live],
        means=read_array_rows(atlas.obsm["X_backbone"], rows).astype(np.float64),
        types=obs["label"].iloc[rows].astype(str).to_numpy(),
        stains=obs[column].iloc[rows].astype(str).to_numpy(),
        units=known.where(known.notna(), pd.Series(known.index, known.index)).astype(str).to_numpy(),
    )
    return measure_suppression(cells, token_directions(sae)[live], choose, config)


def looks_of_atlas(path: Path, atlas: AnnData, most: int, *, unreconstructed: bool = False) -> pd.DataFrame:
    """Looks of at most ``most`` cells of an atlas, spread evenly, and what the SAE leaves of them."""
    cells = open_cells(path, str(atlas.uns["provenance"]["dataset"]))
    rows = np.unique(np.linspace(0, len(cells) - 1, min(most, len(cells))).astype(int)) if len(cells) and most else []
    found = cell_looks(cells, (int(row) for row in rows))
    if unreconstructed:
        study = path.parent.parent
        if not (study / "tokens" / path.stem).is_dir():
            raise UsageError(f"{path} lies beside no tokens; leave --unreconstructed out.")
        store = open_tokens(study / "tokens" / path.stem)
        some = np.unique(np.linspace(0, len(store) - 1, min(max(most, 1), len(store))).astype(int))
        shares = unreconstructed_shares(load_sae(study / "sae"), store, some)
        own = pd.DataFrame({"unreconstructed": shares}, index=pd.Index([store.cell_ids[row] for row in some]))
        found = found.join(own, how="inner") if len(found) else own
    return found


def _verdicts(atlas: AnnData, rows: NDArray[np.intp], looks: pd.DataFrame, **options: Any) -> pd.DataFrame:
    obs = pd.DataFrame(atlas.obs).iloc[rows]
    cell, image = (pd.DataFrame(obs[[name for name in names if name in obs]]) for names in (CELL_FACTS, IMAGE_FACTS))
    patients = pd.factorize(obs["patient"].astype(object))[0] if "patient" in obs else np.full(len(obs), -1)
    return give_verdicts(
        read_rows(atlas.X, rows),
        cell,
        image,
        looks=looks.loc[obs.index],
        position_dependence=atlas.var["position_dependence"].to_numpy(),
        units=patients if (patients >= 0).all() else None,
        **options,
    )


def _stain_column(atlas: AnnData) -> str:
    for name in IMAGE_FACTS:
        if name in atlas.obs and pd.Series(atlas.obs[name]).nunique() > 1:
            return name
    raise UsageError(f"the cells' table has no column with two stains ({', '.join(IMAGE_FACTS)}); name one with --by.")

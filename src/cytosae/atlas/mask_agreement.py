"""How well single units point at the nucleus and the cytoplasm, against masks drawn by people.

Every unit of a family (SAE latents; backbone neurons; principal components of the tokens) is a candidate, with one
threshold for all cells. Unit and threshold are chosen on one part of the cells and scored on the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from numpy.typing import NDArray

from cytosae.atlas.build import encode_cells
from cytosae.atlas.unit_search import Localisation, LocalisationConfig, patch_areas, search_units
from cytosae.common.artifact import read_artifact, write_file_artifact
from cytosae.common.errors import InputError
from cytosae.common.records import read_record, write_json

if TYPE_CHECKING:
    from cytosae.cells import CellTable
    from cytosae.sae import SparseAutoencoder
    from cytosae.tokens import TokenStore

STRUCTURES = {"nucleus": 2, "cytoplasm": 1}
"""Structure -> its value in a mask (0 is background)."""


def localisation(
    sae: SparseAutoencoder,
    sources: Sequence[tuple[TokenStore, CellTable]],
    *,
    config: LocalisationConfig | None = None,
) -> Localisation:
    """Search the units of each family for the nucleus and the cytoplasm.

    Parameters
    ----------
    sae : the autoencoder
    sources : token stores and their cell tables; only cells with a mask are used

    Raises
    ------
    InputError
        fewer than 8 cells have a mask.
    """
    config = config or LocalisationConfig()
    tokens, areas, dataset, ids = _cells_with_masks(sources, config.cells)
    patches = tokens[:, 1:]
    search = _split(dataset, config)
    data = {
        "SAE latent": _latents(sae, tokens),
        "backbone neuron": _signed(patches.numpy().reshape(-1, patches.shape[2])),
        "principal component": _signed(_components(patches, search)),
    }
    result = search_units(data, areas, dataset, search, config)
    names = sorted(set(dataset.tolist()))
    return replace(result, held_out={name: ids[~search & (dataset == name)].tolist() for name in names})


def save_localisation(result: Localisation, path: Path, *, inputs: Mapping[str, str] | None = None) -> Path:
    """Write a result as a JSON artifact of kind "localisation"."""
    plain = {**vars(result), "table": result.table.to_dict(orient="records")}
    plain |= {"by_dataset": result.by_dataset.to_dict(orient="records"), "config": asdict(result.config)}
    with write_file_artifact(path, "localisation", config=result.config, inputs=inputs) as temporary:
        write_json(temporary, plain)
    return path


def open_localisation(path: Path) -> Localisation:
    """Read what `save_localisation` wrote."""
    read_artifact(path, "localisation")
    plain = read_record(_Plain, path, "run its step again")
    fields: dict[str, Any] = {name: plain[name] for name in _Plain.__annotations__}
    fields |= {name: _table(fields[name]) for name in ("table", "by_dataset")}
    return Localisation(**fields)


class _Plain(TypedDict):
    table: list[dict[str, Any]]
    ceiling: dict[str, float]
    by_dataset: list[dict[str, Any]]
    n_search: int
    n_test: int
    config: LocalisationConfig
    held_out: dict[str, list[str]]


def _table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    table = pd.DataFrame(rows)
    absent = table.columns[table.isna().all()]
    return table.astype(dict.fromkeys(absent, float))


def _cells_with_masks(
    sources: Sequence[tuple[TokenStore, CellTable]], most: int
) -> tuple[torch.Tensor, dict[str, NDArray[np.float32]], NDArray[Any], NDArray[Any]]:
    from cytosae.cells import load_mask  # the decoders are needed here only

    tokens, dataset, ids = [], [], []
    areas: dict[str, list[NDArray[np.float32]]] = {name: [] for name in STRUCTURES}
    masked = [
        (store, row, path, cells.name, cell)
        for store, cells in sources
        for row, path, cell in _rows_with_mask(store, cells)
    ]
    for at in np.unique(np.linspace(0, len(masked) - 1, min(most, len(masked))).round().astype(int)):
        store, row, path, name, cell = masked[at]
        mask = load_mask(path)
        for structure, value in STRUCTURES.items():
            areas[structure].append(patch_areas(mask, value, store.side).ravel())
        tokens.append(store.read(row, row + 1)[0])
        dataset.append(name)
        ids.append(cell)
    if len(tokens) < 8:
        raise InputError(f"Only {len(tokens)} cells have a mask; localisation needs 8 or more.")
    return torch.stack(tokens), {name: np.stack(area) for name, area in areas.items()}, np.array(dataset), np.array(ids)


def _rows_with_mask(store: TokenStore, cells: CellTable) -> list[tuple[int, Path, str]]:
    """Row in the store, mask and identity of each cell that has a mask and is in the store."""
    row_of = {cell: row for row, cell in enumerate(store.cell_ids)}
    found = ((row_of.get(cell), cells.mask_path(i), cell) for i, cell in enumerate(cells.frame["cell_id"]))
    return [(row, path, cell) for row, path, cell in found if row is not None and path is not None]


def _split(dataset: NDArray[Any], config: LocalisationConfig) -> NDArray[np.bool_]:
    """[n] bool, drawn within each data set, so that both parts hold every domain."""
    rng = np.random.default_rng([config.seed, 1])
    search = np.zeros(len(dataset), bool)
    for name in sorted(set(dataset.tolist())):
        here = rng.permutation(np.flatnonzero(dataset == name))
        search[here[: round(len(here) * config.search_share)]] = True
    return search


def _latents(sae: SparseAutoencoder, tokens: torch.Tensor, batch_cells: int = 32) -> sp.csc_array:
    T = tokens.shape[1]
    parts = []
    for batch in tokens.split(batch_cells):
        activations = encode_cells(sae, batch)
        parts.append(activations[np.flatnonzero(np.arange(len(batch) * T) % T)])
    return sp.csc_array(sp.vstack(parts, format="csc"))


def _components(patches: torch.Tensor, search: NDArray[np.bool_]) -> NDArray[np.float32]:
    """[n * P, D] scores on the principal components of the searched cells' patch tokens."""
    flat = patches.reshape(-1, patches.shape[2]).double()
    fitted = patches[torch.from_numpy(search)].reshape(-1, patches.shape[2]).double()
    centre = fitted.mean(0)
    covariance = (fitted - centre).T @ (fitted - centre) / len(fitted)
    vectors = torch.linalg.eigh(covariance).eigenvectors.flip(1)
    return ((flat - centre) @ vectors).float().numpy()


def _signed(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.concatenate([values, -values], axis=1)

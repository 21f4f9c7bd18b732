"""How well single units point at the nucleus, the cytoplasm or the whole cell, against masks.

Every unit of a family (SAE latents; backbone neurons; principal components of the tokens) is a candidate, with one
threshold for all cells. Unit and threshold are chosen on one part of the cells and scored on the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from numpy.typing import NDArray

from cytosae.atlas.encoding.token_activations import encode_cells
from cytosae.atlas.places.unit_search import Localisation, LocalisationConfig, search_units
from cytosae.cells.decoding.masks import CELL, CYTOPLASM, NUCLEUS
from cytosae.cells.focus.patch_grid import patch_areas
from cytosae.common.artifact import read_artifact, write_file_artifact
from cytosae.common.errors import InputError
from cytosae.common.records import read_record, write_json

if TYPE_CHECKING:
    from cytosae.cells import CellTable
    from cytosae.sae import SparseAutoencoder
    from cytosae.tokens import TokenStore

STRUCTURES = {"nucleus": NUCLEUS, "cytoplasm": CYTOPLASM, "cell": CELL}
"""Structure -> its value in a mask (0 is background)."""
PARTS, WHOLE = ("nucleus", "cytoplasm"), ("cell",)
"""What is looked for in masks that tell the parts of a cell apart, and in those that do not."""
LEAST_CELLS = 8
"""Fewest cells with masks of one of these kinds that are searched."""


def localisation(
    sae: SparseAutoencoder,
    sources: Sequence[tuple[TokenStore, CellTable]],
    *,
    config: LocalisationConfig | None = None,
) -> Localisation:
    """Search the units of each family for nucleus and cytoplasm, or for the cell where masks do not tell these apart.

    A mask of 0 and another value outlines the cell alone, and so do the 1s of a data set none of whose masks has a
    nucleus. Each kind is searched on its own cells; of a kind with fewer than `LEAST_CELLS` nothing is said.

    Parameters
    ----------
    sae : SparseAutoencoder
        The autoencoder.
    sources : sequence of (TokenStore, CellTable)
        Token stores and their cell tables; only cells with a mask are used.
    config : LocalisationConfig or None
        How the search is done.

    Raises
    ------
    InputError
        Fewer than 8 cells have a mask of one kind.
    """
    config = config or LocalisationConfig()
    cells = _cells_with_masks(sources, config.cells)
    told = _tell_parts(cells)
    groups = [(PARTS, np.flatnonzero(told)), (WHOLE, np.flatnonzero(~told))]
    found = [
        _search(sae, [cells[i] for i in rows], structures, config)
        for structures, rows in groups
        if len(rows) >= LEAST_CELLS
    ]
    if not found:
        raise InputError(f"Only {len(cells)} cells have a mask; localisation needs {LEAST_CELLS} or more of one kind.")
    return found[0] if len(found) == 1 else _merge(*found)


def shows(mask: NDArray[np.integer], structure: str) -> NDArray[np.bool_]:
    """Where a mask has a structure; the cell is wherever there is no background."""
    return mask > 0 if structure == "cell" else mask == STRUCTURES[structure]


def save_localisation(result: Localisation, path: Path, *, inputs: Mapping[str, str] | None = None) -> Path:
    """Write a result as a JSON artifact of kind "localisation"."""
    plain = {**vars(result), "table": result.table.to_dict(orient="records")}
    plain |= {"by_dataset": result.by_dataset.to_dict(orient="records"), "config": asdict(result.config)}
    with write_file_artifact(path, "localisation", config=result.config, inputs=inputs) as temporary:
        write_json(temporary, plain)
    return path


def open_localisation(path: Path | str) -> Localisation:
    """Read what `save_localisation` wrote."""
    path = read_artifact(path, "localisation").path
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


@dataclass(frozen=True)
class _Cell:
    """One cell with a mask.

    Attributes
    ----------
    cell_id, dataset : str
        Identity and data set.
    tokens : Tensor, shape (T, D)
        Its tokens.
    shares : dict
        Structure -> ndarray of float32, shape (P,): the share of each patch that has its value in the mask.
    """

    cell_id: str
    dataset: str
    tokens: torch.Tensor
    shares: dict[str, NDArray[np.float32]]

    def area(self, structure: str) -> NDArray[np.float32]:
        """Share of each patch that a structure covers; the cell is wherever there is no background."""
        return np.sum(list(self.shares.values()), axis=0) if structure == "cell" else self.shares[structure]


def _cells_with_masks(sources: Sequence[tuple[TokenStore, CellTable]], most: int) -> list[_Cell]:
    from cytosae.cells import load_mask  # the decoders are needed here only

    masked = [
        (store, row, path, cells.name, cell)
        for store, cells in sources
        for row, path, cell in _rows_with_mask(store, cells)
    ]
    chosen = np.unique(np.linspace(0, len(masked) - 1, min(most, len(masked))).round().astype(int))
    found = []
    for store, row, path, name, cell in (masked[at] for at in chosen):
        mask = load_mask(path)
        shares = {structure: patch_areas(mask, value, store.grid).ravel() for structure, value in STRUCTURES.items()}
        found.append(_Cell(cell, name, store.read(row, row + 1)[0], shares))
    return found


def _tell_parts(cells: Sequence[_Cell]) -> NDArray[np.bool_]:
    """[n] bool, whether each mask tells nucleus and cytoplasm apart, knowing the others of its data set."""
    with_nuclei = {cell.dataset for cell in cells if cell.shares["nucleus"].any()}
    return np.array([cell.dataset in with_nuclei and not cell.shares["cell"].any() for cell in cells], bool)


def _search(
    sae: SparseAutoencoder, cells: Sequence[_Cell], structures: Sequence[str], config: LocalisationConfig
) -> Localisation:
    tokens = torch.stack([cell.tokens for cell in cells])
    dataset = np.array([cell.dataset for cell in cells])
    areas = {name: np.stack([cell.area(name) for cell in cells]) for name in structures}
    patches = tokens[:, 1:]
    search = _split(dataset, config)
    data = {
        "SAE latent": _latents(sae, tokens),
        "backbone neuron": _signed(patches.numpy().reshape(-1, patches.shape[2])),
        "principal component": _signed(_components(patches, search)),
    }
    result = search_units(data, areas, dataset, search, config)
    ids = np.array([cell.cell_id for cell in cells])
    names = sorted(set(dataset.tolist()))
    return replace(result, held_out={name: ids[~search & (dataset == name)].tolist() for name in names})


def _merge(parts: Localisation, whole: Localisation) -> Localisation:
    """Both results as one: the rows of either, the cells of both."""
    names = sorted({*parts.held_out, *whole.held_out})
    return replace(
        parts,
        table=pd.concat([parts.table, whole.table], ignore_index=True),
        by_dataset=pd.concat([parts.by_dataset, whole.by_dataset], ignore_index=True),
        ceiling=parts.ceiling | whole.ceiling,
        n_search=parts.n_search + whole.n_search,
        n_test=parts.n_test + whole.n_test,
        held_out={name: [*parts.held_out.get(name, []), *whole.held_out.get(name, [])] for name in names},
    )


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

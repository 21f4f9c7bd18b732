"""The atlas of a data set: one streaming pass over its tokens into an AnnData that scanpy reads."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch

from cytosae.atlas.encoding.token_activations import encode_cells, mean_tokens
from cytosae.atlas.making.latent_table import latent_table
from cytosae.atlas.making.statistics import LatentStatistics, class_indices
from cytosae.cells.focus.patch_grid import side_of
from cytosae.common.ahead import one_ahead
from cytosae.common.artifact import package_version
from cytosae.common.configuration import to_plain
from cytosae.common.errors import InputError
from cytosae.common.progress import progress
from cytosae.sae.model.level import refuse_other_level
from cytosae.sae.training.tau import PAPER_TAU, choose_tau

if TYPE_CHECKING:
    from cytosae.cells import CellTable
    from cytosae.sae import SparseAutoencoder
    from cytosae.tokens import TokenStore

TAU_CELLS = 128
"""Cells whose tokens set tau where none is given."""


def build_atlas(
    sae: SparseAutoencoder,
    store: TokenStore,
    cells: CellTable,
    *,
    reference_cells: int = 10,
    tau: float | None = None,
    batch_cells: int = 32,
) -> ad.AnnData:
    """Describe every latent of ``sae`` on the cells of one token store.

    Parameters
    ----------
    sae : SparseAutoencoder
        Encodes tokens [N, D] sparsely; m latents.
    store : TokenStore
        n cells, T tokens of width D each; of a `cytosae.tokens.FocusedStore`, latents are described on the tokens that
        count.
    cells : CellTable
        The table of these cells; matched by ``cell_id``.
    reference_cells : int
        Cells kept per latent, those with the largest mean activation (ties: the lower row).
    tau : float or None
        >= 0, activation above which a token counts as having a concept, for ``layers["tokens_above"]``; None for 0.2
        with ReLU and L1, and for the rule of `cytosae.sae.choose_tau` on the tokens of this store with all others. Data
        sets that are to be compared need the same one: give it.
    batch_cells : int
        Cells encoded at a time; no result depends on it beyond rounding.

    Returns
    -------
    AnnData, shape (n, m)
        Its slots described in docs/atlas.md.

    Raises
    ------
    InputError
        the SAE is for tokens of another width, the store has cells that the table lacks, or ``tau`` is negative.
    """
    plan = plan_atlas(sae, store, cells, tau)
    statistics = LatentStatistics(sae.d_sae, store.grid, len(plan.classes), reference_cells)
    options = {"rows": (0, len(store)), "batch_cells": batch_cells, "description": plan.description}
    piece = _piece(sae, store, statistics, plan.labels, tau=plan.tau, **options)
    atlas = ad.AnnData(X=sp.csr_matrix(piece.means), **plan.slots(piece.statistics))
    atlas.layers["tokens_above"] = sp.csr_matrix(piece.above)
    atlas.obsm["X_backbone"] = piece.mean_tokens
    return atlas


@dataclass(frozen=True)
class CellBlock:
    """What the atlas keeps of b consecutive cells.

    Attributes
    ----------
    means : csr_array, shape (b, m)
        CSR float32, mean activation of each cell.
    above : csr_array, shape (b, m)
        CSR int32, number of the cell's tokens whose activation is > tau.
    mean_tokens : ndarray, shape (b, D), float32
    """

    means: sp.csr_array
    above: sp.csr_array
    mean_tokens: np.ndarray


@dataclass
class AtlasPiece:
    """What one stretch of consecutive cells contributes; pieces of adjoining stretches merge.

    Attributes
    ----------
    start : int
        First row.
    means : csr_array, shape (n, m)
        CSR float32, mean activation of each cell.
    above : csr_array, shape (n, m)
        CSR int32, number of the cell's tokens whose activation is > tau.
    tau : float
        The threshold of ``above``.
    mean_tokens : ndarray, shape (n, D), float32
    statistics : LatentStatistics
        Statistics of these cells.
    """

    start: int
    means: sp.csr_array
    above: sp.csr_array
    tau: float
    mean_tokens: np.ndarray
    statistics: LatentStatistics

    def merge(self, other: AtlasPiece) -> AtlasPiece:
        """Both stretches as one; they must adjoin, in either order."""
        first, second = sorted((self, other), key=lambda piece: piece.start)
        if first.start + len(first.mean_tokens) != second.start:
            raise ValueError(f"pieces from rows {first.start} and {second.start} do not adjoin")
        if first.tau != second.tau:
            raise ValueError(f"pieces count tokens above different thresholds, {first.tau} and {second.tau}")
        return AtlasPiece(
            start=first.start,
            means=sp.csr_array(sp.vstack([first.means, second.means], format="csr")),
            above=sp.csr_array(sp.vstack([first.above, second.above], format="csr")),
            tau=first.tau,
            mean_tokens=np.concatenate([first.mean_tokens, second.mean_tokens]),
            statistics=first.statistics.merge(second.statistics),
        )


def build_piece(
    sae: SparseAutoencoder,
    store: TokenStore,
    *,
    labels: np.ndarray,
    n_classes: int,
    start: int = 0,
    stop: int | None = None,
    reference_cells: int = 10,
    tau: float = PAPER_TAU,
) -> AtlasPiece:
    """Stream rows [start, stop) of ``store`` through ``sae``; ``labels`` [n]: class index of every row, or -1."""
    statistics = LatentStatistics(sae.d_sae, store.grid, n_classes, reference_cells)
    return _piece(sae, store, statistics, labels, tau=tau, rows=(start, len(store) if stop is None else stop))


def _piece(
    sae: SparseAutoencoder, store: TokenStore, statistics: LatentStatistics, labels: np.ndarray, **options: Any
) -> AtlasPiece:
    """The blocks of `cell_blocks`, of the same arguments, as one piece."""
    blocks = list(cell_blocks(sae, store, statistics, labels, **options))
    return AtlasPiece(
        start=options["rows"][0],
        means=_stacked([block.means for block in blocks], sae.d_sae, np.float32),
        above=_stacked([block.above for block in blocks], sae.d_sae, np.int32),
        tau=float(options["tau"]),
        mean_tokens=np.concatenate([np.zeros((0, store.width), np.float32), *(block.mean_tokens for block in blocks)]),
        statistics=statistics,
    )


def cell_blocks(
    sae: SparseAutoencoder,
    store: TokenStore,
    statistics: LatentStatistics,
    labels: np.ndarray,
    *,
    tau: float,
    rows: tuple[int, int],
    batch_cells: int = 32,
    description: str = "Atlas",
) -> Iterator[CellBlock]:
    """Stream rows [start, stop) of ``store`` through ``sae``, ``batch_cells`` at a time; ``statistics`` takes them in.

    ``labels`` [n]: class index of every row of the store, or -1. Once the blocks are through, ``statistics`` is
    complete. `InputError` for an SAE of another width and a negative ``tau``.
    """
    _check_tokens(sae, store)
    if not tau >= 0:
        raise InputError(f"tau is {tau}, but activations are >= 0; choose a tau of at least 0.")
    start, stop = rows

    def encoded() -> Iterator[tuple[np.ndarray, np.ndarray | None, sp.csr_array, np.ndarray]]:
        for row, tokens in _batches(store, start, stop, batch_cells):
            own = np.arange(row, row + len(tokens))
            counted = None if store.counted is None else store.counted[own]
            yield own, counted, encode_cells(sae, tokens, counted), mean_tokens(tokens, counted)

    def block(batch: tuple[np.ndarray, np.ndarray | None, sp.csr_array, np.ndarray]) -> CellBlock:
        own, counted, activations, tokens_mean = batch
        return CellBlock(*statistics.update(activations, own, labels[own], counted, tau=tau), tokens_mean)

    with progress(description, total=stop - start, unit="cells") as bar:
        for made in one_ahead(block, encoded()):
            yield made
            bar.advance(len(made.mean_tokens))


@dataclass(frozen=True)
class AtlasPlan:
    """What an atlas says beside the numbers of its cells; see `plan_atlas`.

    Attributes
    ----------
    frame : DataFrame
        Rows of the cell table in the order of the store.
    classes : tuple of str
        Names of the labels.
    labels : ndarray, shape (n,), int64
        Class of each row, or -1.
    tau : float
        The threshold of ``layers["tokens_above"]``.
    provenance : dict of str to object
        ``uns["provenance"]``.
    places : DataFrame or None
        Further columns of ``var`` (`cytosae.atlas.latent_places`).
    """

    frame: pd.DataFrame
    classes: tuple[str, ...]
    labels: np.ndarray
    tau: float
    provenance: dict[str, Any]
    places: pd.DataFrame | None = None

    @property
    def description(self) -> str:
        """What the progress bar says."""
        return f"Atlas of {self.provenance['dataset']}"

    def slots(self, statistics: LatentStatistics) -> dict[str, Any]:
        """``obs``, ``var``, ``varm`` and ``uns`` of the atlas."""
        reference = {
            "rows": statistics.reference_rows,
            "values": statistics.reference_values,
            "cell_ids": np.array(list(self.frame.index), dtype=object),
        }
        var = latent_table(statistics, self.labels, self.classes)
        counted = {"tokens_counted": statistics.tokens_counted} if self.provenance["focus"] != "all" else {}
        return {
            "obs": observations(self.frame),
            "var": var if self.places is None else var.join(self.places),
            "varm": {
                "class_mean": statistics.class_means().astype(np.float32),
                "tokens_active": statistics.tokens_active.T.astype(np.int32),
            },
            "uns": {
                "classes": np.array(self.classes, dtype=object),
                "class_cells": statistics.class_cells,
                "reference_cells": reference,
                "provenance": self.provenance,
                **counted,
            },
        }


def plan_atlas(sae: SparseAutoencoder, store: TokenStore, cells: CellTable, tau: float | None = None) -> AtlasPlan:
    """Match the cell table with the store and settle tau; raises as `build_atlas` does."""
    classes = tuple(cells.labels)
    frame = _aligned(cells, store)
    _check_tokens(sae, store)
    tau = tau_of_store(sae, store) if tau is None else tau
    labels = class_indices(list(frame["label"]), classes)
    return AtlasPlan(frame, classes, labels, tau, _provenance(sae, store, cells, tau))


def labels_of_store(store: TokenStore, cells: CellTable) -> tuple[np.ndarray, tuple[str, ...]]:
    """Class of each row of the store, or -1, and the names of the classes."""
    classes = tuple(cells.labels)
    return class_indices(list(_aligned(cells, store)["label"]), classes), classes


def tau_of_store(sae: SparseAutoencoder, store: TokenStore, cells: int = TAU_CELLS) -> float:
    """The threshold of `choose_tau` from whole cells of a store, spread evenly over it."""

    def batches() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for row in np.unique(np.linspace(0, len(store) - 1, min(cells, len(store))).astype(int)):
            tokens, positions = store.read(int(row), int(row) + 1)[0], torch.arange(store.n_tokens)
            kept = slice(None) if store.counted is None else torch.from_numpy(store.counted[row])
            yield tokens[kept], positions[kept]

    return choose_tau(sae, batches())


def reference_table(atlas: ad.AnnData, latent: int) -> pd.DataFrame:
    """Reference cells of a latent, strongest first: index cell_id, columns value, row (-1: not in this subset), label.

    Cells are found by content, so this holds for a subset or a reordering of the atlas, too.
    """
    reference = atlas.uns["reference_cells"]
    rows = np.asarray(reference["rows"][latent])
    there = rows >= 0
    ids = np.asarray(reference["cell_ids"])[rows[there]]
    now = atlas.obs_names.get_indexer(ids)
    labels = [atlas.obs["label"].iloc[row] if row >= 0 else None for row in now]
    return pd.DataFrame(
        {"value": np.asarray(reference["values"][latent])[there], "row": now, "label": labels},
        index=pd.Index(ids, name="cell_id"),
    )


def _check_tokens(sae: SparseAutoencoder, store: TokenStore) -> None:
    if sae.d_in != store.width:
        raise InputError(
            f"The SAE takes tokens of width {sae.d_in}, but {store.path} holds width {store.width}; "
            "use the backbone and block that the SAE was trained on."
        )
    refuse_other_level(sae, store.manifest.get("backbone", {}), str(store.path))


def _stacked(batches: list[sp.csr_array], width: int, dtype: Any) -> sp.csr_array:
    return sp.csr_array(sp.vstack(batches, format="csr")) if batches else sp.csr_array((0, width), dtype=dtype)


def _batches(store: TokenStore, start: int, stop: int, size: int) -> Iterator[tuple[int, torch.Tensor]]:
    if (start, stop) == (0, len(store)):
        yield from store.batches(size)
        return
    for row in range(start, stop, size):
        yield row, store.read(row, min(row + size, stop))


def _aligned(cells: CellTable, store: TokenStore) -> pd.DataFrame:
    """The rows of the cell table in the order of the store."""
    frame = cells.frame.set_index("cell_id", drop=True)
    missing = [cell for cell in store.cell_ids if cell not in frame.index]
    if missing:
        raise InputError(
            f"{store.path} holds {len(missing)} cells that the table {cells.name!r} lacks (first: {missing[0][:12]}); "
            "extract the tokens of this table again."
        )
    return frame.loc[list(store.cell_ids)]


def observations(frame: pd.DataFrame) -> pd.DataFrame:
    """Columns in types that every reader of h5ad knows: text becomes categorical, since only that may have gaps."""
    columns = {}
    for name, column in frame.items():
        if pd.api.types.is_bool_dtype(column.dtype) or pd.api.types.is_numeric_dtype(column.dtype):
            # Integers with gaps keep their digits; other numbers need no type of their own for gaps.
            nullable = pd.api.types.is_extension_array_dtype(column.dtype) and not pd.api.types.is_integer_dtype(
                column.dtype
            )
            columns[str(name)] = column.astype("float64") if nullable and column.isna().any() else column
        else:
            columns[str(name)] = pd.Categorical(column.map(str, na_action="ignore").astype(object))
    return pd.DataFrame(columns, index=pd.Index(frame.index.astype(str), name="cell_id"))


def _provenance(sae: SparseAutoencoder, store: TokenStore, cells: CellTable, tau: float) -> dict[str, Any]:
    # Nested facts as JSON: HDF5 has neither null nor lists of mixed things.
    return {
        "dataset": cells.name,
        "cells": cells.fingerprint,
        "tokens": store.fingerprint,
        "sae": sae.fingerprint,
        "sae_config": json.dumps(to_plain(sae.describe())),
        "backbone": json.dumps(to_plain(store.manifest.get("backbone", {}))),
        "n_tokens": store.n_tokens,
        "side": side_of(store.grid),
        "focus": store.focus,
        "tau": float(tau),
        "cytosae": package_version(),
    }

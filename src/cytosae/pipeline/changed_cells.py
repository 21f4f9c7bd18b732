"""Encode cells anew with the cell painted out, or left alone, and look at the tokens beside it: barcodes of each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from numpy.typing import NDArray

from cytosae.atlas.encoding.token_activations import encode_cells, mean_tokens
from cytosae.atlas.making.cell_sums import sum_cells
from cytosae.cells.focus.painting import WAYS
from cytosae.cells.focus.patch_grid import Grid
from cytosae.cohort import barcodes
from cytosae.common.progress import Bar, progress
from cytosae.pipeline.stain_retest import choose_cells
from cytosae.tokens.focus.part_shares import PARTS, shares_of_table
from cytosae.tokens.store.subset import SelectedCells

if TYPE_CHECKING:
    from cytosae.cells import CellTable
    from cytosae.sae import SparseAutoencoder
    from cytosae.tokens import TokenStore
    from cytosae.tokens.extraction.extract import Forward

BACKGROUND = "background"
"""Name of the barcodes of tokens beside the cell, as the whole image gave them."""


@dataclass(frozen=True)
class Encoder:
    """An SAE, the threshold above which a token has a concept, and what makes tokens of images."""

    sae: SparseAutoencoder
    tau: float
    forward: Forward


def barcodes_without_the_cell(
    cells: CellTable, store: TokenStore, encoder: Encoder, *, most: int, patient: str, diagnosis: str
) -> dict[str, ad.AnnData]:
    """Barcodes of up to ``most`` cells, as many of each patient as can be, of what is no cell and of nothing else.

    Parameters
    ----------
    cells : CellTable
        With the columns of patients and diagnoses; where a cell has a mask, it is used.
    store : TokenStore
        Tokens of the cells as they are.
    encoder : Encoder
        What made tokens and atlas.
    most : int
        Cells; each is encoded three times.
    patient, diagnosis : str
        Columns of the cell table.

    Returns
    -------
    dict of str to AnnData
        "painted out" and "alone" (`cytosae.cells.focus.painting`), and "background": the whole image's tokens of the
        patches without any of the cell, whose mean, and whose number per patch, stand for those of all tokens. Each as
        `cytosae.cohort.barcodes` gives it. Of a store with a focus, the changed images are looked at where the tokens
        in focus were.
    """
    frame = cells.frame.set_index("cell_id")
    rows = choose_cells(frame[patient].reindex(pd.Index(store.cell_ids)).to_numpy(dtype=object), most)
    selected = SelectedCells(store, rows)
    table = cells.subset(frame.index.get_indexer(pd.Index(selected.cell_ids)))
    size = encoder.forward.config.batch_size
    batches = [list(range(start, min(start + size, len(table)))) for start in range(0, len(table), size)]
    obs = pd.DataFrame(
        {name: pd.Categorical(table.frame[name].astype(object)) for name in (patient, diagnosis)},
        index=pd.Index(selected.cell_ids, name="cell_id"),
    )
    found = {}
    with progress(f"Cells of {cells.name} painted out and alone", 3 * len(table), "cells") as bar:
        for way, change in WAYS.items():
            changed = encoder.forward.over(table, batches, change=change)
            found[way] = _atlas(zip(changed, selected.counted_by(batches), strict=True), encoder, bar)
        beside = _beside(table, store.grid, size, encoder.forward.config.workers)
        whole = (one for _, one in selected.batches(size))
        usual = None if selected.counted is None else float(selected.counted.sum(1).mean())
        found[BACKGROUND] = _atlas(zip(whole, beside, strict=True), encoder, bar, usual=usual or store.n_tokens)
    for atlas in found.values():
        atlas.obs = obs.copy()
    return {name: barcodes(atlas, patient=patient, diagnosis=diagnosis) for name, atlas in found.items()}


def _beside(table: CellTable, grid: Grid, size: int, workers: int) -> Iterator[NDArray[np.bool_]]:
    """Which tokens [b, T] of ``size`` cells at a time are patches without the cell; if none is, the least covered."""
    for shares in shares_of_table(table, grid, batch_cells=size, workers=workers):
        cover = (1 - shares[:, list(PARTS).index("elsewhere")].astype(np.float64)).round(6)
        beside = cover <= np.maximum(cover.min(axis=1, keepdims=True), 0)
        yield np.hstack([np.zeros((len(beside), 1), bool), beside])


def _atlas(
    batches: Iterable[tuple[torch.Tensor, NDArray[np.bool_] | None]],
    encoder: Encoder,
    bar: Bar,
    *,
    usual: float | None = None,
) -> ad.AnnData:
    """What an atlas holds of cells, from their tokens [b, T, D], of which only those [b, T] count, None for all.

    ``usual``: tokens above tau are counted as if so many of each cell counted.
    """
    means, above, tokens_mean = [], [], []
    for tokens, counted in batches:
        T = tokens.shape[1]
        activations = encode_cells(encoder.sae, tokens, counted)
        sums = sum_cells(activations, T, encoder.tau, counted)
        means.append(sums.means)
        if usual is None or counted is None:
            above.append(sums.above)
        else:
            above.append(sp.csr_array(sp.diags_array(usual / counted.sum(1)) @ sums.above))
        tokens_mean.append(mean_tokens(tokens, counted))
        bar.advance(len(tokens))
    X, counts = (sp.csr_matrix(sp.vstack(parts, format="csr")) for parts in (means, above))
    atlas = ad.AnnData(X=X.astype(np.float32), layers={"tokens_above": counts})
    atlas.obsm["X_backbone"] = np.concatenate(tokens_mean).astype(np.float32)
    atlas.uns["provenance"] = {"sae": encoder.sae.fingerprint, "tau": encoder.tau}
    return atlas

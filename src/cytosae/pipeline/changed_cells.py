"""Encode cells anew with the cell painted out, or left alone, and look at the tokens beside it: barcodes of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from numpy.typing import NDArray

from cytosae.atlas.build import encode_cells
from cytosae.atlas.statistics import cell_means, tokens_above
from cytosae.cells.focus.painting import WAYS, known_or_found
from cytosae.cells.focus.patch_grid import patch_areas
from cytosae.cohort import barcodes
from cytosae.common.progress import Bar, progress
from cytosae.pipeline.stain_retest import choose_cells
from cytosae.tokens.extraction.batches import prepared_batches
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
        `cytosae.cohort.barcodes` gives it.
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
            tokens = ((one, None) for one in encoder.forward.over(table, batches, change=change))
            found[way] = _atlas(tokens, encoder, bar)
        beside = _beside(table, batches, store.side, encoder.forward.config.workers)
        tokens = ((one, next(beside)) for _, one in selected.batches(size))
        found[BACKGROUND] = _atlas(tokens, encoder, bar)
    for atlas in found.values():
        atlas.obs = obs.copy()
    return {name: barcodes(atlas, patient=patient, diagnosis=diagnosis) for name, atlas in found.items()}


def _beside(table: CellTable, batches: Sequence[Sequence[int]], side: int, workers: int) -> Iterator[NDArray[np.bool_]]:
    """Which tokens of each cell [b, T] are patches without any of the cell; where there are none, the least covered."""
    for covers in prepared_batches(table, Covers(side), batches, workers=workers, change=known_or_found):
        cover = covers.flatten(1).numpy()
        beside = cover <= np.maximum(cover.min(axis=1, keepdims=True), 0)
        yield np.hstack([np.zeros((len(beside), 1), bool), beside])


@dataclass(frozen=True)
class Covers:
    """Masks to the share of each patch that is of the cell; small enough to be sent to worker processes."""

    side: int

    def __call__(self, masks: Sequence[Any]) -> torch.Tensor:
        """Shares [b, side, side] of masks, uint8 arrays [H, W]."""
        return torch.from_numpy(np.stack([1 - patch_areas(np.asarray(mask), 0, self.side) for mask in masks]).round(6))


def _atlas(batches: Iterator[tuple[torch.Tensor, NDArray[np.bool_] | None]], encoder: Encoder, bar: Bar) -> ad.AnnData:
    """What an atlas holds of cells, from their tokens [b, T, D], of which only those [b, T] count, None for all."""
    means, above, tokens_mean = [], [], []
    for tokens, counted in batches:
        T = tokens.shape[1]
        activations = encode_cells(encoder.sae, tokens)
        values = tokens.cpu().numpy()
        if counted is None:
            scale, of_cell = np.ones(len(values)), values.mean(1)
        else:
            activations = sp.csr_array(sp.diags_array(counted.ravel().astype(np.float32)) @ activations)
            activations.eliminate_zeros()
            scale = T / counted.sum(1)
            of_cell = (values * counted[..., None]).sum(1) / counted.sum(1)[:, None]
        per_token = sp.diags_array(scale)
        means.append(per_token @ cell_means(activations, T))
        above.append(per_token @ tokens_above(activations, T, encoder.tau))
        tokens_mean.append(of_cell)
        bar.advance(len(values))
    X, counts = (sp.csr_matrix(sp.vstack(parts, format="csr")) for parts in (means, above))
    atlas = ad.AnnData(X=X.astype(np.float32), layers={"tokens_above": counts})
    atlas.obsm["X_backbone"] = np.concatenate(tokens_mean).astype(np.float32)
    atlas.uns["provenance"] = {"sae": encoder.sae.fingerprint, "tau": encoder.tau}
    return atlas

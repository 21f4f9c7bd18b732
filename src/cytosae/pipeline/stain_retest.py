"""Encode some cells of every patient anew in another stain: what `cytosae.cohort.stain.retest` looks at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from numpy.typing import NDArray

from cytosae.atlas.encoding.token_activations import encode_cells, mean_tokens
from cytosae.atlas.making.cell_sums import CellSums, sum_cells
from cytosae.common.progress import progress
from cytosae.tokens.store.subset import SelectedCells

if TYPE_CHECKING:
    from cytosae.cells import CellTable
    from cytosae.sae import SparseAutoencoder
    from cytosae.tokens import TokenStore
    from cytosae.tokens.extraction.extract import Forward


def retest_stain(
    cells: CellTable,
    store: TokenStore,
    saes: Mapping[str, tuple[SparseAutoencoder, float]],
    forward: Forward,
    *,
    patient: str,
    most: int,
) -> dict[str, ad.AnnData]:
    """Up to ``most`` cells, as many of each patient as can be, as they are and in a changed stain, by each SAE.

    Parameters
    ----------
    cells : CellTable
        With the column of patients.
    store : TokenStore
        Tokens of the cells as they are.
    saes : mapping of str to tuple (SparseAutoencoder, float)
        Mapping of str to (SparseAutoencoder, float) Name -> SAE and tau.
    forward : Forward
        Backbone and extraction that made the tokens.
    patient : str
        Column of the cell table.
    most : int
        Cells; each is encoded twice by each SAE.

    Returns
    -------
    dict of str to AnnData
        As `cytosae.cohort.open_retest` describes it.
    """
    frame = cells.frame.set_index("cell_id")
    rows = choose_cells(frame[patient].reindex(pd.Index(store.cell_ids)).to_numpy(dtype=object), most)
    selected = SelectedCells(store, rows)
    table = cells.subset(frame.index.get_indexer(pd.Index(selected.cell_ids)))
    size = forward.config.batch_size
    batches = [list(range(start, min(start + size, len(table)))) for start in range(0, len(table), size)]
    parts: dict[str, list[CellSums]] = {name: [] for name in saes}
    means: list[NDArray[np.float32]] = []

    def both() -> Iterator[tuple[torch.Tensor, NDArray[np.bool_] | None]]:
        yield from zip((tokens for _, tokens in selected.batches(size)), selected.counted_by(batches), strict=True)
        yield from zip(forward.over(table, batches, changed=True), selected.counted_by(batches), strict=True)

    with progress(f"Cells of {cells.name} in another stain", 2 * len(table), "cells") as bar:
        for tokens, counted in both():
            means.append(mean_tokens(tokens, counted))
            for name, (sae, tau) in saes.items():
                activations = encode_cells(sae, tokens, counted)
                parts[name].append(sum_cells(activations, store.n_tokens, tau, counted))
            bar.advance(len(tokens))
    ids = list(selected.cell_ids)
    obs = pd.DataFrame(
        {
            "cell_id": pd.Categorical(ids * 2),
            "changed": np.repeat([False, True], len(ids)),
            patient: pd.Categorical([str(name) for name in table.frame[patient]] * 2),
        },
        index=pd.Index([*ids, *(f"{one}-changed" for one in ids)]),
    )
    found = {}
    for name, blocks in parts.items():
        activations, above = (sp.csr_matrix(sp.vstack(part, format="csr")) for part in zip(*blocks, strict=True))
        sae, tau = saes[name]
        found[name] = ad.AnnData(X=activations, obs=obs.copy(), uns={"sae": sae.fingerprint, "tau": tau})
        found[name].layers["tokens_above"] = above
        found[name].obsm["X_backbone"] = np.concatenate(means)
    return found


def choose_cells(patients: NDArray[Any], most: int, seed: int = 0) -> NDArray[np.intp]:
    """Rows of at most ``most`` cells that have a patient, drawn at random, as evenly over the patients as can be."""
    order = np.random.default_rng(seed).permutation(len(patients))
    drawn = pd.Series(patients[order], dtype="object")
    turn = drawn.groupby(drawn).cumcount()
    known = drawn.notna()
    first = turn[known].sort_values(kind="stable").index[:most]
    return np.sort(order[first.to_numpy()])

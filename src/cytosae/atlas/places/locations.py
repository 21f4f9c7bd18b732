"""Where in an image a latent is active: in the nucleus, in the rest of the cell, or elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from numpy.typing import NDArray

from cytosae.atlas.encoding.token_activations import encode_cells
from cytosae.tokens.focus.part_shares import PARTS, shares_of_table

if TYPE_CHECKING:
    from cytosae.cells import CellTable
    from cytosae.sae import SparseAutoencoder
    from cytosae.tokens import TokenStore

CELLS = 500
"""Cells that are looked at: the shares of a latent that is active on a tenth of them are then known well enough."""
LIVES = ("nucleus", "cytoplasm", "background", "anywhere")
"""Where a latent can live."""
CLEARLY = 2.0
"""A latent lives inside or outside of cells when it is so many times as active there, for equal areas."""


def latent_places(
    sae: SparseAutoencoder, store: TokenStore, cells: CellTable, *, most: int = CELLS, batch_cells: int = 32
) -> pd.DataFrame | None:
    """The share of each latent's activation on patches that lies in nuclei, in the rest of cells, and elsewhere.

    All patches are looked at, whichever count (`cytosae.tokens.FocusedStore`).

    With a[i, t, j] the activation of latent j on patch t of cell i and c[i, t, k] the share of the patch that part k
    covers, share[j, k] = sum_it a c / sum_it a. A latent lives in the background, or inside of cells, where its
    activation is at least twice as dense as in the other, for the area that they have; inside, it lives in the part
    where it is denser.

    Parameters
    ----------
    sae, store, cells : SparseAutoencoder, TokenStore, CellTable
        As for `cytosae.atlas.build_atlas`; the masks are the users' where there are any, else found
        (`cytosae.cells.focus.cell_mask.find_cell`).
    most : int
        Cells that are looked at, evenly over the store.
    batch_cells : int
        Cells encoded at a time.

    Returns
    -------
    DataFrame or None
        Index of the latents as text; nucleus_share, cytoplasm_share, elsewhere_share (NaN for a latent that is not
        active on these cells), lives_in (a category of `LIVES`, missing likewise). None where ``most`` is 0 or the
        images are not there.
    """
    if not most or not len(store) or not cells.root.is_dir():
        return None
    rows = np.unique(np.linspace(0, len(store) - 1, min(most, len(store))).round().astype(int))
    of_cell = pd.Index(cells.frame["cell_id"]).get_indexer(pd.Index([store.cell_ids[row] for row in rows]))
    totals, area, done = np.zeros((len(PARTS), sae.d_sae)), np.zeros(len(PARTS)), 0
    for shares in shares_of_table(cells.subset(of_cell), store.grid, batch_cells=batch_cells):
        tokens = torch.cat([store.read(int(row), int(row) + 1) for row in rows[done : done + len(shares)]])
        done += len(shares)
        b, T, _ = tokens.shape
        covered = np.zeros((len(PARTS), b, T))
        covered[:, :, 1:] = shares.transpose(1, 0, 2)  # CLS lies nowhere
        totals += sp.csr_array(covered.reshape(len(PARTS), b * T)) @ encode_cells(sae, tokens)
        area += covered.sum((1, 2))
    return _described(totals, area)


def _described(totals: NDArray[np.float64], area: NDArray[np.float64]) -> pd.DataFrame:
    """Shares of the totals [parts, m], and where that is dense for the areas [parts]."""
    active = totals.sum(0) > 0
    shares = np.divide(totals, totals.sum(0), out=np.full_like(totals, np.nan), where=active)
    dense = shares / np.maximum(area / area.sum(), 1e-9)[:, None]
    inside = shares[:2].sum(0) / max(area[:2].sum() / area.sum(), 1e-9)
    lives = np.full(totals.shape[1], LIVES.index("anywhere"))
    lives[inside > CLEARLY * dense[2]] = (dense[1] > dense[0])[inside > CLEARLY * dense[2]]
    lives[dense[2] > CLEARLY * inside] = LIVES.index("background")
    return pd.DataFrame(
        {
            **{f"{name}_share": shares[at] for at, name in enumerate(PARTS)},
            "lives_in": pd.Categorical.from_codes(np.where(active, lives, -1).tolist(), list(LIVES)),
        },
        index=pd.Index([str(latent) for latent in range(totals.shape[1])], name="latent"),
    )

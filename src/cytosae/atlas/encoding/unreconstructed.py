"""How much of a cell's tokens an SAE leaves unexplained: what it has no concept for shows there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from cytosae.common.progress import progress

if TYPE_CHECKING:
    from cytosae.sae import SparseAutoencoder
    from cytosae.tokens import TokenStore


@torch.no_grad()
def unreconstructed_shares(
    sae: SparseAutoencoder, store: TokenStore, rows: NDArray[np.integer] | None = None, *, batch_cells: int = 16
) -> NDArray[np.float64]:
    """Share of the norm of each cell's tokens that the SAE does not reconstruct.

    sqrt(sum_t ||x_t - x^_t||^2 / sum_t ||x_t||^2) over a cell's tokens, CLS included. It is relative to zero, which
    flatters any SAE: it is there to compare cells with each other, not to judge an SAE.

    Parameters
    ----------
    sae : SparseAutoencoder
        For tokens of the store's width.
    store : TokenStore
        Tokens of n cells.
    rows : ndarray of int or None
        Ascending rows to look at; all where None.
    batch_cells : int
        Cells at a time.

    Returns
    -------
    ndarray of float64, shape (r,)
        In [0, 1] for all but absurd reconstructions; 0 for a cell whose tokens are 0.
    """
    wanted = np.arange(len(store)) if rows is None else np.asarray(rows)
    found = np.zeros(len(wanted))
    with progress("Reconstructions", len(wanted), "cells") as bar:
        for at in range(0, len(wanted), batch_cells):
            tokens = torch.cat([store.read(int(row), int(row) + 1) for row in wanted[at : at + batch_cells]])
            b, T, D = tokens.shape
            flat, positions = tokens.reshape(b * T, D).float(), torch.arange(T).repeat(b)
            error = (flat - sae(flat, positions).cpu()).square().view(b, -1).sum(1).double()
            size = flat.square().view(b, -1).sum(1).double()
            shares = torch.where(size > 0, (error / size.clamp_min(1e-300)).sqrt(), torch.zeros_like(size))
            found[at : at + b] = shares.numpy()
            bar.advance(b)
    return found

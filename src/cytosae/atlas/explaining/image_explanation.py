"""One image explained: its concepts, where they lie in the cell, and the reference cells most like it."""

from __future__ import annotations

from dataclasses import dataclass

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from numpy.typing import NDArray

from cytosae.atlas.encoding.token_activations import encode_cells, mean_activation
from cytosae.atlas.stored.matrix import row_blocks
from cytosae.cells.focus.patch_grid import grid_of
from cytosae.sae import SparseAutoencoder


@dataclass(frozen=True)
class Explanation:
    """What an SAE sees in one cell.

    Attributes
    ----------
    concepts : DataFrame
        The strongest concepts first; index latent, columns activation (mean over all tokens), peak (strongest patch),
        patches (share of patches on which it is active), surprise (see `explain_cell`), activation_frequency, top_class
        and label_entropy on the atlas.
    maps : ndarray
        (rows of concepts, rows, columns) float32, activation on the patch grid.
    similar : DataFrame
        Atlas cells most alike in concepts; index cell_id, columns similarity (cosine, 0 to 1), row, label.
    """

    concepts: pd.DataFrame
    maps: np.ndarray
    similar: pd.DataFrame


def explain_cell(
    tokens: torch.Tensor,
    sae: SparseAutoencoder,
    atlas: ad.AnnData,
    *,
    counted: NDArray[np.bool_] | None = None,
    concepts: int = 12,
    similar: int = 8,
) -> Explanation:
    """Explain one cell by the concepts of an atlas.

    Latents are ordered by *surprise*, the cell's mean activation times -ln(activation frequency on the atlas): what
    fires on every cell says nothing about this one. Latents that never fire on the atlas count as seen in half a cell.

    Parameters
    ----------
    tokens : Tensor, shape (T, D), float32
        CLS first.
    sae : SparseAutoencoder
        The SAE of the atlas.
    atlas : AnnData
        Cells x latents, see docs/atlas.md; its cells may be on disk (`open_atlas` with ``backed="r"``).
    counted : ndarray of bool, shape (T,), or None
        Tokens that count, as in the atlas; None for all.
    concepts, similar : int
        How many of each to give.
    """
    grid = grid_of(atlas.uns["provenance"]["side"])
    codes = encode_cells(sae, tokens[None], None if counted is None else counted[None])
    activation = mean_activation(codes, counted)
    frequency = np.maximum(atlas.var["activation_frequency"].to_numpy(), 0.5 / max(atlas.n_obs, 1))
    surprise = activation * -np.log(np.minimum(frequency, 1.0))
    top = np.argsort(-surprise, kind="stable")[:concepts]
    top = top[activation[top] > 0]
    patches = np.asarray(codes[1:, top].todense())
    columns = ["activation_frequency", "top_class", "label_entropy"]
    table = pd.DataFrame(
        {
            "activation": activation[top],
            "peak": patches.max(axis=0, initial=0.0),
            "patches": (patches > 0).mean(axis=0),
            "surprise": surprise[top],
            **{name: atlas.var[name].to_numpy()[top] for name in columns},
        },
        index=pd.Index(top, name="latent"),
    )
    maps = patches.T.reshape(len(top), *grid).astype(np.float32)
    return Explanation(table, maps, similar_cells(activation, atlas, similar))


def similar_cells(activation: np.ndarray, atlas: ad.AnnData, n: int) -> pd.DataFrame:
    """The ``n`` atlas cells with the largest cosine of mean activations to ``activation`` (m,).

    Rare latents weigh more: each counts by -ln of its activation frequency, as in `explain_cell`.
    """
    weight = -np.log(np.clip(atlas.var["activation_frequency"].to_numpy(), 0.5 / max(atlas.n_obs, 1), 1.0))
    query = activation * weight
    cosine, squared, length = np.empty(atlas.n_obs), weight**2, np.linalg.norm(query)
    for start, block in row_blocks(atlas.X):
        norms = np.sqrt(sp.csr_array((block.data**2, block.indices, block.indptr), block.shape) @ squared) * length
        cosine[start : start + len(norms)] = (block @ (query * weight)) / np.where(norms > 0, norms, np.inf)
    rows = np.argsort(-cosine, kind="stable")[:n]
    return pd.DataFrame(
        {"similarity": cosine[rows], "row": rows, "label": atlas.obs["label"].to_numpy()[rows]},
        index=pd.Index(atlas.obs_names[rows], name="cell_id"),
    )

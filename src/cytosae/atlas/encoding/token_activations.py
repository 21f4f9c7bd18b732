"""Tokens of whole cells to activations, and to the mean of those that count."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray

from cytosae.atlas.stored.matrix import index_type

if TYPE_CHECKING:
    from cytosae.sae import SparseAutoencoder


def encode_cells(
    sae: SparseAutoencoder, tokens: torch.Tensor, counted: NDArray[np.bool_] | None = None
) -> sp.csr_array:
    """Activations of whole cells' tokens [b, T, D] as a scipy CSR [b * T, m] float32.

    Of tokens that do not count, where ``counted`` [b, T] says so, there are none: their rows are empty.
    """
    b, T, D = tokens.shape
    flat, positions = tokens.reshape(b * T, D), torch.arange(T).repeat(b)
    if counted is None:
        return encode_tokens(sae, flat, positions)
    rows = torch.from_numpy(np.flatnonzero(counted))
    found = encode_tokens(sae, flat[rows.to(flat.device)], positions[rows])
    offsets = found.indptr[np.concatenate([[0], np.cumsum(counted.ravel())])]
    return sp.csr_array((found.data, found.indices, offsets), shape=(b * T, sae.d_sae))


def encode_variants(
    sae: SparseAutoencoder, tokens: torch.Tensor, counted: NDArray[np.bool_] | None = None
) -> sp.csr_array:
    """As `encode_cells` of one cell and its variants [b, T, D]: a token that is the first's is encoded once.

    ``counted`` [T] is the same of all.
    """
    b, T, _ = tokens.shape
    own = (tokens != tokens[:1]).any(dim=2).cpu().numpy()
    own[0] = True
    if counted is not None:
        own &= counted
    row, place = np.nonzero(own)
    codes = encode_tokens(sae, tokens[row, place], torch.from_numpy(place))
    at = np.cumsum(own.ravel()).reshape(b, T) - 1
    at = np.where(own, at, at[0])
    if counted is None:
        return codes[at.ravel()]
    found = codes[at[:, counted].ravel()]
    offsets = found.indptr[np.concatenate([[0], np.cumsum(np.tile(counted, b))])]
    return sp.csr_array((found.data, found.indices, offsets), shape=(b * T, sae.d_sae))


@torch.no_grad()
def encode_tokens(sae: SparseAutoencoder, tokens: torch.Tensor, positions: torch.Tensor) -> sp.csr_array:
    """Activations of tokens [N, D] at their ``positions`` [N] in the cells, 0 for CLS, as a scipy CSR [N, m]."""
    sparse = sae.encode_sparse(tokens, positions=positions).detach().cpu()
    # torch counts in int64, which would double the memory and the file: 32 bits number any dictionary's latents.
    indices = sparse.col_indices().to(torch.int32).numpy()
    offsets = sparse.crow_indices().numpy().astype(index_type(len(indices)))
    return sp.csr_array((sparse.values().float().numpy(), indices, offsets), shape=(len(tokens), sae.d_sae))


def mean_activation(activations: sp.csr_array | sp.csc_array, counted: NDArray[np.bool_] | None = None) -> np.ndarray:
    """Mean [m] over those tokens of one cell's activations [T, m] that count; the others are to be empty."""
    mean = np.asarray(activations.mean(axis=0)).ravel()
    return mean if counted is None else mean * (len(counted) / counted.sum())


def mean_tokens(tokens: torch.Tensor, counted: NDArray[np.bool_] | None = None) -> np.ndarray:
    """Mean of the tokens [b, T, D] of each cell that count, all where ``counted`` is None: float32 [b, D]."""
    if counted is None:
        return tokens.mean(1).cpu().numpy()
    weight = torch.from_numpy(counted / counted.sum(1, keepdims=True)).to(tokens)
    return torch.einsum("bt,btd->bd", weight, tokens).cpu().numpy()

"""What each token adds to its cell's part of a barcode: activations in, shares that sum to the cell out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from cytosae.atlas.encoding.token_activations import encode_variants
from cytosae.common.errors import UsageError

if TYPE_CHECKING:
    import torch

    from cytosae.cohort.config import Kind
    from cytosae.cohort.explanation.patient_explanation import PatientExplanation
    from cytosae.sae import SparseAutoencoder


def token_shares(activations: sp.csr_array, kind: Kind, *, tau: float, counted: int | None = None) -> sp.csr_array:
    """Share of every token of one cell in the cell's own barcode; the shares of a latent sum to it.

    Parameters
    ----------
    activations : csr_array, shape (T, L)
        CSR, activations >= 0 of the cell's tokens, CLS first.
    kind : {"presence", "mean", "count"}
        ``mean``: activation / T, or / the number of tokens that count; ``count``: 1 where the activation is above
        ``tau``; ``presence``: the cell's 1 in equal parts to its tokens above ``tau``.
    tau : float
        Threshold of the barcode; not used by ``mean``.
    counted : int or None
        Tokens of the cell that count, None for all T; the others have no activations.

    Returns
    -------
    csr_array, shape (T, L)
        CSR float64 >= 0.

    Raises
    ------
    UsageError
        an unknown kind.
    """
    shares = sp.csr_array(activations, dtype=np.float64, copy=True)
    if kind == "mean":
        shares.data /= counted or len(activations.indptr) - 1
        return shares
    # Compared in the precision of the activations, as the barcode itself was made.
    shares.data = (np.asarray(activations.data) > activations.dtype.type(tau)).astype(np.float64)
    shares.eliminate_zeros()
    if kind == "presence":
        per_latent = np.asarray(shares.sum(axis=0)).ravel()
        shares.data /= per_latent[shares.indices]
    elif kind != "count":
        raise UsageError(f"There is no barcode of kind {kind!r}; choose presence, mean or count.")
    return shares


def contributions(
    tokens: torch.Tensor,
    explanation: PatientExplanation,
    sae: SparseAutoencoder,
    *,
    tau: float,
    counted: NDArray[np.bool_] | None = None,
) -> NDArray[np.float64]:
    """What each token adds to what its cell alone says of an explained decision; the intercept is not in it.

    Parameters
    ----------
    tokens : Tensor, shape (b, T, D)
        Of b cells.
    explanation : PatientExplanation
        The decision, whose coefficients are taken.
    sae : SparseAutoencoder
        The classifier's.
    tau : float
        Activation above which a token counts, the classifier's.
    counted : ndarray of bool, shape (T,), or None
        Tokens that count, the same of every cell; None for all.

    Returns
    -------
    ndarray of float64, shape (b, T)
    """
    b, length = tokens.shape[:2]
    n = None if counted is None else int(counted.sum())
    codes = encode_variants(sae, tokens, counted)
    codes = codes[:, explanation.concepts.index.to_numpy()]
    weights = explanation.concepts["coefficient"].to_numpy()
    cells = [codes[i * length : (i + 1) * length] for i in range(b)]
    return np.stack([token_shares(cell, explanation.kind, tau=tau, counted=n) @ weights for cell in cells])

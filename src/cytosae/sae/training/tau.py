"""The activation above which a token counts as having a concept."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from cytosae.common.errors import InputError
from cytosae.sae.variants import ReluL1

if TYPE_CHECKING:
    from cytosae.sae.model.autoencoder import SparseAutoencoder

PAPER_TAU = 0.2
"""Threshold of the published barcodes, which holds for ReLU with L1."""


def choose_tau(sae: SparseAutoencoder, batches: Iterable[tuple[Tensor, Tensor]]) -> float:
    """Choose tau for an SAE: 0.2 for ReLU with L1 (the paper), else the median positive activation of given tokens.

    The median splits the active (token, latent) pairs into a weaker and a stronger half. Under TopK and its kin each
    token has about k active latents whether or not it has much to say; the last of them won a close competition and
    would not be there under a slightly smaller k, so an activation counts from the middle of what is usual. The median
    scales with the activations (tokens in other units give the same barcodes), is not moved by the few very large
    activations of background and CLS tokens, and looks at no label and no diagnosis. It is one number for all latents,
    as in the paper.

    Parameters
    ----------
    batches : iterable of tuple of Tensor
        Tokens (N, d) and their positions (N,), as a `TokenReader` gives them: a seeded sample of the training.

    Returns
    -------
    float
        Threshold > 0, in the units of the activations; a token has a concept where its activation is larger.

    Raises
    ------
    InputError
        no latent is active on any of the tokens.

    References
    ----------
    Dasdelen et al. 2025 (arXiv 2507.12464), patient barcodes.
    """
    if isinstance(sae.sparsity, ReluL1):
        return PAPER_TAU
    values = [sae.encode_sparse(tokens, positions=positions).values().cpu().numpy() for tokens, positions in batches]
    positive = np.concatenate([part[part > 0] for part in values]) if values else np.zeros(0, np.float32)
    if not len(positive):
        raise InputError("The SAE is active on none of the tokens given for choosing tau; give tau, or train it anew.")
    return float(np.median(positive))

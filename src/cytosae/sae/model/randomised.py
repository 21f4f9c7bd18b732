"""An SAE that has learnt nothing: the negative control of everything that is said about latents."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from cytosae.sae.model.autoencoder import SparseAutoencoder


def randomised(sae: SparseAutoencoder, seed: int = 0) -> SparseAutoencoder:
    """Copy of a trained SAE whose latents point in random directions.

    Latent j gets one random direction for both of its rows, with the norms that its encoder and decoder rows have;
    biases, thresholds, normalisation and sparsity stay. What is still found with it is found without learning.

    Parameters
    ----------
    sae : SparseAutoencoder
        Stays as it is.
    seed : int
        Of the directions.
    """
    control = copy.deepcopy(sae)
    rng = torch.Generator().manual_seed(seed)
    directions = torch.randn(sae.d_sae, sae.d_in, generator=rng)
    directions = (directions / directions.norm(dim=1, keepdim=True)).to(sae.W_dec.device)
    with torch.no_grad():
        control.W_enc.copy_((directions * sae.W_enc.norm(dim=0)[:, None]).T)
        control.W_dec.copy_(directions * sae.W_dec.norm(dim=1, keepdim=True))
    return control

"""Remedies for dead latents: ghost gradients and AuxK."""

from __future__ import annotations

import torch
from torch import Tensor

from cytosae.sae.model.encoder import is_split
from cytosae.sae.model.gradients import mean_square
from cytosae.sae.model.interface import Autoencoder, TopPerToken, Weights


def auxk_loss(sae: Autoencoder, x: Tensor, residual: Tensor, dead: Tensor | None, k: int) -> Tensor:
    """Mean square of what the ``k`` strongest dead latents leave of the residual.

    Parameters
    ----------
    x : Tensor, shape (N, d)
        Normalised tokens.
    residual : Tensor, shape (N, d)
        x minus its reconstruction; no gradient flows into it.
    dead : Tensor, shape (D,), int64, or None
        Latents, or None.

    References
    ----------
    Gao et al. 2024, "Scaling and evaluating sparse autoencoders", arXiv 2406.04093, section A.2.
    """
    if dead is None:
        return x.new_zeros(())
    activations = sae.activate(x, TopPerToken(k), latents=dead)
    return mean_square(activations.decode(sae.W_dec) - residual.detach())


def auxk_weight(x: Tensor, residual: Tensor) -> Tensor:
    """How many times larger the tokens are than the residual, () tensor, without gradient.

    Gao et al. divide the error of the residual by the residual's own mean square, and that of the tokens by theirs.
    Without that the term fades as the reconstruction becomes good, which is when latents fall silent. At most 10,000,
    so that a perfect reconstruction does no harm.

    Parameters
    ----------
    x, residual : Tensor, shape (N, d)
        Normalised tokens, and reconstruction - x.
    """
    squares = torch.stack([torch.linalg.vector_norm(values.detach()).square() for values in (x, residual)])
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.all_reduce(squares)  # of the whole batch, whatever part of it this rank has
    return squares[0] / torch.maximum(squares[1], 1e-4 * squares[0]).clamp_min(1e-24)


def ghost_loss(sae: Weights, x: Tensor, reconstruction: Tensor, error: Tensor, dead: Tensor | None) -> Tensor:
    """Ghost gradients: dead latents, through exp instead of ReLU, explain half of the residual's length.

    Parameters
    ----------
    x, reconstruction : Tensor, shape (N, d)
        Normalised tokens and what the SAE makes of them.
    error : Tensor, shape (N, d)
        Element-wise reconstruction loss; the ghost term is scaled to its size.
    dead : Tensor, shape (D,), int64, or None
        Latents, or None.

    References
    ----------
    Dasdelen et al. 2025 and its code's ancestor PatchSAE (ICLR 2025); Anthropic, "Ghost Grads", January 2024.
    """
    if dead is None:
        return x.new_zeros(())
    residual = x - reconstruction
    ghost = _ghost_direction(sae, x, dead)
    length = torch.linalg.vector_norm(residual, dim=-1, keepdim=True)
    scale = length / (2 * torch.linalg.vector_norm(ghost, dim=-1, keepdim=True) + 1e-6)
    target = residual.detach()
    ghost_error = (ghost * scale.detach() - target).square() / torch.linalg.vector_norm(target, dim=-1, keepdim=True)
    return (ghost_error * (error / (ghost_error + 1e-6)).detach()).mean()


def _ghost_direction(sae: Weights, x: Tensor, dead: Tensor) -> Tensor:
    if is_split(sae.W_enc):
        from cytosae.sae.model.shards import ghost_direction

        return ghost_direction(sae, x, dead)
    # the encoder lies latent by latent in memory: gathering rows of its transpose keeps the gradient in that layout
    scores = torch.addmm(sae.b_enc[dead], x - sae.b_dec, sae.W_enc.T[dead].T)
    return scores.exp() @ sae.W_dec[dead]

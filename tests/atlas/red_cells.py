"""Cells whose middle is red, backbones of which it is known where they look, and an SAE that reads their numbers."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from cohort.small_chain import _quiet_csr

SIDE, PIXELS = 8, 256
RED = slice(96, 160)
"""Where the image is red: 2 x 2 patches in its middle."""


def redness() -> Any:
    """An SAE whose only latents are the two numbers of a token."""

    def encode_sparse(x: torch.Tensor, positions: torch.Tensor | None = None) -> torch.Tensor:
        csr = sp.csr_array(x.numpy())
        return _quiet_csr(csr.indptr, csr.indices, csr.data, csr.shape)

    return SimpleNamespace(d_sae=2, encode_sparse=encode_sparse, level=None)


def own_patch(images) -> torch.Tensor:
    """How red each patch is, and 0; CLS is 0."""
    pixels = torch.from_numpy(np.stack(images).astype(np.float32))
    red = torch.relu(pixels[..., 0] - pixels[..., 1] - 60)
    patches = red.unfold(1, 32, 32).unfold(2, 32, 32).mean((-1, -2)).reshape(len(images), -1)
    tokens = torch.nn.functional.pad(patches, (1, 0))[..., None]
    return torch.cat([tokens, 0 * tokens], -1)


def all_patches(images) -> torch.Tensor:
    """Every token is the mean brightness of the whole image, so that all patches count alike."""
    pixels = torch.from_numpy(np.stack(images).astype(np.float32)) - 100
    mean = torch.relu(pixels.mean((1, 2, 3)))
    return torch.stack([mean[:, None].expand(-1, 1 + SIDE**2)] * 2, -1)


def red_image() -> np.ndarray:
    """A bright image with a red middle."""
    rng = np.random.default_rng(0)
    image = (225 + rng.integers(0, 8, (PIXELS, PIXELS, 3))).astype(np.uint8)
    image[RED, RED, 1:] = 60
    return image


def cell_mask() -> np.ndarray:
    """A cell around the red, which is its nucleus."""
    mask = np.zeros((PIXELS, PIXELS), np.uint8)
    mask[64:192, 64:192] = 1
    mask[RED, RED] = 2
    return mask

"""Where concepts look, by backbones of which it is known: one whose tokens see their own patch, one that sees all."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from cohort.small_chain import _quiet_csr

from cytosae.atlas import GazeConfig, where_it_looks
from cytosae.common.errors import UsageError

SIDE, PIXELS = 8, 256
RED = slice(96, 160)
"""Where the image is red: 2 x 2 patches in its middle."""


def redness() -> Any:
    """An SAE whose only latents are the two numbers of a token."""

    def encode_sparse(x: torch.Tensor, positions: torch.Tensor | None = None) -> torch.Tensor:
        csr = sp.csr_array(x.numpy())
        return _quiet_csr(csr.indptr, csr.indices, csr.data, csr.shape)

    return SimpleNamespace(d_sae=2, encode_sparse=encode_sparse)


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


@pytest.fixture
def image() -> np.ndarray:
    rng = np.random.default_rng(0)
    image = (225 + rng.integers(0, 8, (PIXELS, PIXELS, 3))).astype(np.uint8)
    image[RED, RED, 1:] = 60
    return image


@pytest.fixture
def mask() -> np.ndarray:
    mask = np.zeros((PIXELS, PIXELS), np.uint8)
    mask[64:192, 64:192] = 1
    mask[RED, RED] = 2
    return mask


def test_a_token_that_sees_its_own_patch_looks_where_it_lights_up(image, mask):
    (gaze,) = where_it_looks([image], 0, sae=redness(), encode=own_patch, masks=[mask], config=GazeConfig(draws=20))
    assert gaze.patches == 4
    assert gaze.marked == pytest.approx(1)
    assert gaze.left == pytest.approx(1, abs=0.1)  # the seam is blended into it
    assert gaze.random.mean() == pytest.approx(4 / 64, abs=0.07)
    assert gaze.in_cell.mean() == pytest.approx(4 / 16, abs=0.12)
    assert gaze.activation == pytest.approx(float(own_patch([image])[0, :, 0].mean()))
    assert not (own_patch([gaze.without])[0] > 0).any()
    assert np.array_equal(gaze.alone[102:154, 102:154], image[102:154, 102:154])


def test_the_map_of_a_token_that_sees_everything_says_no_more_than_random_patches(image):
    rng = np.random.default_rng(1)
    bright = rng.integers(120, 250, image.shape).astype(np.uint8)
    (gaze,) = where_it_looks(
        [bright],
        1,
        sae=redness(),
        encode=all_patches,
        masks=[0 * bright[..., 0]],
        config=GazeConfig(marked=12, draws=8),
    )
    assert gaze.patches == 12
    assert abs(gaze.marked) < 0.1
    assert gaze.marked == pytest.approx(gaze.random.mean(), abs=0.05)
    assert len(gaze.in_cell) == 0


def test_only_the_strongest_patches_are_painted_and_only_tokens_that_count_are_summed(image, mask):
    sae = redness()
    (few,) = where_it_looks([image], 0, sae=sae, encode=own_patch, masks=[mask], config=GazeConfig(marked=1))
    assert few.patches == 1
    assert few.marked == pytest.approx(1 / 4, abs=0.05)
    counted = own_patch([image])[..., 0].numpy() > 0
    counted[:, 2] = True
    (gaze,) = where_it_looks([image], 0, sae=sae, encode=own_patch, masks=[mask], counted=counted)
    assert gaze.activation == pytest.approx(float(own_patch([image])[0, counted[0], 0].mean()))


def test_images_without_the_concept_are_left_out(image, mask):
    plain = np.full_like(image, 230)
    assert where_it_looks([plain], 0, sae=redness(), encode=own_patch) == []
    assert len(where_it_looks([plain, image], 0, sae=redness(), encode=own_patch, masks=[None, mask])) == 1


def test_it_is_the_same_every_time(image, mask):
    one, other = (where_it_looks([image], 0, sae=redness(), encode=own_patch, masks=[mask])[0] for _ in range(2))
    assert np.array_equal(one.random, other.random)
    assert np.array_equal(one.without, other.without)


def test_what_there_is_not_is_refused(image):
    for latent in (-1, 2):
        with pytest.raises(UsageError, match="latents 0 to 1"):
            where_it_looks([image], latent, sae=redness(), encode=own_patch)
    for name in ("marked", "draws"):
        with pytest.raises(UsageError, match=name):
            GazeConfig(**{name: 0})

"""Where concepts look, by backbones of which it is known: one whose tokens see their own patch, one that sees all."""

from __future__ import annotations

import numpy as np
import pytest
from atlas.red_cells import all_patches, cell_mask, own_patch, red_image, redness

from cytosae.atlas import GazeConfig, where_it_looks
from cytosae.common.errors import UsageError


@pytest.fixture
def image() -> np.ndarray:
    return red_image()


@pytest.fixture
def mask() -> np.ndarray:
    return cell_mask()


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

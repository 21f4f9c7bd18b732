from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from cytosae.cells import load_image
from cytosae.cells.stain import normalisation as stain
from cytosae.common.errors import UsageError

NUCLEUS, CYTOPLASM = np.array([0.65, 0.70, 0.29]), np.array([0.27, 0.57, 0.78])


def smear(first: np.ndarray = NUCLEUS, second: np.ndarray = CYTOPLASM, amount: float = 1.0) -> np.ndarray:
    """A round cell with a nucleus, drawn by Beer and Lambert's law: its dyes and their amounts are known."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[-1:1:64j, -1:1:64j]
    radius = np.hypot(x, y)
    amounts = np.stack(
        [(radius < 0.4) * rng.uniform(0.4, 0.9, x.shape), (radius < 0.8) * rng.uniform(0.2, 0.5, x.shape)]
    )
    amounts[1, radius < 0.4] *= rng.integers(0, 2, int((radius < 0.4).sum()))
    density = amount * np.tensordot(amounts, np.stack([first, second]), (0, 0))
    return np.rint(255 * 10.0**-density).astype(np.uint8)


def difference(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a.astype(float) - b.astype(float)).mean())


def test_lab_is_the_published_matrix_and_its_way_back() -> None:
    image = np.array([[[255, 255, 255], [10, 200, 30]]], dtype=np.uint8)
    r, g, b = np.array([10, 200, 30]) / 255
    long = np.log10(0.3811 * r + 0.5783 * g + 0.0402 * b)
    medium = np.log10(0.1967 * r + 0.7244 * g + 0.0782 * b)
    short = np.log10(0.0241 * r + 0.1288 * g + 0.8444 * b)
    expected = [(long + medium + short) / 3**0.5, (long + medium - 2 * short) / 6**0.5, (long - medium) / 2**0.5]
    np.testing.assert_allclose(stain.to_lab(image)[0, 1], expected, atol=1e-12)
    np.testing.assert_array_equal(stain.from_lab(stain.to_lab(image)), image)


def test_reinhard_gives_the_statistics_that_are_asked_for() -> None:
    mean, std = (-0.4, 0.02, 0.01), (0.08, 0.02, 0.004)
    found_mean, found_std = stain.colour_statistics(stain.reinhard(smear(), mean, std))
    np.testing.assert_allclose(found_mean, mean, atol=0.01)
    np.testing.assert_allclose(found_std, std, rtol=0.2)


def test_reinhard_towards_its_own_statistics_changes_nothing() -> None:
    image = smear()
    assert difference(stain.reinhard(image, *stain.colour_statistics(image)), image) < 0.5


def test_dyes_of_a_drawn_cell_are_those_it_was_drawn_with() -> None:
    found = stain.dyes(smear())
    assert found is not None
    for dye, true in zip(found[0], (NUCLEUS, CYTOPLASM), strict=True):
        assert dye @ true / np.linalg.norm(true) > 0.99
        assert np.linalg.norm(dye) == pytest.approx(1)


def test_macenko_towards_its_own_dyes_changes_little() -> None:
    image = smear()
    found = stain.dyes(image)
    assert found is not None
    assert difference(stain.macenko(image, *found), image) < 2


VARIANTS: dict[stain.Stain, np.ndarray] = {
    "reinhard": np.rint(smear(amount=0.7) * [0.97, 0.88, 0.95]).astype(np.uint8),
    "macenko": smear(np.array([0.75, 0.55, 0.35]), np.array([0.2, 0.75, 0.55]), amount=0.75),
}
"""The same picture: paler under a lamp of another tint, and with other dyes."""


@pytest.mark.parametrize("method", VARIANTS)
def test_two_stains_of_one_picture_become_alike(method: stain.Stain) -> None:
    one, two = smear(), VARIANTS[method]
    before = difference(one, two)
    after = difference(stain.normalise_stain(one, method), stain.normalise_stain(two, method))
    assert before > 10
    assert after < before / 3


def test_macenko_takes_the_light_for_no_dye() -> None:
    white = smear()
    tinted = np.rint(white * [1.0, 0.88, 0.72]).astype(np.uint8)
    result = stain.macenko(tinted)
    assert (result[0, 0] > 250).all(), "the background is white"
    assert difference(result, stain.macenko(white)) < 3 < difference(tinted, white)


@pytest.mark.parametrize("method", ["reinhard", "macenko"])
@pytest.mark.parametrize("value", [0, 128, 255])
def test_an_image_of_one_colour_stays_an_image(method: stain.Stain, value: int) -> None:
    image = np.full((8, 8, 3), value, dtype=np.uint8)
    result = stain.normalise_stain(image, method)
    assert result.dtype == np.uint8
    assert result.shape == image.shape
    assert len(np.unique(result.reshape(-1, 3), axis=0)) == 1


def test_none_is_the_image_itself_and_unknown_methods_are_refused() -> None:
    image = smear()
    assert stain.normalise_stain(image, "none") is image
    assert stain.prepare_stained(len, "none") is len
    with pytest.raises(UsageError, match="stain is 'vahadane'; choose one of: none, reinhard, macenko"):
        stain.normalise_stain(image, "vahadane")  # type: ignore[arg-type]


def test_prepare_normalises_each_image_and_can_be_sent_to_workers() -> None:
    prepare = pickle.loads(pickle.dumps(stain.prepare_stained(np.stack, "reinhard")))
    np.testing.assert_array_equal(prepare([smear()])[0], stain.reinhard(smear()))


def test_the_reference_is_that_of_acevedo(shared_data: Path) -> None:
    files = sorted((shared_data / "acevedo").rglob("*.jpg"))[::60]
    images = [load_image(file) for file in files]
    means, stds = zip(*(stain.colour_statistics(image) for image in images), strict=True)
    np.testing.assert_allclose(np.mean(means, axis=0), stain.TARGET_MEAN, atol=0.03)
    np.testing.assert_allclose(np.mean(stds, axis=0), stain.TARGET_STD, rtol=0.15)
    found = [result for image in images if (result := stain.dyes(image)) is not None]
    np.testing.assert_allclose(np.median([dye for dye, _ in found], axis=0), stain.TARGET_DYES, atol=0.1)
    np.testing.assert_allclose(np.median([amount for _, amount in found], axis=0), stain.TARGET_STRENGTH, rtol=0.15)


def test_a_changed_stain_changes_colours_and_leaves_shapes() -> None:
    image = smear()
    changed = [stain.change_stain(image, np.random.default_rng(seed)) for seed in range(40)]
    assert all(one.shape == image.shape and one.dtype == np.uint8 for one in changed)
    grey = image.mean(axis=2).ravel()
    assert min(np.corrcoef(grey, one.mean(axis=2).ravel())[0, 1] for one in changed) > 0.95
    moved = np.std([stain.colour_statistics(one)[0] for one in changed], axis=0)
    # of the size that lies between laboratories: 0.028, 0.025 and 0.005 in l, alpha and beta
    assert (moved > np.array([0.01, 0.008, 0.0015])).all()
    assert (moved < np.array([0.08, 0.08, 0.015])).all()


def test_the_change_of_an_image_depends_on_the_image_alone() -> None:
    images = [smear(), smear(amount=0.8)]
    prepare = stain.ChangedPrepare(list)
    first, second = prepare(images)
    np.testing.assert_array_equal(first, prepare([images[0]])[0])
    assert difference(first, images[0]) > 1
    assert not np.array_equal(second, images[1])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(prepare))(images)[1], second)

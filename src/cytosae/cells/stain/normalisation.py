"""Stain: an image's colours brought to those of a reference, by two published methods, or changed at random.

Every function looks at one image alone, so a cell's tokens depend on its own file and nothing else. The references are
those of Acevedo (May-Grünwald-Giemsa): over 500 of its cells, the means of `colour_statistics` and the medians of
`dyes`.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytosae.cells.stain import Stain
from cytosae.common.errors import UsageError

TARGET_MEAN = (-0.226, 0.0151, 0.0106)
TARGET_STD = (0.191, 0.0710, 0.00575)
"""Mean and standard deviation of l, alpha and beta to which `reinhard` brings an image."""
TARGET_DYES = ((0.700, 0.679, 0.200), (0.392, 0.917, 0.074))
TARGET_STRENGTH = (0.470, 0.861)
"""Optical densities of a unit of the first and second dye, and the 99th percentile of their amounts, of `macenko`."""
CHANGED_MIX = 0.1
CHANGED_LIGHT = 0.02
"""How far `change_stain` goes: standard deviations of the mixing of optical densities, and of the light's density. The
means of l, alpha and beta then change as much as five laboratories differ (benchmarks/stain_change.py)."""

_LMS = np.array([[0.3811, 0.5783, 0.0402], [0.1967, 0.7244, 0.0782], [0.0241, 0.1288, 0.8444]])
_LAB = np.diag([3**-0.5, 6**-0.5, 2**-0.5]) @ np.array([[1, 1, 1], [1, 1, -2], [1, -1, 0]])
_FROM_LMS, _FROM_LAB = np.linalg.inv(_LMS), np.linalg.inv(_LAB)
_BACKGROUND = 0.15  # optical density of a pixel without dye at most (beta of Macenko et al.)
_PERCENTILE = 1.0  # of the angles on either side, for robust extremes (alpha of Macenko et al.)
_LIGHT = 5.0  # percentile of the optical densities of each channel that is the background's
_LEAST_PIXELS = 50
_SAMPLED = 1 << 16


def normalise_stain(image: NDArray[np.uint8], method: Stain) -> NDArray[np.uint8]:
    """The image [H, W, 3] with its colours brought to the reference by ``method``; "none" gives it back as it is."""
    if method == "none":
        return image
    if method not in _METHODS:
        raise UsageError(f"stain is {method!r}; choose one of: none, {', '.join(_METHODS)}.")
    return _METHODS[method](image)


@dataclass(frozen=True)
class StainedPrepare:
    """A backbone's ``prepare`` after stain normalisation; small enough to be sent to worker processes.

    Attributes
    ----------
    prepare : callable
        Images to a batch.
    stain : {"none", "reinhard", "macenko"}
        Method.
    """

    prepare: Callable[[Sequence[Any]], Any]
    stain: Stain

    def __call__(self, images: Sequence[Any]) -> Any:
        """Batch of images, uint8 arrays [H, W, 3], each normalised by itself."""
        return self.prepare([normalise_stain(np.asarray(image), self.stain) for image in images])


def prepare_stained(prepare: Callable[[Sequence[Any]], Any], stain: Stain) -> Callable[[Sequence[Any]], Any]:
    """``prepare`` with stain normalisation before it, or ``prepare`` itself for "none"."""
    return prepare if stain == "none" else StainedPrepare(prepare, stain)


def change_stain(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """The same cell as another laboratory might have stained and lit it: (H, W, 3) uint8.

    The optical densities of the three channels are mixed by a matrix near the identity (other dyes, other amounts), and
    the light gets another density in each (another lamp and camera). Shapes and textures stay.
    """
    mix = np.eye(3) + CHANGED_MIX * rng.standard_normal((3, 3))
    light = np.maximum(CHANGED_LIGHT * rng.standard_normal(3), -CHANGED_LIGHT)
    return _to_bytes(255 * 10.0 ** -(optical_density(image) @ mix + light))


@dataclass(frozen=True)
class ChangedPrepare:
    """A backbone's ``prepare`` after a change of the stain that is the same whenever it meets the same image.

    Attributes
    ----------
    prepare : callable
        Images to a batch.
    """

    prepare: Callable[[Sequence[Any]], Any]

    def __call__(self, images: Sequence[Any]) -> Any:
        """Batch of images, uint8 arrays [H, W, 3], each changed by itself."""
        arrays = [np.asarray(image) for image in images]
        return self.prepare([change_stain(a, np.random.default_rng(zlib.crc32(a.tobytes()))) for a in arrays])


def reinhard(
    image: NDArray[np.uint8], mean: Sequence[float] = TARGET_MEAN, std: Sequence[float] = TARGET_STD
) -> NDArray[np.uint8]:
    """Give an image the mean and standard deviation of a reference in l-alpha-beta space.

    Parameters
    ----------
    image : ndarray of uint8, shape (H, W, 3)
        RGB.
    mean, std : sequence of float
        Of l, alpha and beta; a channel of the image that is constant keeps its spread of 0.

    References
    ----------
    Reinhard, Ashikhmin, Gooch and Shirley, Color transfer between images, IEEE CG&A 21 (2001), equations 4 to 11.
    """
    lab = to_lab(image)
    here_mean, here_std = lab.mean(axis=(0, 1)), lab.std(axis=(0, 1))
    scale = np.asarray(std) / np.where(here_std > 1e-6, here_std, np.inf)
    return from_lab((lab - here_mean) * scale + np.asarray(mean))


def colour_statistics(image: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean [3] and standard deviation [3] of l, alpha and beta over the pixels of an image."""
    lab = to_lab(image)
    return lab.mean(axis=(0, 1)), lab.std(axis=(0, 1))


def to_lab(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """RGB to the decorrelated space l, alpha, beta of Ruderman et al.: (H, W, 3); zeros count as half a grey level."""
    return np.log10(_lms(np.maximum(image, 0.5) / 255.0)) @ _LAB.T


def from_lab(lab: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Inverse of `to_lab`, rounded and clipped to 0..255."""
    return _to_bytes(10.0 ** (lab @ _FROM_LAB.T) @ _FROM_LMS.T * 255)


def macenko(
    image: NDArray[np.uint8],
    target: NDArray[np.float64] | Sequence[Sequence[float]] = TARGET_DYES,
    strength: Sequence[float] = TARGET_STRENGTH,
) -> NDArray[np.uint8]:
    """Take an image apart into the amounts of two dyes, and draw it anew with the dyes of a reference.

    Parameters
    ----------
    image : ndarray of uint8, shape (H, W, 3)
        RGB.
    target : ndarray of float64 or sequence of sequence of float
        (2, 3), optical density of a unit of each dye.
    strength : sequence of float
        Amount of each dye at its 99th percentile in the reference.

    Returns
    -------
    ndarray of uint8, shape (H, W, 3)
        The image as it is where it has too few stained pixels, or a single dye.

    References
    ----------
    Macenko et al., A method for normalizing histology slides for quantitative analysis, ISBI 2009.
    """
    pixels = _density(image)
    found = _dyes(pixels)
    if found is None:
        return image
    here, here_strength = found
    amounts = pixels @ np.linalg.pinv(here)
    scaled = np.maximum(amounts, 0) * (np.asarray(strength) / here_strength)
    return _to_bytes(255 * 10.0 ** -(scaled @ np.asarray(target))).reshape(image.shape)


def dyes(image: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """The two dyes of an image: optical densities (2, 3) of unit length, and the 99th percentile of their amounts (2,).

    Optical densities are those beyond the image's own background, the brightest 5% of each channel: smears are seen in
    light that is seldom white. The plane of the dyes is that of the two largest principal components of the stained
    pixels; the dyes are the robust extremes of the angles in it. The first is the one with more red absorbed (the
    nucleus).
    None where there are fewer than 50 stained pixels or the two cannot be told apart.
    """
    return _dyes(_density(image))


def _dyes(pixels: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """`dyes` of optical densities (N, 3) beyond the background's."""
    stained = pixels[(pixels > _BACKGROUND).any(axis=1)]
    if len(stained) < _LEAST_PIXELS:
        return None
    stained = stained[:: -(-len(stained) // _SAMPLED)]
    _, vectors = np.linalg.eigh(np.cov(stained.T))
    plane = vectors[:, [2, 1]] * np.where(vectors[:, [2, 1]].sum(axis=0) < 0, -1, 1)
    angles = np.arctan2(stained @ plane[:, 1], stained @ plane[:, 0])
    extremes = np.percentile(angles, [_PERCENTILE, 100 - _PERCENTILE])
    found = np.stack([np.cos(extremes), np.sin(extremes)], axis=1) @ plane.T
    found = found[np.argsort(-found[:, 0])]
    if np.linalg.cond(found) > 50:
        return None
    strength = np.percentile(pixels @ np.linalg.pinv(found), 99, axis=0)
    return (found, strength) if strength.min() > 1e-3 else None


def optical_density(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """-log10 of the transmitted light, 0 for white: (H, W, 3); zeros count as half a grey level."""
    return -np.log10(np.maximum(image, 0.5) / 255.0)


def _density(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Optical densities beyond the background's: (H * W, 3); brighter pixels have 0."""
    pixels = optical_density(image).reshape(-1, 3)
    return np.maximum(pixels - np.percentile(pixels, _LIGHT, axis=0), 0)


def _lms(rgb: NDArray[np.float64]) -> NDArray[np.float64]:
    return rgb @ _LMS.T


def _to_bytes(values: NDArray[np.float64]) -> NDArray[np.uint8]:
    return np.rint(np.clip(values, 0, 255)).astype(np.uint8)


_METHODS: dict[str, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]] = {"reinhard": reinhard, "macenko": macenko}

"""Where the white cell in the middle of an image is, and its nucleus: from the image alone, nothing learnt.

A nucleus takes up red light, red cells hardly do: three classes of the red channel's optical density give the nucleus.
What lies around it is the cell's as far as it is no glass and looks more like what touches the nucleus than like the
other things in the image.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage as scipy_ndimage

from cytosae.cells.decoding.masks import CYTOPLASM, NUCLEUS

ndimage: Any = scipy_ndimage
"""As untyped: its own types allow for less than it does."""


Plane = NDArray[np.float32]
Where = NDArray[np.bool_]

SIDE = 128
"""Pixels along an edge at which an image is looked at."""
LEAST_DENSITY = 0.12
"""Optical density in red light, beyond the background's, of the palest nucleus."""
LEAST_AREA = 0.002
"""Share of the image that the smallest nucleus covers."""
OFF_CENTRE = 0.25
"""Share of an edge between the middle of the image and a nucleus that is still the central one."""
GAP = 1.2
"""Lobes of one nucleus are no further apart; this and all below in radii of a disc of the nucleus' area."""
LIKE = 0.8
"""Share of the nucleus' density that a lobe of it has at least; overlapping red cells have less."""
REACH = 1.6
"""Cytoplasm goes no further from the nucleus."""
TOUCHING = 0.5
"""What is so near to the nucleus shows the colour of the cytoplasm."""
BEYOND = 1.4
"""What is further away is something else, and shows the colour of that."""
NECK = 0.4
"""Half the width of the narrowest bridge to a part of the cell; what hangs on a narrower one touches it only."""
STAINED = 0.2
"""Share of Otsu's threshold of the optical density above which a pixel is no glass."""
ENOUGH = 0.03
"""Share of the image that must be beyond to know a colour from it."""
_BINS = 128


def find_cell(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Mask of the white cell in the middle of an image.

    Parameters
    ----------
    image : ndarray of uint8, shape (H, W, 3)
        RGB.

    Returns
    -------
    ndarray of uint8, shape (H, W)
        0 elsewhere, `CYTOPLASM`, `NUCLEUS`; 0 everywhere where there is no nucleus near the middle.
    """
    density = _density(image)
    core = _nucleus(density[..., 0])
    if core is None:
        return np.zeros(image.shape[:2], np.uint8)
    small = np.where(core, NUCLEUS, np.where(_body(density, core), CYTOPLASM, 0)).astype(np.uint8)
    return np.asarray(Image.fromarray(small).resize(image.shape[1::-1], Image.Resampling.NEAREST))


def _density(image: NDArray[np.uint8]) -> Plane:
    """Optical density beyond the image's own background, float32 [SIDE, SIDE, 3], smoothed by a pixel."""
    shrinks = max(image.shape[:2]) > SIDE
    filter_ = Image.Resampling.BOX if shrinks else Image.Resampling.BILINEAR
    small = np.maximum(np.asarray(Image.fromarray(image).resize((SIDE, SIDE), filter_), np.float32), 1)
    light = np.percentile(small, 95, axis=(0, 1)).astype(np.float32)
    return ndimage.gaussian_filter(np.maximum(np.log10(light / small), 0), (1, 1, 0))


def _nucleus(red: Plane) -> Where | None:
    """The dense part nearest the middle, with its lobes; None where nothing is dense, or only far from the middle."""
    parts, n = ndimage.label(ndimage.binary_opening(red > max(_otsu(red, 3)[-1], LEAST_DENSITY)))
    if not n:
        return None
    numbers = np.arange(1, n + 1)
    area = np.bincount(parts.ravel(), minlength=n + 1)[1:]
    from_middle = np.hypot(*(np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2))
    near = np.asarray(ndimage.minimum(from_middle, parts, numbers))
    first = int(np.where(area >= 0.1 * area.max(), near, np.inf).argmin())
    core = parts == numbers[first]
    at_border = np.isin(numbers, np.unique(np.concatenate([parts[0], parts[-1], parts[:, 0], parts[:, -1]])))
    # a neighbour that the image cuts off is no lobe
    left = [int(k) for k in numbers[(area >= 6) & ~(at_border & ~at_border[first])] if k != numbers[first]]
    dense = np.asarray(ndimage.mean(red, parts, numbers))
    while left:
        gaps = np.asarray(ndimage.minimum(ndimage.distance_transform_edt(~core), parts, left))
        near_enough = [k for k, gap in zip(left, gaps, strict=True) if gap <= GAP * radius(core)]
        own = [k for k in near_enough if area[k - 1] <= 2 * core.sum() and dense[k - 1] >= LIKE * dense[first]]
        if not own:
            break
        core |= np.isin(parts, own)
        left = [k for k in left if k not in own]
    central = near[first] <= OFF_CENTRE * SIDE and core.sum() >= LEAST_AREA * SIDE * SIDE
    return ndimage.binary_fill_holes(core) if central else None


def _body(density: Plane, core: Where) -> Where:
    """The whole cell around its nucleus."""
    from_core, r, total = ndimage.distance_transform_edt(~core), radius(core), density.sum(2)
    stained = total > STAINED * _otsu(total, 2)[0]
    own = stained & (from_core > 0) & (from_core <= TOUCHING * r)
    other = stained & (from_core > BEYOND * r)
    body = stained & (from_core <= REACH * r)
    if other.sum() > ENOUGH * other.size and own.sum() > 20:
        body[body] = _likelihood(density, own, body) + 1 > _likelihood(density, other, body)
    body = ndimage.binary_fill_holes(ndimage.binary_closing(body | (stained & (from_core <= 0.15 * r)) | core))
    neck = max(NECK * r, 1.0)
    thick, _ = ndimage.label((ndimage.distance_transform_edt(body) > neck) | core)
    held = np.isin(thick, np.unique(thick[core]))
    return ndimage.binary_fill_holes((body & (ndimage.distance_transform_edt(~held) <= neck)) | core)


def _likelihood(density: Plane, of: Where, at: Where) -> NDArray[np.float64]:
    """Log likelihood of the pixels ``at`` under the normal distribution of the pixels ``of``, up to a constant."""
    known = density[of].astype(np.float64)
    covariance = np.cov(known.T) + 1e-4 * np.eye(3)
    off = density[at] - known.mean(0)
    return -0.5 * (np.einsum("ij,ij->i", off @ np.linalg.inv(covariance), off) + np.linalg.slogdet(covariance)[1])


def radius(region: Where) -> float:
    """Radius of a disc of the same area, in pixels."""
    return float(np.sqrt(region.sum() / np.pi))


def _otsu(values: Plane, classes: int) -> tuple[float, ...]:
    """Thresholds that make the variance between two or three classes of values largest (Otsu 1979)."""
    counts, edges = np.histogram(values, bins=_BINS)
    weight = np.concatenate([[0.0], np.cumsum(counts)]) / values.size
    first = np.concatenate([[0.0], np.cumsum(counts * (edges[1:] + edges[:-1]) / 2)]) / values.size

    def between(a: NDArray[np.intp], b: NDArray[np.intp]) -> NDArray[np.float64]:
        return (first[b] - first[a]) ** 2 / np.maximum(weight[b] - weight[a], 1e-12)

    i, j = np.triu_indices(_BINS + 1, 1) if classes == 3 else (np.arange(_BINS), np.full(_BINS, _BINS))
    best = int((between(0 * i, i) + between(i, j) + between(j, 0 * j + _BINS)).argmax())
    return (float(edges[i[best]]), float(edges[j[best]])) if classes == 3 else (float(edges[i[best]]),)

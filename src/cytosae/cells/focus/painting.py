"""An image without its cell, and a cell without its image: what is left to see tells what a result is about."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as scipy_ndimage

from cytosae.cells.focus.cell_mask import find_cell, radius

ndimage: Any = scipy_ndimage
"""As untyped: its own types allow for less than it does."""


Bytes = NDArray[np.uint8]
Change = Callable[[Bytes, "Bytes | None"], Bytes]
"""(image [H, W, 3], its mask [H, W] or None) -> the changed image."""
Way = Literal["painted out", "alone"]

MARGIN = 0.2
"""How far beyond the cell it is painted out, in radii of the cell: its rim and what shines around it go, too."""
SEAM = 1.5
"""Standard deviation of the blending at a border, pixels."""
NEUTRAL = 200
"""Grey level of the ground on which a cell stands alone: the same for all, it tells nothing of a laboratory."""
FEWEST = 25
"""Pixels from which the colour of the glass is known."""
_DIRECTIONS = 12


def paint_out(image: Bytes, mask: Bytes | None = None) -> Bytes:
    """The image with its cell covered by other parts of its own surroundings: glass and red cells.

    The cell and a margin are laid over with the image itself, shifted so that what covers it lies wholly outside of the
    cell; the shift that covers most comes first. What no shift covers gets the colour of the glass, with its grain.
    The borders are blended. The shifts are drawn by a generator that the image itself seeds, so that the result is the
    same whenever the same image is met.

    Parameters
    ----------
    image : ndarray of uint8, shape (H, W, 3)
        RGB.
    mask : ndarray of uint8, shape (H, W), or None
        The cell where it is not 0; None to find it (`find_cell`).

    Returns
    -------
    ndarray of uint8, shape (H, W, 3)
        The image as it is where it has no cell.
    """
    cell = _cell_of(image, mask)
    if not cell.any():
        return image
    return cover(image, ndimage.distance_transform_edt(~cell) <= max(MARGIN * radius(cell), 2.0), cell)


def cover(image: Bytes, hole: NDArray[np.bool_], cell: NDArray[np.bool_]) -> Bytes:
    """The image with ``hole`` [H, W] laid over, as `paint_out` does it, by parts of it that are neither hole nor cell.

    Parameters
    ----------
    image : ndarray of uint8, shape (H, W, 3)
        RGB.
    hole : ndarray of bool, shape (H, W)
        What is covered.
    cell : ndarray of bool, shape (H, W)
        What must not be copied.
    """
    rng = np.random.default_rng(zlib.crc32(image.tobytes()))
    filled, left, usable = image.astype(np.float32), hole.copy(), ~(hole | cell)
    for shift in _shifts(hole, usable, rng) if hole.any() else ():
        source, known = _shifted(image, shift), _shifted(usable, shift)
        covers = left & known
        if covers.any():
            filled = _blend(filled, source.astype(np.float32), covers, known | ~hole)
            left &= ~covers
    if left.any():
        ground = usable if usable.sum() >= FEWEST else ~cell
        filled = _blend(filled, _glass(image, ground, rng), left, np.ones_like(left))
    return np.rint(np.clip(filled, 0, 255)).astype(np.uint8)


def leave_alone(image: Bytes, mask: Bytes | None = None) -> Bytes:
    """The cell on a neutral ground, the same for every image; the ground alone where the image has no cell."""
    # cut sharply: a blended rim would show the light of the laboratory
    return np.where(_cell_of(image, mask)[..., None], image, np.uint8(NEUTRAL))


WAYS: dict[Way, Change] = {"painted out": paint_out, "alone": leave_alone}
"""Name -> what is done to an image."""


def known_or_found(image: Bytes, mask: Bytes | None) -> Bytes:
    """The mask of a user where there is one, what is found (`find_cell`) otherwise; [H, W]."""
    return find_cell(image) if mask is None else mask


def _cell_of(image: Bytes, mask: Bytes | None) -> NDArray[np.bool_]:
    return known_or_found(image, mask) > 0


def _shifts(hole: NDArray[np.bool_], usable: NDArray[np.bool_], rng: np.random.Generator) -> list[tuple[int, int]]:
    """Shifts in all directions by as much as the hole is wide, those first that cover most of it."""
    rows, columns = (np.flatnonzero(hole.any(axis)) for axis in (1, 0))
    reach = np.array([np.ptp(rows), np.ptp(columns)]) + 2.0
    turn = rng.uniform(0, 2 * np.pi / _DIRECTIONS)
    found = []
    for angle in turn + 2 * np.pi * np.arange(_DIRECTIONS) / _DIRECTIONS:
        for far in (0.6, 1.0):
            y, x = (int(part) for part in np.rint(far * reach * (np.sin(angle), np.cos(angle))))
            found.append(((hole & _shifted(usable, (y, x))).sum(), rng.random(), (y, x)))
    return [shift for _, _, shift in sorted(found, reverse=True)]


def _shifted(array: NDArray, shift: tuple[int, int]) -> NDArray:
    """``result[p] = array[p - shift]``, 0 where that lies outside."""
    moved = np.zeros_like(array)
    to, of = zip(*(_overlap_of(length, by) for length, by in zip(array.shape, shift, strict=False)), strict=True)
    moved[to] = array[of]
    return moved


def _overlap_of(length: int, by: int) -> tuple[slice, slice]:
    by = max(-length, min(length, by))
    return slice(max(by, 0), length + min(by, 0)), slice(max(-by, 0), length - max(by, 0))


def _blend(
    under: NDArray[np.float32], over: NDArray[np.float32], where: NDArray[np.bool_], known: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """``over`` laid on ``under``: wholly where ``where``, fading out beyond it as far as ``over`` is known."""
    opacity = np.where(known, ndimage.gaussian_filter(where.astype(np.float32), SEAM), 0.0)
    opacity = np.where(where, 1.0, opacity)[..., None].astype(np.float32)
    return np.asarray(opacity * over + (1 - opacity) * under, np.float32)


def _glass(image: Bytes, ground: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.float32]:
    """The colour and the grain of the lightest fifth of the pixels ``ground``, or of all where these are few."""
    around = image[ground] if ground.sum() >= FEWEST else image.reshape(-1, 3)
    light = around[np.argsort(around.sum(1, dtype=np.int64), kind="stable")[-max(len(around) // 5, 1) :]]
    return light[rng.integers(0, len(light), image.shape[:2])].astype(np.float32)

"""Pixel values of any depth and colour model to 8-bit RGB, by rules that depend on the file alone."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytosae.common.errors import InputError

DEPTHS = (8, 10, 12, 14, 16)
"""Bit depths of cameras; 16-bit files usually hold fewer."""


def to_bytes(array: NDArray[Any]) -> tuple[NDArray[np.uint8], list[str]]:
    """Scale values of any type to 0..255.

    Integers of more than 8 bits are taken to be of the smallest depth out of 8, 10, 12, 14 and 16 that holds the
    image's largest value, and that depth's full scale becomes 255: a 12-bit camera's file stays bright. Floats must lie
    in 0..1 (scaled by 255) or in 0..255 (rounded).

    Returns
    -------
    uint8 array of the same shape, and notes ("12-bit values scaled to 8").
    """
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * np.uint8(255), []
    if array.dtype == np.uint8:
        return array, []
    if array.dtype.kind == "f":
        return _floats_to_bytes(array)
    if array.dtype.kind not in "iu":
        raise InputError(f"pixel values of type {array.dtype} are not supported")
    low, high = int(array.min()), int(array.max())
    if low < 0 or high > 65535:
        raise InputError(f"pixel values from {low} to {high}; 0 to 65535 is supported")
    depth = next(depth for depth in DEPTHS if high < 1 << depth)
    if depth == 8:
        return array.astype(np.uint8), []
    scaled = np.rint(array.astype(np.float32) * np.float32(255 / ((1 << depth) - 1)))
    return scaled.astype(np.uint8), [f"{depth}-bit values scaled to 8"]


def _floats_to_bytes(array: NDArray[Any]) -> tuple[NDArray[np.uint8], list[str]]:
    if not np.isfinite(array).all():
        raise InputError("pixel values that are not finite numbers")
    low, high = float(array.min()), float(array.max())
    if low < 0 or high > 255:
        raise InputError(f"float pixel values from {low:g} to {high:g}; 0 to 1 or 0 to 255 is supported")
    return np.rint(array * (255.0 if high <= 1 else 1.0)).astype(np.uint8), ["float values scaled to 8 bits"]


def tiff_to_rgb(array: NDArray[Any], photometric: str, alpha: str | None) -> tuple[NDArray[np.uint8], list[str]]:
    """Colours of a decoded page to RGB.

    Parameters
    ----------
    array : (H, W) or (H, W, S) of any numeric type, S in 1..5
    photometric : TIFF's name of the colour model
    alpha : "straight", "premultiplied" or None for what the channel after the colours is

    Returns
    -------
    (H, W, 3) uint8 array (alpha composited on white), and notes.
    """
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or 0 in array.shape:
        raise InputError(f"pixel data of shape {array.shape}; height x width x channels is needed")
    if photometric not in {"MINISBLACK", "MINISWHITE", "RGB", "YCBCR", "SEPARATED", "PALETTE", "CFA", "LINEAR_RAW"}:
        raise InputError(f"the colour model {photometric} is not supported; save it as RGB")
    values, notes = to_bytes(array)
    channels = 4 if photometric == "SEPARATED" else 3 if values.shape[2] >= 3 else 1
    if values.shape[2] < channels:
        raise InputError(f"{values.shape[2]} channels where {photometric} needs {channels}")
    colour = values[..., :channels]
    if photometric == "MINISWHITE":
        colour = 255 - colour
    elif photometric == "SEPARATED":
        ink = colour.astype(np.float32) / 255
        colour = np.rint(255 * (1 - ink[..., :3]) * (1 - ink[..., 3:])).astype(np.uint8)
    rgb = np.repeat(colour, 3, axis=2) if channels == 1 else colour
    if values.shape[2] > channels and alpha is not None:
        rgb = _on_white(rgb, values[..., channels : channels + 1], alpha)
    return rgb, notes


def _on_white(rgb: NDArray[np.uint8], opacity: NDArray[np.uint8], alpha: str) -> NDArray[np.uint8]:
    share = opacity.astype(np.float32) / 255
    front = rgb.astype(np.float32) * (share if alpha == "straight" else 1)
    return np.rint(np.clip(front + 255 * (1 - share), 0, 255)).astype(np.uint8)

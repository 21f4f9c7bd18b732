"""Samples of any depth and colour model to 8-bit RGB, by rules that depend on the file alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytosae.common.errors import InputError

Bytes = tuple[NDArray[np.uint8], list[str]]
"""8-bit values, and what a reader should know of how they came about."""

MAX_PIXELS = 64_000_000
"""Largest width x height that is decoded; a larger claim is refused from the header alone."""
DEPTHS = (8, 10, 12, 14, 16)
"""Bit depths of cameras; 16-bit files usually hold fewer."""
OVERSHOOT = 0.1
"""How far, as a share of full scale, floats may lie outside of it: resampling and sharpening overshoot."""
DARKEST = 16
"""Float values that exceed 0..1 and stay below this are no picture in 0..255 either."""
TURNS: dict[int, Callable[[NDArray[Any]], NDArray[Any]]] = {
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a.swapaxes(0, 1)[:, ::-1],
    7: lambda a: a.swapaxes(0, 1)[::-1, ::-1],
    8: lambda a: a.swapaxes(0, 1)[::-1],
}
"""Orientation of EXIF and TIFF -> what turns the stored rows upright."""


@dataclass(frozen=True)
class Samples:
    """What a file holds, before anything is scaled.

    Attributes
    ----------
    values : ndarray, shape (H, W) or (H, W, C)
        Upright, of any numeric type, as stored.
    model : str
        Colour model, by TIFF's name.
    alpha : int or None
        Channel that holds the opacity.
    premultiplied : bool
        Whether the colours are multiplied by the opacity.
    full : int or None
        Value of full scale where the file states it; None where the largest value must tell.
    palette : ndarray of uint8, shape (N, 3) or (N, 4), or None
        Colours, or colours and opacity, of the indices of the model PALETTE.
    notes : tuple of str
        What a reader should know.
    """

    values: NDArray[Any]
    model: str = "RGB"
    alpha: int | None = None
    premultiplied: bool = False
    full: int | None = None
    palette: NDArray[np.uint8] | None = None
    notes: tuple[str, ...] = ()


def to_rgb(samples: Samples) -> Bytes:
    """Colours of a picture on white ground.

    Parameters
    ----------
    samples : Samples
        What a file holds.

    Returns
    -------
    Bytes
        Ndarray of uint8, shape (H, W, 3) RGB. list of str Notes: those of the samples, then those of the conversion.
    """
    values = samples.values[..., None] if samples.values.ndim == 2 else samples.values
    if values.ndim != 3 or 0 in values.shape:
        raise InputError(f"pixel data of shape {values.shape}; height x width x channels is needed")
    found = values.shape[2] - (samples.alpha is not None)
    model, notes = samples.model, list(samples.notes)
    if model == "MINISBLACK" and found > 2:
        if found > 4:
            raise InputError(f"{found} channels without a colour model; RGB is needed")
        model = "RGB"
        notes.append("grey channels taken as red, green, blue")
    if model not in MODELS:
        raise InputError(f"the colour model {model} is not supported; save it as RGB")
    needed, convert = MODELS[model]
    if found < needed:
        raise InputError(f"{found} channels where {model} needs {needed}")
    if found > needed:
        notes.append(f"first of {found} channels" if needed == 1 else "channels beyond the colours left out")
    opacity = None if samples.alpha is None else _opacity(values[..., samples.alpha], samples.full)
    colour = values[..., :needed]
    if opacity is not None and opacity.max() > 1 and colour.dtype != np.uint8:
        colour = np.where(opacity[..., None] > 0, colour, 0)  # what nobody sees must not choose the depth
    colour, more = convert(colour, samples)
    notes += more
    if colour.shape[2] == 4:
        colour, opacity = colour[..., :3], colour[..., 3]
    rgb = np.concatenate([colour] * 3, axis=2) if colour.shape[2] == 1 else colour
    if opacity is None:
        return rgb, notes
    rgb, more = _on_white(rgb, opacity[..., None], premultiplied=samples.premultiplied)
    return rgb, notes + more


def to_bytes(array: NDArray[Any], full: int | None = None) -> Bytes:
    """Scale values of any type to 0..255.

    Without a stated full scale, integers of more than 8 bits are taken to be of the smallest depth out of 8, 10, 12, 14
    and 16 that holds the largest value, and that depth's full scale becomes 255: a 12-bit camera's file stays bright.
    Floats must lie in 0..1 (scaled by 255) or in 0..255 (rounded); what is outside by a tenth at most is clipped.

    Parameters
    ----------
    array : ndarray
        Values of any type.
    full : int or None
        Full scale where the file states it.

    Returns
    -------
    Bytes
        Ndarray of uint8 Of the same shape. list of str Notes ("12-bit values scaled to 8").
    """
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * np.uint8(255), []
    if array.dtype == np.uint8 and full in (None, 255):
        return array, []
    if array.dtype.kind == "f":
        return _floats_to_bytes(array)
    if full is None:
        full = full_scale(array)
    elif array.max() > full:
        raise InputError(f"a value of {array.max()} where the header says {full} at most")
    if full == 255:
        return array.astype(np.uint8), []
    scaled = array.astype(np.float32)
    scaled *= np.float32(255 / full)
    return np.rint(scaled, out=scaled).astype(np.uint8), [f"{full.bit_length()}-bit values scaled to 8"]


def full_scale(array: NDArray[Any]) -> int:
    """Full scale of the smallest depth that holds all values of integers (or 1, of truth values)."""
    if array.dtype == np.bool_:
        return 1
    if array.dtype.kind not in "iu":
        raise InputError(f"pixel values of type {array.dtype} are not supported")
    low, high = int(array.min()), int(array.max())
    if low < 0 or high > 65535:
        raise InputError(f"pixel values from {low} to {high}; 0 to 65535 is supported")
    depth = next(depth for depth in DEPTHS if high < 1 << depth)
    return min((1 << depth) - 1, int(np.iinfo(array.dtype).max))  # signed numbers of 16 bits end at 15


def check_size(width: int, height: int) -> None:
    """Refuse a picture by the size that its header claims."""
    if width < 1 or height < 1:
        raise InputError(f"its header claims {width} x {height} pixels")
    if width * height > MAX_PIXELS:
        raise InputError(f"its header claims {width:,} x {height:,} pixels, more than the limit of {MAX_PIXELS:,}")


def _floats_to_bytes(array: NDArray[Any]) -> Bytes:
    if not np.isfinite(array).all():
        raise InputError("pixel values that are not finite numbers")
    low, high = float(array.min()), float(array.max())
    fits = [full for full in (1, 255) if -OVERSHOOT * full <= low and high <= (1 + OVERSHOOT) * full]
    if not fits or (fits[0] == 255 and high < DARKEST):
        raise InputError(f"float pixel values from {low:g} to {high:g}; 0 to 1 or 0 to 255 is supported")
    notes = ["float values scaled to 8 bits"]
    if low < 0 or high > fits[0]:
        notes.append(f"values outside of 0 to {fits[0]} clipped")
    scaled = np.clip(array.astype(np.float32), 0, fits[0]) * np.float32(255 / fits[0])
    return np.rint(scaled).astype(np.uint8), notes


def _scaled(colour: NDArray[Any], samples: Samples) -> Bytes:
    return to_bytes(colour, samples.full)


def _inverted(colour: NDArray[Any], samples: Samples) -> Bytes:
    if colour.dtype.kind == "f":
        values, notes = to_bytes(colour)
        return 255 - values, notes
    full = samples.full or full_scale(colour)
    # of 16 bits one does not know: a 12-bit picture inverted as 16 bits holds 61440 to 65535
    return to_bytes(colour ^ True if full == 1 else full - colour, None if full == 65535 else full)


def _inks(colour: NDArray[Any], samples: Samples) -> Bytes:
    """Cyan, magenta, yellow and black without a profile; no camera makes them, so that the type tells full scale."""
    whole = int(np.iinfo(colour.dtype).max) if colour.dtype.kind in "iu" else None
    values, notes = to_bytes(colour, samples.full or whole)
    ink = values.astype(np.float32) / 255
    return np.rint(255 * (1 - ink[..., :3]) * (1 - ink[..., 3:])).astype(np.uint8), notes


def _looked_up(index: NDArray[Any], samples: Samples) -> Bytes:
    if samples.palette is None:
        raise InputError("a palette image without its palette")
    return samples.palette[index[..., 0].astype(np.intp)], []


def _lab(colour: NDArray[Any], samples: Samples) -> Bytes:
    """CIE L*a*b* of white D50 to sRGB.

    Encodings: TIFF 6.0, section 23 (CIELAB: signed a and b), and TIFF technical note 4 (ICCLAB: offset by half).
    """
    size = colour.dtype.itemsize
    if colour.dtype.kind not in "iu" or size > 2:
        raise InputError(f"L*a*b* values of type {colour.dtype} are not supported; save it as RGB")
    unit = 256.0 ** (size - 1)
    raw = np.ascontiguousarray(colour).view(f"u{size}").astype(np.float64)
    if samples.model == "ICCLAB":
        lightness, a, b = raw[..., 0] / (255 * unit), raw[..., 1] / unit - 128, raw[..., 2] / unit - 128
    else:
        half = 128 * unit
        lightness = raw[..., 0] / (256**size - 1)
        a, b = (((raw[..., k] + half) % (2 * half) - half) / unit for k in (1, 2))
    y = (100 * lightness + 16) / 116
    cube_roots = np.stack([y + a / 500, y, y - b / 200], axis=-1)
    xyz = np.where(cube_roots > 6 / 29, cube_roots**3, 3 * (6 / 29) ** 2 * (cube_roots - 4 / 29)) * _D50
    linear = np.clip(xyz @ _XYZ_TO_SRGB.T, 0, 1)
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.rint(255 * srgb).astype(np.uint8), ["L*a*b* converted to sRGB"]


_D50 = np.array([0.9642, 1.0, 0.8249])
_XYZ_TO_SRGB = np.array(
    [
        [3.1338561, -1.6168667, -0.4906146],
        [-0.9787684, 1.9161415, 0.0334540],
        [0.0719453, -0.2289914, 1.4052427],
    ]
)
"""XYZ of white D50 to linear sRGB, with Bradford's adaptation (Lindbloom)."""

MODELS: dict[str, tuple[int, Callable[[NDArray[Any], Samples], Bytes]]] = {
    "MINISBLACK": (1, _scaled),
    "MINISWHITE": (1, _inverted),
    "RGB": (3, _scaled),
    "SEPARATED": (4, _inks),
    "PALETTE": (1, _looked_up),
    "CIELAB": (3, _lab),
    "ICCLAB": (3, _lab),
}
"""Colour model -> number of its channels, and what makes bytes of grey, RGB or RGBA of them."""


def _opacity(values: NDArray[Any], full: int | None) -> NDArray[np.uint8]:
    """Opacity has a depth of its own: cameras' programs add 65535 to 12-bit colours."""
    return to_bytes(values, full if full is not None and full < 255 else None)[0]


def _on_white(rgb: NDArray[np.uint8], opacity: NDArray[np.uint8], *, premultiplied: bool) -> Bytes:
    """Composite on white; an opacity that would hide the whole picture (a buffer never filled) is left out."""
    if opacity.max() <= 1:
        return rgb, ["alpha hides the whole picture and was left out"]
    if opacity.min() == 255:
        return rgb, []
    share = opacity.astype(np.uint16)
    if premultiplied:
        return np.minimum(rgb + (255 - share), 255).astype(np.uint8), []
    return ((rgb * share + 255 * (255 - share) + 127) // 255).astype(np.uint8), []

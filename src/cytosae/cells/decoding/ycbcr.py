"""Luminance and colour differences (YCbCr) of TIFFs to RGB, where no codec has done it (TIFF 6.0, section 21)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from cytosae.common.errors import InputError

LUMA = (0.299, 0.587, 0.114)
"""Shares of red, green and blue in the luminance, where the file has none of its own (BT.601)."""
RANGES = (0, 255, 128, 255, 128, 255)
"""Black and white of Y, Cb and Cr, where the file has none of its own."""
_RAW_JPEG2000 = 33003
_SUBSAMPLING, _LUMA, _RANGES = 530, 529, 532


def needs_conversion(page: Any) -> bool:
    """Whether the page's samples come out as Y, Cb and Cr: most codecs of pictures give RGB."""
    if page.photometric != tifffile.PHOTOMETRIC.YCBCR or page.samplesperpixel < 3:
        return False
    own = page.compression in tifffile.TIFF.IMAGE_COMPRESSIONS and page.compression != _RAW_JPEG2000
    return page.planarconfig == 2 or not own


def read_ycbcr(page: Any, data: bytes) -> NDArray[np.uint8]:
    """RGB of a page of Y, Cb and Cr, (H, W, 3)."""
    if page.bitspersample != 8:
        raise InputError(f"YCbCr of {page.bitspersample} bits is not supported; save it as RGB")
    factors = _subsampling(page, data)
    if factors == (1, 1):
        page.subsampling = factors  # without a tag tifffile expects another
        stored = page.asarray(maxworkers=1)
        stored = np.moveaxis(stored, 0, -1) if page.planarconfig == 2 else stored
    elif page.predictor == 1:
        stored = _unpack(page, data, factors)
    else:
        raise InputError("subsampled YCbCr with a predictor is not supported; save it as RGB")
    return to_rgb(stored[..., :3], _numbers(page, _LUMA, LUMA), _numbers(page, _RANGES, RANGES))


def to_rgb(stored: NDArray[np.uint8], luma: tuple[float, ...], ranges: tuple[float, ...]) -> NDArray[np.uint8]:
    """RGB of Y, Cb and Cr, all (H, W, 3) uint8, by the shares of the luminance and the ranges of the codes."""
    black, white = np.array(ranges[::2], np.float32), np.array(ranges[1::2], np.float32)
    y, cb, cr = np.moveaxis((stored - black) * (np.array([255, 127, 127], np.float32) / (white - black)), -1, 0)
    red = y + cr * (2 - 2 * luma[0])
    blue = y + cb * (2 - 2 * luma[2])
    green = (y - luma[0] * red - luma[2] * blue) / luma[1]
    return np.rint(np.clip(np.stack([red, green, blue], axis=-1), 0, 255)).astype(np.uint8)


def _subsampling(page: Any, data: bytes) -> tuple[int, int]:
    """Pixels across and down that share their colour; 2 x 2 without a tag, unless the first strip holds more."""
    tag = page.tags.valueof(_SUBSAMPLING)
    if tag is None:
        _, rows, columns = _grid(page)
        whole = len(_segment(page, data, 0)) >= 3 * rows * columns
        return (1, 1) if whole or page.planarconfig == 2 else (2, 2)
    across, down = (int(factor) for factor in tag)
    if {across, down} - {1, 2, 4} or (page.planarconfig == 2 and across * down > 1):
        raise InputError(f"YCbCr with {across} x {down} subsampling is not supported; save it as RGB")
    return across, down


def _unpack(page: Any, data: bytes, factors: tuple[int, int]) -> NDArray[np.uint8]:
    """Data units of the Ys of a few pixels with their Cb and Cr, to one of each for every pixel."""
    across, down = factors
    per_row, rows, columns = _grid(page)
    height, width = page.imagelength, page.imagewidth
    image = np.zeros((height, width, 3), np.uint8)
    for number in range(len(page.dataoffsets)):
        top, left = number // per_row * rows, number % per_row * columns
        if top >= height:
            break
        tall = rows if page.is_tiled else min(rows, height - top)
        units = (-(-tall // down), -(-columns // across), across * down + 2)
        held = _segment(page, data, number)
        if len(held) < np.prod(units):
            raise InputError("truncated: image data are missing")
        blocks = np.frombuffer(held, np.uint8, int(np.prod(units))).reshape(units)
        y = blocks[..., :-2].reshape(*units[:2], down, across).swapaxes(1, 2).reshape(units[0] * down, -1)
        colour = blocks[..., -2:].repeat(down, axis=0).repeat(across, axis=1)
        part = np.dstack([y, colour])[: min(rows, height - top), : min(columns, width - left)]
        image[top : top + part.shape[0], left : left + part.shape[1]] = part
    return image


def _grid(page: Any) -> tuple[int, int, int]:
    """Segments in a row of them, and the rows and columns of one."""
    if page.is_tiled:
        return -(-page.imagewidth // page.tilewidth), page.tilelength, page.tilewidth
    return 1, min(page.rowsperstrip, page.imagelength), page.imagewidth


def _segment(page: Any, data: bytes, number: int) -> bytes:
    start = page.dataoffsets[number]
    stored = data[start : start + page.databytecounts[number]]
    if page.compression == 1:
        return stored
    _, rows, columns = _grid(page)
    decompress: Callable[..., bytes] = tifffile.TIFF.DECOMPRESSORS[page.compression]
    return bytes(decompress(stored, out=4 * rows * columns))


def _numbers(page: Any, tag: int, default: tuple[float, ...]) -> tuple[float, ...]:
    """Fractions of a tag."""
    value = page.tags.valueof(tag)
    if value is None:
        return default
    pairs = np.asarray(value, float).ravel()
    if len(pairs) != 2 * len(default) or not pairs[1::2].all():
        raise InputError("YCbCr with a damaged colour table")
    return tuple((pairs[::2] / pairs[1::2]).tolist())

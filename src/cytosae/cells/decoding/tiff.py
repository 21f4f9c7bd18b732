"""The picture in a TIFF: which page it is, and its samples as they are stored."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from cytosae.cells.decoding.channels import colour_channels
from cytosae.cells.decoding.pixels import TURNS, Samples, check_size
from cytosae.cells.decoding.ycbcr import needs_conversion, read_ycbcr
from cytosae.common.errors import InputError

MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
MAX_SAMPLES = 8
"""Most samples of a pixel."""
MAX_BYTES = 1 << 30
"""Most bytes of decoded samples."""
ALPHA = {1: True, 2: False}
"""TIFF's ExtraSamples -> whether the colours are multiplied by this opacity."""
_INNER = ("JPEG", "JPEG2000", "PNG", "WEBP")
_FULL_BYTES = (8, 16, 32, 64)


def read_tiff(data: bytes) -> Samples:
    """Read the picture of a TIFF or BigTIFF: its first page that is no thumbnail."""
    with tifffile.TiffFile(io.BytesIO(data), _multifile=False) as file:  # no look at other files
        if not len(file.pages):
            raise InputError("a TIFF without a page")
        page, place = _picture(file)
        notes = _check(page, data)
        if 34675 in page.tags and not is_srgb(page.tags[34675].value):
            notes.append("colour profile not applied")
        turn = TURNS.get(int(page.tags.valueof(274, 1)), np.asarray)
        channels, said = colour_channels(file, page)
        notes = [*(said or place), *notes]
        if channels:
            return Samples(turn(_planes(file, channels, data)), full=_full_scale(page), notes=tuple(notes))
        if needs_conversion(page):
            return Samples(turn(read_ycbcr(page, data)), notes=(*notes, "YCbCr converted to RGB"))
        return _samples_of(page, turn, notes)


def is_srgb(profile: Any) -> bool:
    """Whether an ICC profile describes sRGB, which is how colours are taken anyway."""
    return isinstance(profile, bytes) and (b"sRGB" in profile or "sRGB".encode("utf-16-be") in profile)


def _samples_of(page: Any, turn: Any, notes: list[str]) -> Samples:
    values = page.asarray(maxworkers=1)
    if page.planarconfig == 2 and values.ndim == 3:
        values = np.moveaxis(values, 0, -1)
    palette = None
    model = getattr(page.photometric, "name", str(page.photometric))
    model = "RGB" if model == "YCBCR" else model  # the codec has converted it
    if model == "PALETTE" and page.colormap is not None:
        palette, said = _palette(page.colormap)
        notes += said
    extra = [int(kind) for kind in page.extrasamples]
    at = next((i for i, kind in enumerate(extra) if kind in ALPHA), None)
    return Samples(
        turn(values),
        model,
        alpha=None if at is None else page.samplesperpixel - len(extra) + at,
        premultiplied=at is not None and ALPHA[extra[at]],
        full=_full_scale(page),
        palette=palette,
        notes=tuple(notes),
    )


def _planes(file: tifffile.TiffFile, numbers: list[int], data: bytes) -> NDArray[Any]:
    """Planes of the first series by their numbers, (H, W, planes)."""
    pages, first = list(file.series[0].pages), file.pages.first
    if len(pages) > max(numbers) and len(file.pages) > 1:
        planes: list[Any] = [None if (page := pages[number]) is None else page.aspage() for number in numbers]
        if None in planes:
            raise InputError("truncated: channels of a stack are missing")
        for plane in planes:
            _check(plane, data)
        return np.stack([plane.asarray(maxworkers=1) for plane in planes], axis=-1)
    # ImageJ describes large stacks by their first page alone
    start, size = first.dataoffsets[0], first.nbytes
    if first.compression != 1 or first.dtype is None or start + size * (max(numbers) + 1) > len(data):
        raise InputError("truncated: channels of a stack are missing")
    dtype = first.dtype.newbyteorder(file.byteorder)
    parts = [np.frombuffer(data, dtype, first.size, start + size * number) for number in numbers]
    return np.stack(parts, axis=-1).reshape(*first.shape, len(parts))


def _picture(file: tifffile.TiffFile) -> tuple[Any, list[str]]:
    """The page that is no thumbnail and no mask of another, and what to say of it."""
    first, pages = file.pages.first, len(file.pages)
    if not (first.is_reduced or first.is_mask):
        return first, [f"first page of {pages}"] if pages > 1 else []
    for page in _pages(file):
        if not (page.is_reduced or page.is_mask):
            return page, ["picture behind a thumbnail taken"]
    return first, ["a picture marked as thumbnail"]


def _pages(file: tifffile.TiffFile) -> Iterator[Any]:
    for page in file.pages:
        yield page
        yield from getattr(page, "pages", None) or ()


def _check(page: Any, data: bytes) -> list[str]:
    """Refuse a page by its header, before it is decoded; what may be read all the same, and is to be said."""
    check_size(page.imagewidth, page.imagelength)
    if page.imagedepth > 1 or page.samplesperpixel > MAX_SAMPLES:
        raise InputError(f"a TIFF of {page.samplesperpixel} channels and depth {page.imagedepth}; RGB is needed")
    if not isinstance(page.bitspersample, int):
        raise InputError("samples of unequal depths; save it with 8 bits each")
    size = page.imagewidth * page.imagelength * page.samplesperpixel * page.bitspersample // 8
    if size > MAX_BYTES:
        raise InputError(f"its header claims {size / 2**30:.1f} GiB of pixels, more than the limit of 1 GiB")
    said = _unstored(page, data)
    if page.compression == 1 or page.compression not in tifffile.TIFF.IMAGE_COMPRESSIONS:
        return said
    for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False):
        try:  # a picture within the picture has a header of its own
            with Image.open(io.BytesIO(data[offset : offset + count]), formats=_INNER) as inner:
                check_size(*inner.size)
        except Image.UnidentifiedImageError:
            continue
    return said


def _unstored(page: Any, data: bytes) -> list[str]:
    """Refuse a file that is cut; tiles that a sparse file leaves out read as 0, which is said."""
    missing = 0
    if len(page.dataoffsets) < math.prod(page.chunked) or len(page.databytecounts) < len(page.dataoffsets):
        raise InputError("fewer parts of image data than its header claims")
    for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False):
        missing += count == offset == 0
        if (count == 0 and offset) or offset + count > len(data):
            raise InputError("truncated: image data are missing at the end of the file")
    if missing == len(page.dataoffsets):
        raise InputError("a TIFF without image data")
    return ["parts that the file leaves out read as 0"] if missing else []


def _full_scale(page: Any) -> int | None:
    """Full scale as the file states it: packed bits do, whole bytes may hold fewer."""
    bits = page.bitspersample
    return None if page.dtype is None or page.dtype.kind not in "u" or bits in _FULL_BYTES else (1 << bits) - 1


def _palette(colormap: NDArray[Any]) -> tuple[NDArray[np.uint8], list[str]]:
    """Colours of a map of 16 bits; where none exceeds 255, a program wrote 8 bits (as libtiff sees it, too)."""
    if colormap.max() > 255:
        return (colormap.T >> 8).astype(np.uint8), []
    return colormap.T.astype(np.uint8), ["palette of 8 bits"]

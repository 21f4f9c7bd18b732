"""Red, green and blue that lie in a TIFF as pages or planes of their own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from cytosae.cells.decoding.pixels import check_size
from cytosae.common.errors import InputError

JOINED = "channels put together as red, green, blue"
_COLOUR_NAME = re.compile(
    r"(?:(?:rgb|brightfield|bf|channel|ch|c)[\W_]*)?(?:(r)(?:ed)?|(g)(?:reen)?|(b)(?:lue)?)(?:[\W_]*channel)?"
)
_NO_NAME = re.compile(r"(?:[\W_\d]|channel|ch|c|image|slice|page|z|t)*")
_PRIMARIES: dict[tuple[int, ...], int] = {(255, 0, 0): 0, (0, 255, 0): 1, (0, 0, 255): 2}
_PAGE_NAME = 285
_NO_COLOURS = {(255, 255, 255), (0, 0, 0)}


def colour_channels(file: tifffile.TiffFile, page: Any, data: bytes) -> tuple[NDArray[Any] | None, list[str]]:
    """Channels put together where the file's metadata say, or do not deny, that they are the colours of one picture.

    Metadata are those of ImageJ, OME and tifffile (an axis of channels), and the names of pages. Three channels are
    colours unless their names, their colours or the mode "grayscale" tell another thing.

    Returns
    -------
    (H, W, 3) array as stored, or None where the page is all there is to read; and what to say.
    """
    if page.samplesperpixel > 1 or page is not file.pages.first or not (len(file.pages) > 2 or page.is_imagej):
        return None, []
    pages: Any = file.pages
    names = [str(one.tags.valueof(_PAGE_NAME, "")) for one in pages] if len(pages) == 3 else []
    if (order := _by_name(names)) is not None:
        return _planes(file, [(i,) for i in order], (3,), data), [JOINED]
    series = file.series[0]
    if "C" not in series.axes or page.index != 0:
        return None, []
    axis = series.axes.index("C")
    count, leading = series.shape[axis], series.shape[:-2]
    order = _order(file, count)
    if order is None or axis >= len(leading):
        return None, [f"first of {count} channels"] if count > 1 else []
    places = [tuple(channel if i == axis else 0 for i in range(len(leading))) for channel in order]
    return _planes(file, places, leading, data), [JOINED]


def _order(file: tifffile.TiffFile, count: int) -> list[int] | None:
    """Which channel is red, which green, which blue; None where they are no colours."""
    names, colours, mode = _told(file, count)
    if (order := _by_name(names)) is not None:
        return order
    if count != 3 or mode == "grayscale" or any(not _NO_NAME.fullmatch(name.lower()) for name in names):
        return None
    if all(colour in _NO_COLOURS for colour in colours):
        return [0, 1, 2]
    found = [_PRIMARIES.get(colour) for colour in colours]
    return [found.index(k) for k in range(3)] if set(found) == {0, 1, 2} else None


def _told(file: tifffile.TiffFile, count: int) -> tuple[list[str], list[tuple[int, ...]], str | None]:
    """Names and colours of the channels, and ImageJ's mode, as far as they are told."""
    if file.is_imagej:
        told = file.imagej_metadata or {}
        labels = [str(label) for label in told.get("Labels", [])][:count]
        return labels, [tuple(int(v) for v in lut[:, -1]) for lut in told.get("LUTs", [])], told.get("mode")
    xml = (file.ome_metadata or "").split("</Image>")[0].split("</Pixels>")[0]
    channels = re.findall(r"<(?:\w+:)?Channel\s([^>]*)>", xml)
    names = [found[1] for channel in channels if (found := re.search(r'\bName="([^"]*)"', channel))]
    codes = [int(found[1]) for channel in channels if (found := re.search(r'\bColor="(-?\d{1,11})"', channel))]
    return names, [tuple((code >> shift) & 255 for shift in (24, 16, 8)) for code in codes], None


def _by_name(names: Sequence[str]) -> list[int] | None:
    """Places of the names of red, green and blue where each occurs once."""
    found = [match.lastindex if (match := _COLOUR_NAME.fullmatch(name.strip().lower())) else None for name in names]
    return [found.index(k) for k in (1, 2, 3)] if all(found.count(k) == 1 for k in (1, 2, 3)) else None


def _planes(
    file: tifffile.TiffFile, places: Sequence[tuple[int, ...]], leading: tuple[int, ...], data: bytes
) -> NDArray[Any]:
    numbers = [int(np.ravel_multi_index(place, leading)) for place in places]
    pages: Any = file.series[0].pages if len(file.pages) != 3 else file.pages
    first = file.pages.first
    check_size(first.imagewidth * len(numbers), first.imagelength)
    if len(file.pages) > max(numbers):
        planes = [pages[number].asarray(maxworkers=1) for number in numbers]
    elif first.compression == 1 and first.dtype is not None:  # ImageJ describes large stacks by their first page alone
        shape, dtype = first.shape, first.dtype.newbyteorder(file.byteorder)
        start, size = first.dataoffsets[0], first.nbytes
        if start + size * (max(numbers) + 1) > len(data):
            raise InputError("truncated: image data are missing at the end of the file")
        planes = [np.frombuffer(data, dtype, first.size, start + size * number).reshape(shape) for number in numbers]
    else:
        raise InputError(f"a stack of which only {len(file.pages)} pages are there")
    return np.stack(planes, axis=-1)

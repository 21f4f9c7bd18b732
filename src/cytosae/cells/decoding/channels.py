"""Red, green and blue that lie in a TIFF as pages or planes of their own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tifffile

from cytosae.common.errors import InputError

JOINED = "channels put together as red, green, blue"
_COLOUR_NAME = re.compile(
    r"(?:.*[\W_])?(?:(red)|(green)|(blue))(?:[\W_]*channel)?[\W_]*|(?:(?:channel|ch|c)[\W_]*)?(?:(r)|(g)|(b))",
    re.DOTALL,
)
_NO_NAME = re.compile(r"[\W_\d]*(?:channel|ch|c|image|page)?[\W_\d]*")
_PRIMARIES: dict[tuple[int, ...], int] = {(255, 0, 0): 0, (0, 255, 0): 1, (0, 0, 255): 2}
_PAGE_NAME = 285
_NO_COLOURS = {(255, 255, 255), (0, 0, 0)}


def colour_channels(file: tifffile.TiffFile, page: Any) -> tuple[list[int], list[str]]:
    """Find channels that are, by the file's metadata, the colours of one picture.

    Metadata are those of ImageJ, OME and tifffile (an axis of channels), and the names of pages. Three channels are
    colours unless their names, their colours or the mode "grayscale" tell another thing.

    Parameters
    ----------
    file : TiffFile
        tifffile.TiffFile The open file.
    page : object
        tifffile.TiffPage Its picture.

    Returns
    -------
    tuple (list of int, list of str)
        List of int Numbers of the planes of the first series that are red, green and blue; none where the page is all
        to be read. list of str What to say.
    """
    described = page.is_imagej or page.is_ome
    if page.samplesperpixel > 1 or page is not file.pages.first or not (described or len(file.pages) > 2):
        return [], []
    pages: Any = file.pages
    names = [str(one.tags.valueof(_PAGE_NAME, "")) for one in pages] if len(pages) == 3 else []
    if (order := _by_name(names)) is not None:
        return order, [JOINED]
    series, told = file.series[0], _told(file)
    leading = series.axes.removesuffix("YX")
    count = dict(zip(series.axes, series.shape, strict=True)).get("C", 1)
    if told.count > count:
        raise InputError(f"{told.count} channels described and {count} there: the others are in other files or cut off")
    if "C" not in leading or leading == series.axes:
        return [], []
    axis, order = leading.index("C"), _order(told, count)
    if order is None:
        return [], [f"first of {count} channels"]
    places = np.arange(np.prod(series.shape[:-2])).reshape(series.shape[:-2])
    return np.moveaxis(places, axis, -1).reshape(-1, count)[0, order].tolist(), [JOINED]


@dataclass(frozen=True)
class _Told:
    """What ImageJ or OME say of the channels: how many, their names and colours, whether they are other things."""

    count: int
    names: list[str]
    colours: list[tuple[int, ...]]
    other: bool


def _told(file: tifffile.TiffFile) -> _Told:
    if file.is_imagej:
        told = file.imagej_metadata or {}
        count = int(told.get("channels", 1))
        labels = [str(label) for label in told.get("Labels", [])][:count]  # often names of files, which say nothing
        colours = [tuple(int(v) for v in lut[:, -1]) for lut in told.get("LUTs", [])]
        return _Told(count, labels, colours, other=told.get("mode") == "grayscale")
    xml = (file.ome_metadata or "").split("</Image>")[0].split("</Pixels>")[0]
    channels = re.findall(r"<(?:\w+:)?Channel\s([^>]*)>", xml)
    names = [found[1] for channel in channels if (found := re.search(r'\bName="([^"]*)"', channel))]
    codes = [int(found[1]) for channel in channels if (found := re.search(r'\bColor="(-?\d{1,11})"', channel))]
    colours = [tuple((code >> shift) & 255 for shift in (24, 16, 8)) for code in codes]
    stains = any(not _NO_NAME.fullmatch(name.strip().lower()[-80:]) for name in names)
    size = re.search(r'\bSizeC="(\d{1,9})"', xml)
    return _Told(int(size[1]) if size else 1, names, colours, other=stains)


def _order(told: _Told, count: int) -> list[int] | None:
    """Which channel is red, which green, which blue; None where they are no colours."""
    if (order := _by_name(told.names)) is not None:
        return order
    if count != 3 or told.other:
        return None
    if all(colour in _NO_COLOURS for colour in told.colours):
        return [0, 1, 2]
    found = [_PRIMARIES.get(colour) for colour in told.colours]
    return [found.index(k) for k in range(3)] if set(found) == {0, 1, 2} else None


def _by_name(names: Sequence[str]) -> list[int] | None:
    """Places of the names of red, green and blue where each occurs once."""
    matches = [_COLOUR_NAME.fullmatch(name.strip().lower()[-80:]) for name in names]
    found = [None if match is None else ((match.lastindex or 1) - 1) % 3 for match in matches]
    return [found.index(k) for k in range(3)] if all(found.count(k) == 1 for k in range(3)) else None

"""A picture that shows what goes wrong with it, and a TIFF writer for what no library writes."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

Tag = tuple[int, int, Sequence[Any]]
"""Number, type (3 short, 4 long, 5 rational, with pairs as values) and values."""
_FORMS = {3: "H", 4: "I", 5: "II"}


def picture(height: int = 40, width: int = 50) -> np.ndarray:
    """Smooth colours that differ between channels, corners and orientations; nearly black to nearly white."""
    y, x = np.mgrid[:height, :width] / max(height, width)
    bands = [145 + 110 * np.sin(3 * x + y), 120 + 100 * np.cos(4 * y), 60 + 190 * x * (1 - y)]
    return np.rint(np.stack(bands, axis=-1)).astype(np.uint8)


def grey(height: int = 40, width: int = 50) -> np.ndarray:
    return picture(height, width)[..., 0]


def rgb_of(values: np.ndarray) -> np.ndarray:
    return np.repeat(values[..., None], 3, axis=2)


def deep(image: np.ndarray, bits: int) -> np.ndarray:
    """8-bit values on the scale of more bits, in uint16."""
    return np.rint(image * (((1 << bits) - 1) / 255)).astype(np.uint16)


def worst(found: np.ndarray, right: np.ndarray) -> int:
    """Largest difference; shapes must agree."""
    assert found.shape == right.shape
    return int(np.abs(found.astype(int) - right).max())


def save_tiff(path: Path, data: np.ndarray, **options: Any) -> Path:
    tifffile.imwrite(path, data, **{"metadata": None, **options})
    return path


def packed(values: np.ndarray, bits: int) -> bytes:
    """Rows of integers as strings of bits, each row padded to bytes."""
    flags = (values[..., None] >> np.arange(bits - 1, -1, -1)) & 1
    return np.packbits(flags.astype(np.uint8).reshape(len(values), -1), axis=1).tobytes()


def write_tiff(path: Path, tags: Sequence[Tag], segments: Sequence[bytes], *, tiled: bool = False) -> Path:
    """A little-endian TIFF of one page, tag by tag, without its offsets and byte counts."""
    offsets, counts = (324, 325) if tiled else (273, 279)
    own = [(offsets, 4, [0] * len(segments)), (counts, 4, [len(segment) for segment in segments])]
    listed = sorted([*tags, *own])
    sizes = [struct.calcsize("<" + _FORMS[kind] * len(values)) for _, kind, values in listed]
    start = 14 + 12 * len(listed)
    place = start + sum(size for size in sizes if size > 4)
    entries, values_behind = b"", b""
    for (number, kind, values), size in zip(listed, sizes, strict=True):
        if number == offsets:
            values = place + np.cumsum([0, *map(len, segments[:-1])])
        flat = np.asarray(values).ravel().tolist()
        raw = struct.pack("<" + _FORMS[kind] * len(values), *flat)
        entries += struct.pack("<HHI", number, kind, len(values))
        entries += struct.pack("<I", start + len(values_behind)) if size > 4 else raw.ljust(4, b"\0")
        values_behind += raw if size > 4 else b""
    header = b"II*\0" + struct.pack("<IH", 8, len(listed))
    path.write_bytes(header + entries + b"\0" * 4 + values_behind + b"".join(segments))
    return path


def tags_of(height: int, width: int, bits: Sequence[int], photometric: int, *more: Tag) -> list[Tag]:
    """What every page has; one strip of all rows."""
    return [
        (256, 4, [width]),
        (257, 4, [height]),
        (258, 3, bits),
        (262, 3, [photometric]),
        (277, 3, [len(bits)]),
        *([] if any(tag in {278, 322} for tag, *_ in more) else [(278, 4, [height])]),
        *more,
    ]

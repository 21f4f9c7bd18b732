"""Samples of the formats that Pillow reads; what it would cut to 8 bits is read whole."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from PIL import Image, ImageOps

from cytosae.cells.decoding.pixels import TURNS, Samples, check_size
from cytosae.cells.decoding.tiff import is_srgb
from cytosae.common.errors import InputError

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "JPEG2000", "PPM")
"""What Pillow may try; TIFF goes to tifffile. Formats that start other programs (EPS) are left out on purpose."""
MODES: dict[str, tuple[str, int | None]] = {
    "1": ("MINISBLACK", None),
    "L": ("MINISBLACK", None),
    "I": ("MINISBLACK", None),
    "F": ("MINISBLACK", None),
    "I;16": ("MINISBLACK", None),
    "LA": ("MINISBLACK", 1),
    "RGB": ("RGB", None),
    "RGBA": ("RGB", 3),
}
"""Pillow's mode -> colour model and channel of the opacity; any other mode is made RGB."""
_SEPARATOR = rb"(?:\s|#[^\n]*\n)+"
_PNM = re.compile(rb"P([2356])" + _SEPARATOR + rb"(\d+)" + _SEPARATOR + rb"(\d+)" + _SEPARATOR + rb"(\d+)\s")
MAX_CHANNELS = 4
_CODESTREAM = re.compile(rb"\xff\x4f\xff\x51")
_JPEG, _JPEG_END = b"\xff\xd8", b"\xff\xd9"


def read_raster(data: bytes) -> Samples:
    """Read the first frame of a file of one of `FORMATS`."""
    try:
        return _read(data)
    except OSError as problem:
        if "truncated" not in str(problem) or not (whole := _with_its_end(data)):
            raise
        samples = _read(whole)
        return replace(samples, notes=(*samples.notes, "its end marker is missing"))


def _read(data: bytes) -> Samples:
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        check_size(*image.size)
        frames = getattr(image, "n_frames", 1)
        notes = [f"first page of {frames}"] if frames > 1 else []
        profile = image.info.get("icc_profile")
        if profile and not is_srgb(profile):
            notes.append("colour profile not applied")
        deep = DEEP.get(image.format or "", _no_samples)(data)
        if deep is not None:
            turn = TURNS.get(image.getexif().get(0x0112, 1) if b"eXIf" in data else 1, np.asarray)
            return replace(deep, values=turn(deep.values), notes=tuple(notes))
        image.seek(0)
        image.load()
        ImageOps.exif_transpose(image, in_place=True)
        return replace(_samples_of(image), notes=tuple(notes))


def _samples_of(image: Image.Image) -> Samples:
    if image.mode == "P":
        image.apply_transparency()
        colours = np.zeros((256, 4), np.uint8)
        held = np.array(image.getpalette("RGBA"), np.uint8).reshape(-1, 4)
        colours[: len(held)] = held
        opaque = (held[:, 3] == 255).all()
        return Samples(np.array(image), "PALETTE", palette=colours[:, :3] if opaque else colours)
    if image.mode not in {"LA", "RGBA"} and image.has_transparency_data:
        image = image.convert("RGBA")
    if image.mode not in MODES:
        image = image.convert("RGB")
    model, alpha = MODES[image.mode]
    return Samples(np.array(image), model, alpha)


def _no_samples(data: bytes) -> None:
    del data


def _deep_png(data: bytes) -> Samples | None:
    """All 16 bits of a PNG: Pillow keeps the upper eight of colours only."""
    if data[24] != 16:
        return None
    import imagecodecs  # few files need it

    with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
        image.load()  # refuses damage; imagecodecs miscounts its references to None at each, until Python aborts
    return _by_channels(imagecodecs.png_decode(data))


def _deep_jpeg2000(data: bytes) -> Samples | None:
    """JPEG 2000 of more than 8 bits; size and depth stand in the codestream (ISO 15444-1, A.5.1)."""
    deepest = 8
    for found in _CODESTREAM.finditer(data):
        header = data[found.start() : found.start() + 42 + 3 * MAX_CHANNELS]
        right, lower, left, upper = (int.from_bytes(header[at : at + 4], "big") for at in (8, 12, 16, 20))
        check_size(right - left, lower - upper)
        channels = int.from_bytes(header[40:42], "big")
        if channels > MAX_CHANNELS:
            raise InputError(f"{channels} channels; RGB is needed")
        deepest = max(deepest, *((bits & 0x7F) + 1 for bits in header[42 : 42 + 3 * channels : 3]))
    if deepest == 8:
        return None
    import imagecodecs  # few files need it

    return replace(_by_channels(imagecodecs.jpeg2k_decode(data)), full=(1 << deepest) - 1 if deepest < 16 else None)


def _deep_pnm(data: bytes) -> Samples | None:
    """PGM and PPM with a largest value above 255."""
    header = _PNM.match(data)
    if header is None or (full := int(header[4])) < 256:
        return None
    width, height, channels = int(header[2]), int(header[3]), 3 if header[1] in b"36" else 1
    count = width * height * channels
    if header[1] in b"56":
        if header.end() + 2 * count > len(data):
            raise InputError("truncated: image data are missing at the end of the file")
        values = np.frombuffer(data, ">u2", count, header.end()).astype(np.uint16)
    else:
        # a count would give numbers that nobody wrote, where there are too few
        values = np.fromstring(data[header.end() :], np.int32, sep=" ")[:count]
        if len(values) < count:
            raise InputError("truncated: image data are missing at the end of the file")
    return replace(_by_channels(values.reshape(height, width, channels)), full=full if full < 65535 else None)


DEEP: dict[str, Callable[[bytes], Samples | None]] = {
    "PNG": _deep_png,
    "JPEG2000": _deep_jpeg2000,
    "PPM": _deep_pnm,
}
"""Format -> what reads all of its bits, None where there are but eight."""


def _by_channels(values: np.ndarray) -> Samples:
    """Grey, grey and opacity, RGB, RGB and opacity: by the number of channels."""
    channels = values.shape[2] if values.ndim == 3 else 1
    return Samples(values, "RGB" if channels > 2 else "MINISBLACK", alpha=channels - 1 if channels in (2, 4) else None)


def _with_its_end(data: bytes) -> bytes | None:
    """A JPEG of which only the end marker is missing, with it.

    All of the picture is there if further data do not change it.
    """
    if not data.startswith(_JPEG):
        return None
    held = data.removesuffix(b"\xff")
    pictures = set()
    for more in (b"", b"\x55" * 64, b"\xaa" * 64, b"\xfe" * 64):
        with Image.open(io.BytesIO(held + more + _JPEG_END), formats=("JPEG",)) as image:
            pictures.add(image.tobytes())
    return held + _JPEG_END if len(pictures) == 1 else None

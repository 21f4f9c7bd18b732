"""Safe decoding: one image file to RGB bytes, or one sentence that says why not.

Size limits are checked against the header before anything is decoded, only raster formats that Pillow and tifffile
read by themselves are tried, and whatever a decoder throws becomes an `InputError` here.
"""

from __future__ import annotations

import hashlib
import io
import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageOps

from cytosae.cells.decoding.pixels import tiff_to_rgb, to_bytes
from cytosae.common.errors import InputError

MAX_PIXELS = 64_000_000
"""Largest width x height that is decoded; a larger claim is refused from the header alone."""
MAX_FILE_BYTES = 1 << 30
"""Largest file that is read into memory."""
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "JPEG2000", "PPM")
"""What Pillow may try; TIFF goes to tifffile. Formats that start other programs (EPS) are left out on purpose."""
SUFFIXES = frozenset(
    ".jpg .jpeg .jpe .jfif .png .tif .tiff .btf .tf2 .tf8 .bmp .dib .gif .webp .jp2 .j2k .pnm .pgm .ppm".split()  # noqa: SIM905
)
_TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_EXIF_TRANSPOSE = {
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a.swapaxes(0, 1)[:, ::-1],
    7: lambda a: a.swapaxes(0, 1)[::-1, ::-1],
    8: lambda a: a.swapaxes(0, 1)[::-1],
}


@dataclass(frozen=True)
class Probe:
    """What one fully decoded file turned out to be.

    Attributes
    ----------
    cell_id : SHA-256 (hex) of the file's bytes
    width, height : pixels, after rotation by EXIF
    notes : things a reader should know ("first page of 3"); empty when there is nothing to say
    """

    cell_id: str
    width: int
    height: int
    notes: tuple[str, ...]


def load_image(path: Path | str) -> NDArray[np.uint8]:
    """Decode a cell image.

    Alpha is composited on white, the first page of several is taken, EXIF rotation is applied, and values of more than
    8 bits are scaled by the rule of `cytosae.cells.decoding.pixels.to_bytes`.

    Returns
    -------
    (H, W, 3) uint8 array, RGB, C-contiguous.

    Raises
    ------
    InputError
        naming the file and the reason, where it cannot be decoded completely.
    """
    path = Path(path)
    with _sentences(path), quiet():
        return _decode(_read(path))[0]


def load_mask(path: Path | str) -> NDArray[np.uint8]:
    """Decode a mask: 0 background and other cells, 1 cytoplasm, 2 nucleus; values are returned as they are stored.

    Returns
    -------
    (H, W) uint8 array. A palette image gives its indices; colours are accepted only where all channels are equal.

    Raises
    ------
    InputError
        naming the file and the reason, where it is no such image.
    """
    path = Path(path)
    with _sentences(path), quiet():
        return _decode_mask(_read(path))


def probe(path: Path) -> Probe:
    """Hash and fully decode one image; `InputError` (the message is the bare reason) where that fails."""
    try:
        data = _read(path)
        image, notes = _decode(data)
    except Exception as problem:
        raise InputError(reason(problem)) from problem
    return Probe(hashlib.sha256(data).hexdigest(), image.shape[1], image.shape[0], tuple(notes))


def probe_mask(path: Path, shape: tuple[int, int]) -> str | None:
    """Say why the mask at ``path`` cannot serve an image of ``shape`` (height, width); None when it can."""
    try:
        mask = _decode_mask(_read(path))
    except Exception as problem:
        return reason(problem)
    if mask.shape != shape:
        return f"it is {mask.shape[1]} x {mask.shape[0]} px, the image {shape[1]} x {shape[0]}"
    return None


def reason(problem: BaseException) -> str:
    """One short line for whatever a decoder has thrown."""
    if isinstance(problem, InputError):
        return str(problem)
    if isinstance(problem, FileNotFoundError):
        return "file not found"
    if isinstance(problem, MemoryError):
        return "not enough memory to decode it"
    if isinstance(problem, Image.DecompressionBombError):
        return f"more pixels than the limit of {MAX_PIXELS:,}"
    if isinstance(problem, Image.UnidentifiedImageError):
        return "not an image that can be read (unknown content)"
    if isinstance(problem, OSError) and problem.strerror:
        return problem.strerror[0].lower() + problem.strerror[1:]
    text = " ".join(str(problem).split())[:160] or type(problem).__name__
    return f"damaged image ({text})"


_quiet_lock = threading.Lock()
_quiet_depth = 0
_quiet_saved: list = []


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the decoders' warnings and log lines from the user; what matters comes back as an error or a note.

    `warnings.catch_warnings` is not safe with threads, so the first to enter installs it and the last removes it.
    """
    global _quiet_depth
    logger = logging.getLogger("tifffile")
    with _quiet_lock:
        _quiet_depth += 1
        if _quiet_depth == 1:
            catcher = warnings.catch_warnings()
            catcher.__enter__()
            warnings.simplefilter("ignore")
            _quiet_saved[:] = [catcher, logger.disabled]
            logger.disabled = True
    try:
        yield
    finally:
        with _quiet_lock:
            _quiet_depth -= 1
            if _quiet_depth == 0:
                catcher, logger.disabled = _quiet_saved
                catcher.__exit__(None, None, None)


@contextmanager
def _sentences(path: Path) -> Iterator[None]:
    try:
        yield
    except Exception as problem:
        raise InputError(
            f"{path} cannot be opened: {reason(problem)}; restore the file or leave it out of the cells."
        ) from problem


def _read(path: Path) -> bytes:
    if path.is_dir():
        raise InputError("a folder, not a file")
    if path.exists() and not path.is_file():
        raise InputError("not a regular file")
    size = path.stat().st_size
    if size == 0:
        raise InputError("empty file (0 bytes)")
    if size > MAX_FILE_BYTES:
        raise InputError(f"file of {size / 2**30:.1f} GiB, more than the limit of {MAX_FILE_BYTES / 2**30:.0f} GiB")
    data = path.read_bytes()
    if data.startswith(b"version https://git-lfs"):
        raise InputError("a Git LFS pointer instead of the image (fetch it with `git lfs pull`)")
    return data


def _check_size(width: int, height: int) -> None:
    if width < 1 or height < 1:
        raise InputError(f"its header claims {width} x {height} pixels")
    if width * height > MAX_PIXELS:
        raise InputError(f"its header claims {width:,} x {height:,} pixels, more than the limit of {MAX_PIXELS:,}")


def _decode(data: bytes) -> tuple[NDArray[np.uint8], list[str]]:
    """Bytes of a file -> (H, W, 3) uint8 and notes."""
    if data.startswith(_TIFF_MAGIC):
        array, photometric, alpha, notes = _read_tiff(data)
        rgb, more = tiff_to_rgb(array, photometric, alpha)
        return np.ascontiguousarray(rgb), [*notes, *more]
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        _check_size(*image.size)
        pages = getattr(image, "n_frames", 1)
        notes = [f"first page of {pages}"] if pages > 1 else []
        image.seek(0)
        image.load()
        turned = ImageOps.exif_transpose(image)
        if data[:8] == b"\x89PNG\r\n\x1a\n" and data[24] == 16:
            array, more = to_bytes(_deep_png(data, turned, image))
            return np.ascontiguousarray(
                tiff_to_rgb(array, "RGB" if array.ndim == 3 else "MINISBLACK", "straight")[0]
            ), [
                *notes,
                *more,
            ]
        if turned.mode.startswith(("I", "F")):
            array, more = to_bytes(np.asarray(turned))
            return np.repeat(array[..., None], 3, axis=2), [*notes, *more]
        return _rgb(turned), notes


def _rgb(image: Image.Image) -> NDArray[np.uint8]:
    if image.has_transparency_data or image.mode in {"La", "RGBa"}:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return np.array(image.convert("RGB"), dtype=np.uint8)


def _deep_png(data: bytes, turned: Image.Image, image: Image.Image) -> NDArray:
    """All 16 bits of a PNG (Pillow keeps the upper eight of colours only), turned as its EXIF block says."""
    import imagecodecs

    array = np.asarray(imagecodecs.png_decode(data))
    orientation = image.getexif().get(0x0112, 1) if turned is not image else 1
    return _EXIF_TRANSPOSE[orientation](array) if orientation in _EXIF_TRANSPOSE else array


def _read_tiff(data: bytes) -> tuple[NDArray, str, str | None, list[str]]:
    """First page of a TIFF as (H, W) or (H, W, S), its photometric name, kind of alpha and notes."""
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        if not len(file.pages):
            raise InputError("a TIFF without a page")
        pages, page = len(file.pages), file.pages.first
        _check_size(page.imagewidth, page.imagelength)
        if page.imagedepth > 1 or page.samplesperpixel > 5:
            raise InputError(f"a TIFF of {page.samplesperpixel} channels and depth {page.imagedepth}; RGB is needed")
        for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False):
            if count == 0 or offset + count > len(data):
                raise InputError("truncated: image data are missing at the end of the file")
        if not page.dataoffsets:
            raise InputError("a TIFF without image data")
        array = page.asarray(maxworkers=1)
        if page.planarconfig == 2 and array.ndim == 3:
            array = np.moveaxis(array, 0, -1)
        photometric = getattr(page.photometric, "name", str(page.photometric))
        if photometric == "PALETTE" and page.colormap is not None:
            array, photometric = (page.colormap.T[array] >> 8).astype(np.uint8), "RGB"
        tag = page.tags.get(274)
        turn = _EXIF_TRANSPOSE.get(int(tag.value)) if tag is not None else None
        alpha = {1: "premultiplied", 2: "straight"}.get(int(page.extrasamples[0])) if page.extrasamples else None
    notes = [f"first page of {pages}"] if pages > 1 else []
    return (turn(array) if turn else array), photometric, alpha, notes


def _decode_mask(data: bytes) -> NDArray[np.uint8]:
    if data.startswith(_TIFF_MAGIC):
        array = _read_tiff(data)[0]
    else:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            _check_size(*image.size)
            turned = ImageOps.exif_transpose(image)
            array = np.asarray(turned)
    if array.ndim == 3 and not (array[..., :3] == array[..., :1]).all():
        raise InputError("a mask must be grey or have a palette, but it has colours")
    array = array[..., 0] if array.ndim == 3 else array
    if array.size and (array.min() < 0 or array.max() > 255):
        raise InputError("a mask must hold values from 0 to 255")
    return np.ascontiguousarray(array.astype(np.uint8))

"""Safe decoding: one image file to RGB bytes, or one sentence that says why not.

Size limits are checked against the header before anything is decoded, only raster formats that Pillow and tifffile
read by themselves are tried, and whatever a decoder throws becomes an `InputError` here.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cytosae.cells.decoding.masks import read_mask
from cytosae.cells.decoding.pixels import MAX_PIXELS, Bytes, Samples, to_rgb
from cytosae.cells.decoding.raster import read_raster
from cytosae.cells.decoding.tiff import MAGIC, read_tiff
from cytosae.common.errors import InputError

MAX_FILE_BYTES = 1 << 30
"""Largest file that is read into memory."""
SUFFIXES = frozenset(
    ".jpg .jpeg .jpe .jfif .png .tif .tiff .btf .tf2 .tf8 .bmp .dib .gif .webp .jp2 .j2k .pnm .pgm .ppm".split()  # noqa: SIM905
)


@dataclass(frozen=True)
class Probe:
    """What one fully decoded file turned out to be.

    Attributes
    ----------
    cell_id : str
        SHA-256 (hex) of the file's bytes.
    width, height : int
        Pixels, after rotation by EXIF.
    notes : tuple of str
        Things a reader should know ("first page of 3"); empty when there is nothing to say.
    """

    cell_id: str
    width: int
    height: int
    notes: tuple[str, ...]


def load_image(path: Path | str) -> NDArray[np.uint8]:
    """Decode a cell image.

    Alpha is composited on white, the first page of several is taken, EXIF rotation is applied, and values of more than
    8 bits are scaled by the rule of `cytosae.cells.decoding.pixels.to_bytes`.

    Parameters
    ----------
    path : Path or str
        The file.

    Returns
    -------
    ndarray of uint8, shape (H, W, 3)
        RGB, C-contiguous.

    Raises
    ------
    InputError
        Naming the file and the reason, where it cannot be decoded completely.
    """
    path = Path(path)
    with _sentences(path), quiet():
        return _decode(_read(path))[0]


def decode_image(data: bytes, name: str) -> NDArray[np.uint8]:
    """Decode the bytes of an image that lies in no file, as `load_image` does; ``name`` stands for it in the error."""
    with _sentences(Path(name)), quiet():
        return _decode(data)[0]


def load_mask(path: Path | str) -> NDArray[np.uint8]:
    """Decode a mask by the table of `cytosae.cells.decoding.masks`.

    Parameters
    ----------
    path : Path or str
        The file.

    Returns
    -------
    ndarray of uint8, shape (H, W)
        0 background and other cells, 1 cytoplasm, 2 nucleus, 3 a cell whose parts are not told apart.

    Raises
    ------
    InputError
        Naming the file and the reason, where it is no such image.
    """
    path = Path(path)
    with _sentences(path), quiet():
        return read_mask(_samples(_read(path)))[0]


def probe(path: Path) -> Probe:
    """Hash and fully decode one image; `InputError` (the message is the bare reason) where that fails."""
    try:
        data = _read(path)
        image, notes = _decode(data)
    except Exception as problem:
        raise InputError(reason(problem)) from problem
    return Probe(hashlib.sha256(data).hexdigest(), image.shape[1], image.shape[0], tuple(notes))


def probe_mask(path: Path, shape: tuple[int, int]) -> list[str]:
    """Read a mask for an image of ``shape`` (height, width): notes, or `InputError` (the bare reason) if it is none."""
    try:
        samples = _samples(_read(path))
        height, width = samples.values.shape[:2]
        if (height, width) != shape:
            raise InputError(f"it is {width} x {height} px, the image {shape[1]} x {shape[0]}")
        return read_mask(samples)[1]
    except Exception as problem:
        raise InputError(reason(problem)) from problem


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


def _decode(data: bytes) -> Bytes:
    rgb, notes = to_rgb(_samples(data))
    return np.ascontiguousarray(rgb), notes


def _samples(data: bytes) -> Samples:
    return read_tiff(data) if data.startswith(MAGIC) else read_raster(data)

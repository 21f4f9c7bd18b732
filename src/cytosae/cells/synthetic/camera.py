"""From dyes to a camera's picture: light through the dyes, focus, sharpening, noise and JPEG."""

from __future__ import annotations

import io
import math

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image

from cytosae.cells.synthetic.domains import Domain
from cytosae.cells.synthetic.fields import Field
from cytosae.cells.synthetic.streams import Stream

_STEPS = 512
"""Steps of the table of transmittances per unit of optical density."""
_DENSEST = 6


def _transmittances() -> Field:
    density = np.arange(_DENSEST * _STEPS + 1) / _STEPS
    # rounded: the last bit of an exponential depends on the processor
    return np.round(np.exp(-density), 6).astype(np.float32)


_TABLE = _transmittances()


def develop(canvas: Field, domain: Domain, stream: Stream, *, difficulty: float) -> NDArray[np.uint8]:
    """Picture of a canvas of dyes as a laboratory's camera shows it.

    Parameters
    ----------
    canvas : ndarray of float, shape (4, H, W)
        Amounts of purple, blue, pink, red.
    stream : Stream
        Of light, dyes, focus, noise and JPEG.
    difficulty : float
        0..1, strength of the variation of light, focus and noise from cell to cell.

    Returns
    -------
    ndarray of uint8, shape (H, W, 3)
        RGB.
    """
    size = canvas.shape[1]
    vary = 2 * difficulty
    picture = np.empty((3, *canvas.shape[1:]), dtype=np.float32)
    light = _light(size, stream("light"), vary)
    strength = [_STEPS * math.exp(0.03 * vary * z) for z in stream("dyes").standard_normal(4).tolist()]
    dyes = domain.dyes
    for channel in range(3):
        density = canvas[0] * np.float32(dyes[0][channel] * strength[0])
        for dye in range(1, 4):
            density += canvas[dye] * np.float32(dyes[dye][channel] * strength[dye])
        index = (density + np.float32(0.5)).astype(np.int32)
        transmittance = _TABLE.take(index, mode="clip")
        np.multiply(transmittance, light * np.float32(domain.glass[channel] / 255), out=picture[channel])
    sigma = domain.blur * math.exp(0.16 * vary * float(stream("focus").standard_normal())) * size / 128
    picture = blur(picture, sigma)
    if domain.sharpening:
        picture += np.float32(domain.sharpening) * (picture - blur(picture, 1.1 * size / 128))
    _add_noise(picture, stream("noise"), domain.noise * (0.6 + 0.8 * difficulty))
    pixels = np.rint(np.clip(picture, 0, 1) * np.float32(255)).astype(np.uint8)
    quality = int(np.clip(round(domain.jpeg - 12 * vary * stream("jpeg").uniform(0, 1)), 1, 95))
    return _compress(np.ascontiguousarray(pixels.transpose(1, 2, 0)), quality)


def _light(size: int, rng: Generator, vary: float) -> Field:
    """(H, W) uneven illumination around 1."""
    axis = ((np.arange(size, dtype=np.float32) + np.float32(0.5)) * np.float32(2 / size)) - 1
    slope = (0.02 * vary * rng.standard_normal(2)).astype(np.float32)
    level = np.float32(1 + 0.012 * vary * rng.standard_normal())
    fall = np.float32(0.02 * vary * rng.uniform())
    rows = level + slope[0] * axis - fall * axis * axis
    columns = slope[1] * axis - fall * axis * axis
    return rows[:, None] + columns[None, :]


def blur(picture: Field, sigma: float) -> Field:
    """Gaussian blur of (C, H, W) by ``sigma`` px, borders repeated; sums of float32 in one order, for equal bits."""
    reach = max(math.ceil(2.0 * sigma), 1)
    weights = [math.exp(-0.5 * (k / sigma) ** 2) if sigma > 0 else float(k == 0) for k in range(reach + 1)]
    whole = weights[0] + 2 * sum(weights[1:])
    kernel = [np.float32(round(w / whole, 6)) for w in weights]
    for axis in (1, 2):
        length = picture.shape[axis]
        padded = np.pad(picture, [(0, 0)] + [(reach, reach) if a == axis else (0, 0) for a in (1, 2)], mode="edge")
        cut = [slice(None)] * 3
        total = picture * kernel[0]
        for k in range(1, reach + 1):
            parts = []
            for at in (reach - k, reach + k):
                cut[axis] = slice(at, at + length)
                parts.append(padded[tuple(cut)])
            total += (parts[0] + parts[1]) * kernel[k]
        picture = total
    return picture


def _add_noise(picture: Field, rng: Generator, deviation: float) -> None:
    """Add noise of a triangular distribution, made of bytes, in place; part of it is shared by the channels."""
    shape = picture.shape
    dice = np.frombuffer(rng.bytes(2 * picture.size), dtype=np.uint8).reshape(2, *shape)
    own = dice[0].astype(np.int16) + dice[1]
    shared = own[0] - 255
    # the sum of two bytes has a standard deviation of 104.5
    scale = np.float32(deviation / 104.5)
    for channel in range(3):
        picture[channel] += ((own[channel] - 255) + shared) * (scale * np.float32(0.7))


def _compress(pixels: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    """What is left of an image after JPEG."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    with Image.open(file) as image:
        return np.asarray(image)

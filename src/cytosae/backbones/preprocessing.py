"""What happens to an image before a backbone sees it; it travels with the backbone into every artifact."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from cytosae.common.errors import InputError

_FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "nearest": Image.Resampling.NEAREST,
}


@dataclass(frozen=True)
class Preprocessing:
    """A plain resize to a square (no crop), scaling to [0, 1], and normalisation; call it with images.

    The resize is Pillow's, which smooths when it shrinks: what torchvision's `Resize` does to a PIL image, and so what
    the published code does. It maps the whole image to the square, whatever its proportions (Dasdelen et al. 2025).
    It is a small value of its own, and not a method of the network, so that worker processes get only it.

    Parameters
    ----------
    size : int
        Side of the square, pixels.
    mean, std : tuple of float
        Of the three channels, in units of [0, 1].
    interpolation : str
        Bilinear, bicubic, lanczos or nearest.
    """

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str = "bilinear"

    def __post_init__(self) -> None:
        if self.interpolation not in _FILTERS:
            raise InputError(f"Unknown interpolation {self.interpolation!r}; take one of {', '.join(_FILTERS)}.")
        if self.size < 1 or min(self.std) <= 0:
            raise InputError(
                f"Preprocessing needs a positive size and standard deviations, not {self.size}, {self.std}."
            )

    def __call__(self, images: Sequence[Any]) -> torch.Tensor:
        """Turn images into a batch.

        Parameters
        ----------
        images : sequence of object
            Sequence of PIL images (of any mode; converted to RGB) or uint8 arrays [H, W, 3], of any sizes.

        Returns
        -------
        Tensor, shape (B, 3, size, size), float32
            On the CPU.

        Raises
        ------
        InputError
            for anything else, naming its position in the sequence.
        """
        if isinstance(images, (Image.Image, np.ndarray)) and getattr(images, "ndim", 3) == 3:
            raise InputError("A sequence of images is wanted, not a single one; put it into a list.")
        batch = np.empty((len(images), self.size, self.size, 3), dtype=np.uint8)
        for i, image in enumerate(images):
            rgb = _to_rgb(image, i)
            batch[i] = np.asarray(rgb.resize((self.size, self.size), _FILTERS[self.interpolation]))
        values = torch.from_numpy(batch).permute(0, 3, 1, 2).to(torch.float32).div_(255)
        mean, std = torch.tensor(self.mean).view(3, 1, 1), torch.tensor(self.std).view(3, 1, 1)
        return values.sub_(mean).div_(std).contiguous()

    def describe(self) -> dict[str, Any]:
        """Return the fields as JSON-able values."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


def _to_rgb(image: Any, position: int) -> Image.Image:
    """Return a PIL image in mode RGB."""
    if isinstance(image, Image.Image):
        return image.convert("RGB")
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3:
        return Image.fromarray(image)
    found = f"{image.dtype} array {list(image.shape)}" if isinstance(image, np.ndarray) else type(image).__name__
    raise InputError(f"Image {position} of the batch is a {found}; give a PIL image or a uint8 array [H, W, 3].")

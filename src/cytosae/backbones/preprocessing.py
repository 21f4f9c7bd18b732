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
    """A plain resize (no crop), scaling to [0, 1], and normalisation; call it with images.

    The resize is Pillow's, which smooths when it shrinks: what torchvision's `Resize` does to a PIL image, and so what
    the published code does. It maps the whole image to the size, whatever the proportions of either (Dasdelen et al.
    2025), so that the grid of patches covers the whole image.
    It is a small value of its own, and not a method of the network, so that worker processes get only it.

    Parameters
    ----------
    size : int or tuple of int
        Pixels: the side of a square, or height and width.
    mean, std : tuple of float
        Of the three channels, in units of [0, 1].
    interpolation : str
        Bilinear, bicubic, lanczos or nearest.
    """

    size: int | tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str = "bilinear"

    def __post_init__(self) -> None:
        if self.interpolation not in _FILTERS:
            raise InputError(f"Unknown interpolation {self.interpolation!r}; take one of {', '.join(_FILTERS)}.")
        if len(self.shape) != 2 or min(self.shape) < 1 or min(self.std) <= 0:
            raise InputError(
                f"Preprocessing needs a positive size and standard deviations, not {self.size}, {self.std}."
            )
        if self.shape[0] == self.shape[1]:
            object.__setattr__(self, "size", self.shape[0])  # one size is said in one way

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width, pixels."""
        return self.size if isinstance(self.size, tuple) else (self.size, self.size)

    def __call__(self, images: Sequence[Any]) -> torch.Tensor:
        """Turn images into a batch.

        Parameters
        ----------
        images : sequence of object
            Sequence of PIL images (of any mode; converted to RGB) or uint8 arrays [H, W, 3], of any sizes.

        Returns
        -------
        Tensor, shape (B, 3, H, W), float32
            On the CPU.

        Raises
        ------
        InputError
            for anything else, naming its position in the sequence.
        """
        if isinstance(images, (Image.Image, np.ndarray)) and getattr(images, "ndim", 3) == 3:
            raise InputError("A sequence of images is wanted, not a single one; put it into a list.")
        height, width = self.shape
        batch = np.empty((len(images), height, width, 3), dtype=np.uint8)
        for i, image in enumerate(images):
            rgb = _to_rgb(image, i)
            batch[i] = np.asarray(rgb.resize((width, height), _FILTERS[self.interpolation]))
        values = torch.from_numpy(batch).permute(0, 3, 1, 2).to(torch.float32).div_(255)
        mean, std = torch.tensor(self.mean).view(3, 1, 1), torch.tensor(self.std).view(3, 1, 1)
        return values.sub_(mean).div_(std).contiguous()

    def describe(self) -> dict[str, Any]:
        """Return the fields as JSON-able values."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


def refuse_other_shape(batch: torch.Tensor, preprocessing: Preprocessing, name: str) -> None:
    """Raise `InputError` for a batch that the preprocessing of the backbone ``name`` has not made."""
    if batch.ndim != 4 or tuple(batch.shape[1:]) != (3, *preprocessing.shape):
        height, width = preprocessing.shape
        raise InputError(
            f"Backbone {name} takes batches [B, 3, {height}, {width}], not {list(batch.shape)}; use its prepare()."
        )


def _to_rgb(image: Any, position: int) -> Image.Image:
    """Return a PIL image in mode RGB."""
    if isinstance(image, Image.Image):
        return image.convert("RGB")
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3:
        return Image.fromarray(image)
    found = f"{image.dtype} array {list(image.shape)}" if isinstance(image, np.ndarray) else type(image).__name__
    raise InputError(f"Image {position} of the batch is a {found}; give a PIL image or a uint8 array [H, W, 3].")

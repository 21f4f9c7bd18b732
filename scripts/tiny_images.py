"""The images that the bundled backbone learns from: packed once, then cropped and stained anew for every view."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from PIL import Image
from torch import Tensor

from cytosae.cells.synthetic import DOMAINS, TYPES, draw_cell
from cytosae.cells.synthetic.domains import vary_domain

SOURCES = (
    "acevedo/PBC_dataset_normal_DIB/*/*.jpg",
    "acevedo_more/images/*/*.webp",
    "bccd_cells/images/*/*.png",
)
STORED = 224  # pixels at which images are packed: what acevedo_more has
SYNTHETIC_SEED = 7


class Cells:
    """Training images, packed in files and mapped from them: `cells[numbers]` is uint8 [B, 3, 224, 224]."""

    def __init__(self, *parts: np.ndarray) -> None:
        self.parts = parts
        self.starts = np.cumsum([0, *map(len, parts)])

    @classmethod
    def pack(cls, data: Path, folder: Path, synthetic: int = 0) -> Cells:
        """All real cells under `data`, and so many drawn ones; packed in `folder` where that was not yet done."""
        paths = sorted(path for pattern in SOURCES for path in data.glob(pattern))
        if not paths:
            raise SystemExit(f"no training images under {data}: expected {', '.join(SOURCES)}")
        names = [str(path.relative_to(data)) for path in paths]
        parts = [pack_images(map(Image.open, paths), names, folder / "cells.npy")]
        if synthetic:
            names = [f"drawn {i}" for i in range(synthetic)]
            parts.append(pack_images(drawn_images(synthetic), names, folder / f"drawn-{synthetic}.npy"))
        return cls(*parts)

    def __len__(self) -> int:
        return int(self.starts[-1])

    def __getitem__(self, numbers: Tensor) -> Tensor:
        part = np.searchsorted(self.starts, numbers.numpy(), side="right") - 1
        rows = zip(part, numbers.numpy() - self.starts[part], strict=True)
        return torch.from_numpy(np.stack([self.parts[p][i] for p, i in rows]))


def pack_images(images: Iterator[Image.Image], names: list[str], file: Path) -> np.ndarray:
    """Images, plainly resized: uint8 [N, 3, 224, 224], mapped from `file`; their names are written beside it.

    A file of other names is made anew.
    """
    listing, beside = "\n".join(names), file.with_suffix(".txt")
    if not (file.exists() and beside.exists() and beside.read_text() == listing):
        file.parent.mkdir(parents=True, exist_ok=True)
        shape = (len(names), 3, STORED, STORED)
        packed = np.lib.format.open_memmap(file.with_suffix(".part"), mode="w+", dtype=np.uint8, shape=shape)
        for i, image in enumerate(images):
            with image:
                small = image.convert("RGB").resize((STORED, STORED), Image.Resampling.BILINEAR)
            packed[i] = np.asarray(small).transpose(2, 0, 1)
        packed.flush()
        file.with_suffix(".part").replace(file)
        beside.write_text(listing)
    return np.load(file, mmap_mode="r")


def drawn_images(n: int) -> Iterator[Image.Image]:
    """``n`` cells of the generator: types and laboratories in turn, each cell from a seed of its own."""
    pairs = itertools.cycle(itertools.product(TYPES, DOMAINS.values()))
    for i, (name, domain) in enumerate(itertools.islice(pairs, n)):
        rng = np.random.default_rng([SYNTHETIC_SEED, i])
        yield Image.fromarray(draw_cell(name, vary_domain(domain, rng, 1.0), rng).image)


def uniform(shape: tuple[int, ...], low: float, high: float, rng: torch.Generator) -> Tensor:
    """Uniform random numbers in [low, high)."""
    return torch.rand(shape, generator=rng) * (high - low) + low


def random_crops(images: Tensor, size: int, widest: float, rng: torch.Generator) -> Tensor:
    """Random resized, rotated and flipped crops: uint8 [B, 3, S, S] -> float32 [B, 3, size, size] in [0, 1]."""
    n = len(images)
    side = uniform((n,), 0.3, widest + 0.1, rng).clamp(max=widest).sqrt()  # some are the whole image, as in use
    ratio = torch.exp(uniform((n,), -0.15, 0.15, rng))
    sx, sy = side * ratio, side / ratio
    flip = torch.where(torch.rand(n, generator=rng) < 0.5, -1.0, 1.0)
    quarter = torch.randint(4, (n,), generator=rng) * (math.pi / 2)
    free = torch.where(
        torch.rand(n, generator=rng) < 0.5, uniform((n,), -math.pi / 4, math.pi / 4, rng), torch.zeros(n)
    )
    angle = quarter + free
    cx, cy = uniform((n,), -1, 1, rng) * (1 - side), uniform((n,), -1, 1, rng) * (1 - side)
    cos, sin = angle.cos(), angle.sin()
    theta = torch.stack(
        [torch.stack([cos * sx * flip, -sin * sy, cx], 1), torch.stack([sin * sx * flip, cos * sy, cy], 1)], 1
    )
    grid = F.affine_grid(theta, [n, 3, size, size], align_corners=False)
    return F.grid_sample(images.float() / 255, grid, padding_mode="reflection", align_corners=False).clamp(0, 1)


@dataclass(frozen=True)
class Stain:
    """How another laboratory would have pictured the same crops: random numbers, one row a crop."""

    mix: Tensor  # [B, 3, 3] of optical densities: stain
    tint: Tensor  # [B, 3, 1] optical density of the background
    turn: Tensor  # [B, 3, 3] hue and saturation
    gamma: Tensor  # [B, 1, 1, 1], as all below
    contrast: Tensor
    brightness: Tensor
    blur: Tensor
    noise: Tensor


def draw_stain(n: int, strength: float, rng: torch.Generator) -> Stain:
    """Draw the changes of stain, camera and focus for n crops; strength 0 is no change of colour."""

    def normal(*shape: int) -> Tensor:
        return strength * torch.randn(n, *shape, generator=rng)

    gain = torch.exp(0.25 * normal(1, 1) + 0.12 * normal(3, 1))
    saturation = torch.exp(0.35 * normal(1, 1))
    saturation[torch.rand(n, generator=rng) < 0.1 * strength] = 0.0
    # rotation about the grey axis k = (1, 1, 1) / sqrt 3 (Rodrigues), which leaves the mean of the channels alone
    angle = 0.5 * normal(1, 1).clamp(-2, 2)
    cross = torch.tensor([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]]) / math.sqrt(3)
    grey = torch.full((3, 3), 1 / 3)
    colours = angle.cos() * (torch.eye(3) - grey) + angle.sin() * cross
    return Stain(
        mix=(torch.eye(3) + 0.12 * normal(3, 3)) * gain,
        tint=0.12 * normal(3, 1).clamp(min=-1),
        turn=grey + saturation * colours,
        gamma=torch.exp(0.25 * normal(1, 1, 1)),
        contrast=torch.exp(0.2 * normal(1, 1, 1)),
        brightness=0.08 * normal(1, 1, 1),
        blur=uniform((n, 1, 1, 1), -1.0, 1.0, rng).clamp(min=0),
        noise=uniform((n, 1, 1, 1), -0.03, 0.03, rng).clamp(min=0),
    )


def apply_stain(x: Tensor, stain: Stain, noise: Tensor) -> Tensor:
    """Change stain (in optical density: Beer-Lambert), camera and focus of [B, 3, H, W] in [0, 1]."""
    density = -torch.log(x.clamp(min=1 / 255)).flatten(2)
    x = torch.exp(-(torch.bmm(stain.mix, density) + stain.tint)).clamp(1e-3, 1)
    x = torch.bmm(stain.turn, x).view_as(noise).clamp(1e-3, 1)
    x = torch.exp(torch.log(x) * stain.gamma)
    x = (x - 0.5) * stain.contrast + 0.5 + stain.brightness
    blurred = F.interpolate(F.avg_pool2d(x, 2), size=x.shape[-2:], mode="bilinear", align_corners=False)
    return (x + stain.blur * (blurred - x) + stain.noise * noise).clamp(0, 1)

"""A backbone small enough for tests, and images to feed it; also imported by child processes."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from cytosae.cells import CellTable


class StubBackbone(torch.nn.Module):
    """Linear projection of 4 x 4 pixel patches of a 16 x 16 image; CLS is the mean of the patches."""

    name, width, grid, n_tokens, block, depth = "stub", 8, (4, 4), 17, -2, 2

    def __init__(self, seed: int = 0, gain: float = 1.0, delay: float = 0.0) -> None:
        super().__init__()
        self.preprocessing = {"size": 16}
        weight = torch.randn(48, self.width, generator=torch.Generator().manual_seed(seed)) * gain
        self.weight = torch.nn.Parameter(weight, requires_grad=False)
        self.delay = delay
        self.seen: list[int] = []

    @property
    def weights_hash(self) -> str:
        return hashlib.sha256(self.weight.numpy().tobytes()).hexdigest()

    @property
    def device(self) -> torch.device:
        return self.weight.device

    def describe(self) -> dict:
        return {"name": self.name, "block": self.block, "preprocessing": self.preprocessing}

    def prepare(self, images) -> torch.Tensor:
        pixels = np.stack([np.asarray(Image.fromarray(np.asarray(image)).resize((16, 16))) for image in images])
        return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        time.sleep(self.delay)
        self.seen.append(len(batch))
        return self.tokens(batch)

    def tokens(self, batch: torch.Tensor) -> torch.Tensor:
        patches = batch.unfold(2, 4, 4).unfold(3, 4, 4).permute(0, 2, 3, 1, 4, 5).reshape(len(batch), 16, 48)
        # Not a matrix product: its sums may depend on how many rows there are, and bytes are compared here.
        tokens = (patches.unsqueeze(-1) * self.weight).sum(2)
        return torch.cat([tokens.mean(1, keepdim=True), tokens], 1)


def write_images(folder: Path, n: int, seed: int = 0) -> None:
    """``n`` noisy 20 x 20 PNG images in two class folders."""
    rng = np.random.default_rng(seed)
    for label in ("a", "b"):
        (folder / label).mkdir(parents=True, exist_ok=True)
    for i in range(n):
        Image.fromarray(rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(folder / "ab"[i % 2] / f"{i:04d}.png")


def expected_tokens(cells: CellTable, backbone: StubBackbone) -> torch.Tensor:
    """Tokens of all cells, straight from the backbone."""
    images = [np.asarray(Image.open(cells.image_path(i)).convert("RGB")) for i in range(len(cells))]
    return backbone(backbone.prepare(images))


def content(store: Path) -> dict[str, bytes]:
    """Bytes of what a store consists of; the record says when it was made and is left out."""
    return {file.name: file.read_bytes() for file in sorted(store.iterdir()) if file.name != "artifact.json"}

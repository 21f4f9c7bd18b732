from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def picture(seed: int, height: int = 12, width: int = 16) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def put(tmp_path: Path) -> Callable[..., Path]:
    """Write a small image below tmp_path; the name's suffix chooses the format, each call another picture."""
    count = iter(range(10**6))

    def write(name: str, seed: int | None = None, mode: str = "RGB") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(next(count) if seed is None else 10**6 + seed)).convert(mode).save(path)
        return path

    return write

"""Backbones of other packages: found by their entry point, refused where they lack what is asked of a backbone."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from cytosae.backbones import load_backbone, runtimes
from cytosae.cells import read_cells
from cytosae.common.errors import UsageError
from cytosae.tokens import ExtractConfig, extract


class Foreign:
    """Mean colours of the four quarters of an image, by nobody's torch module."""

    weights_hash, block, width, n_tokens, grid = "0" * 64, 1, 3, 5, (2, 2)
    device = torch.device("cpu")

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    def prepare(self) -> Any:
        return prepare

    def __call__(self, batch: torch.Tensor) -> torch.Tensor:
        patches = torch.nn.functional.adaptive_avg_pool2d(batch, 2).flatten(2).transpose(1, 2)
        return torch.cat([patches.mean(1, keepdim=True), patches], 1)

    def to(self, _device: Any) -> Foreign:
        return self

    def describe(self) -> dict[str, Any]:
        return {"name": self.name, "block": self.block}


def prepare(images: Any) -> torch.Tensor:
    return torch.stack([torch.tensor(image).permute(2, 0, 1).float()[:, :8, :8] / 255 for image in images])


def load_foreign(model: str, _weights: Path | None, _block: int | None) -> Any:
    return SimpleNamespace(name=model) if model == "half" else Foreign(f"foreign:{model}")


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = EntryPoint("foreign", "unused", runtimes.GROUP)
    monkeypatch.setattr(EntryPoint, "load", lambda _self: load_foreign)

    def entry_points(*, group: str, name: str | None = None) -> list[EntryPoint]:
        assert group == "cytosae.backbones"
        return [entry] if name in (None, "foreign") else []

    monkeypatch.setattr(runtimes, "entry_points", entry_points)


@pytest.mark.usefixtures("installed")
def test_a_backbone_of_another_package_makes_tokens(smear: Path, tmp_path: Path) -> None:
    backbone = load_backbone("foreign:quarters")
    store = extract(read_cells(smear), backbone, tmp_path / "tokens", config=ExtractConfig(workers=0))
    assert (store.n_tokens, store.width, store.grid) == (5, 3, (2, 2))
    assert store.manifest["backbone"]["name"] == "foreign:quarters"


@pytest.mark.usefixtures("installed")
def test_half_a_backbone_is_refused() -> None:
    with pytest.raises(UsageError, match="is no backbone: it lacks weights_hash, block, width"):
        load_backbone("foreign:half")


@pytest.mark.usefixtures("installed")
def test_a_runtime_that_nobody_registered_names_those_that_are() -> None:
    with pytest.raises(UsageError, match=r"No runtime 'nobody' .*foreign, onnx, timm"):
        load_backbone("nobody:model")

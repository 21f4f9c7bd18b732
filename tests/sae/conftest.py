"""What the SAE tests share: tokens in memory with the face of a reader, tokens of a known dictionary, the reference."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Generator, Tensor


class Tokens(NamedTuple):
    tokens: Tensor
    positions: Tensor


class ArrayReader:
    """Reads tokens [N, d] from memory in an order that depends on the seed and the epoch; what `Trainer.fit` needs."""

    def __init__(self, tokens: Tensor, positions: Tensor | None = None, *, batch_tokens: int, seed: int = 0) -> None:
        self.tokens = tokens
        self.positions = torch.zeros(len(tokens), dtype=torch.int64) if positions is None else positions
        self.batch_tokens, self.seed, self.step = batch_tokens, seed, 0

    def __iter__(self) -> Iterator[Tokens]:
        return self

    def __next__(self) -> Tokens:
        batches = len(self.tokens) // self.batch_tokens
        epoch, i = divmod(self.step, batches)
        generator = Generator().manual_seed(1000 * self.seed + epoch)
        chosen = torch.randperm(len(self.tokens), generator=generator)[i * self.batch_tokens :][: self.batch_tokens]
        self.step += 1
        return Tokens(self.tokens[chosen], self.positions[chosen])

    def sample(self, n: int, seed: int) -> Tokens:
        chosen = torch.randperm(len(self.tokens), generator=Generator().manual_seed(seed))[:n]
        return Tokens(self.tokens[chosen], self.positions[chosen])

    def state_dict(self) -> dict[str, Any]:
        return {"step": self.step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.step = state["step"]


class Reference(NamedTuple):
    """`official_sae_small`: batches [121, 16, 17, 48], expected arrays by name, the log of each step."""

    batches: Tensor
    expected: dict[str, Tensor]
    trajectory: list[dict[str, float]]

    def weights(self, when: str) -> dict[str, Tensor]:
        return {name: self.expected[f"{when}_{name}"] for name in ("W_enc", "b_enc", "W_dec", "b_dec")}


@pytest.fixture(scope="session")
def reference(shared_reference: Path) -> Reference:
    folder = shared_reference / "official_sae_small"
    with np.load(folder / "batches.npz") as batches, np.load(folder / "expected.npz") as expected:
        (name,) = batches.files
        return Reference(
            torch.from_numpy(batches[name]),
            {key: torch.from_numpy(np.asarray(expected[key])) for key in expected.files},
            json.loads((folder / "trajectory.json").read_text(encoding="utf-8")),
        )


@pytest.fixture(scope="session")
def make_reader() -> type[ArrayReader]:
    return ArrayReader


@pytest.fixture(scope="session")
def make_tokens():
    """Function (n, d, seed) -> tokens [n, d] with correlated dimensions and an offset."""

    def make(n: int, d: int, seed: int = 0) -> Tensor:
        generator = Generator().manual_seed(seed)
        mixing = torch.randn(d, d, generator=generator) * torch.linspace(0.2, 2, d)
        return torch.randn(n, d, generator=generator) @ mixing + torch.randn(d, generator=generator)

    return make


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Small tensors are quicker on one thread, above all where the cores are shared."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)

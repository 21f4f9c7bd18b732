"""What the SAE tests share: whole fits on given batches, tokens of a known covariance, the reference."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from sae.readers import ArrayReader, InOrder
from torch import Generator, Tensor

from cytosae.sae import SparseAutoencoder, StepLog, TrainConfig, Trainer


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
def fit():
    """Function (sae, config, batches) -> log of every step of a whole fit on these batches in order."""

    def run(sae: SparseAutoencoder, config: TrainConfig, batches: Sequence[Tensor]) -> list[StepLog]:
        size = batches[0].numel() // batches[0].shape[-1]
        trainer, logs = Trainer(sae, replace(config, batch_tokens=size, decoder_bias="keep")), []
        step = trainer.runs[0].step
        trainer.runs[0].step = lambda x: logs.append(step(x)) or logs[-1]  # pyright: ignore
        trainer.fit(InOrder(batches))
        return logs

    return run


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

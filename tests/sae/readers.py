"""Tokens in memory with the face of a reader."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

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


class InOrder:
    """Reads batches [steps, N, d] or [steps, B, T, d] one after the other, after the last from the first again."""

    def __init__(self, batches: Sequence[Tensor]) -> None:
        self.batches, self.step = batches, 0

    def __next__(self) -> Tokens:
        self.step += 1
        return self._tokens(self.step - 1)

    def sample(self, n: int, seed: int) -> Tokens:
        return Tokens(*(part[:n] for part in self._tokens(0)))

    def state_dict(self) -> dict[str, Any]:
        return {"step": self.step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.step = state["step"]

    def _tokens(self, step: int) -> Tokens:
        batch = self.batches[step % len(self.batches)]
        positions = torch.arange(batch.shape[-2]) if batch.ndim == 3 else torch.zeros(1, dtype=torch.int64)
        tokens = batch.reshape(-1, batch.shape[-1])
        return Tokens(tokens, positions.repeat(len(tokens) // len(positions)))

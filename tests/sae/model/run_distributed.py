"""Runs under torchrun for ``test_distributed.py``: two gloo ranks train what the test then compares.

torchrun ... run_distributed.py FOLDER CASE...      reads FOLDER/tokens.npz, rank 0 writes FOLDER/CASE.npz
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from cytosae.sae import BatchTopK, JumpRelu, Matryoshka, ReluL1, SparseAutoencoder, TopK, TrainConfig, Trainer

D, M, STEPS = 16, 64, 30

SPARSITIES = {
    "relu_l1": ReluL1(l1_coefficient=3e-2),
    "ghost": ReluL1(l1_coefficient=3e-2),
    "topk": TopK(k=4, aux_k=8),
    "batch_topk": BatchTopK(k=4, aux_k=8),
    "matryoshka": Matryoshka(k=4, aux_k=8, prefixes=(0.25, 1.0)),
    "jump_relu": JumpRelu(l0_coefficient=1e-2, bandwidth=0.2, initial_threshold=0.05),
}


def make(name: str, **changes) -> tuple[SparseAutoencoder, TrainConfig]:
    """The SAE and configuration of a case, the same in every process."""
    sae = SparseAutoencoder(D, M, SPARSITIES[name], seed=1)
    with torch.no_grad():
        sae.b_enc[:: M // 8] = -6.0  # silent from the start on both halves, so that dead latents are revived
    changes = {"gradient_clip": 0.5, "decoder_bias": "mean", **changes}
    config = TrainConfig(
        steps=STEPS,
        learning_rate=1e-2,
        warmup_steps=5,
        dead_window=4,
        batch_tokens=64,
        checkpoint_every=5,
        ghost_gradients=name == "ghost",
        **changes,
    )
    return sae, config


class Batch(NamedTuple):
    tokens: torch.Tensor
    positions: torch.Tensor


class Reader:
    """Gives the batches in order; fails once at batch ``fails_at``, as a killed process would."""

    def __init__(self, batches: np.ndarray, fails_at: int | None = None) -> None:
        self.batches, self.fails_at, self.next = torch.from_numpy(batches), fails_at, 0

    def __next__(self) -> Batch:
        if self.next == self.fails_at:
            raise KeyboardInterrupt
        self.next += 1
        tokens = self.batches[self.next - 1]
        return Batch(tokens, torch.zeros(len(tokens), dtype=torch.int64))

    def sample(self, n: int, seed: int) -> Batch:
        tokens = self.batches.flatten(0, 1)[:n]
        return Batch(tokens, torch.zeros(len(tokens), dtype=torch.int64))

    def state_dict(self) -> dict[str, int]:
        return {"next": self.next}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.next = state["next"]


def train(trainer: Trainer, batches: np.ndarray) -> list[dict[str, float]]:
    """One step on each batch; the logs."""
    return [vars(trainer.step(torch.from_numpy(batch))) for batch in batches]


def save(path: Path, logs: list[dict[str, float]], sae: SparseAutoencoder) -> None:
    """Logs as JSON and weights by name."""
    weights = {name: tensor.detach().numpy() for name, tensor in sae.state_dict().items()}
    np.savez(path, logs=np.array(json.dumps(logs)), **weights)


def run(case: str, folder: Path) -> None:
    batches = np.load(folder / "tokens.npz")["batches"]
    kind, name = case.split("-")
    sae, config = make(name)
    if kind == "data":
        from cytosae.common.runtime import RuntimeConfig, make_fabric

        fabric = make_fabric(RuntimeConfig(device="cpu", devices=2))
        trainer = Trainer(sae, config, fabric=fabric)
        half = batches.shape[1] // 2
        logs = train(trainer, batches[:, half * fabric.global_rank : half * (fabric.global_rank + 1)])
        rank, whole = fabric.global_rank, sae
    elif kind == "resumed":
        from cytosae.sae.model.distributed import gather_latents, shard_latents

        with contextlib.suppress(KeyboardInterrupt):
            Trainer(shard_latents(sae), config, out=folder / case).fit(Reader(batches, fails_at=STEPS // 2 + 2))
        sae, config = make(name)
        result = Trainer(shard_latents(sae), config, out=folder / case).fit(Reader(batches))
        assert result.resumed_from == STEPS // 2
        logs, rank, whole = [], torch.distributed.get_rank(), gather_latents(sae)
    else:
        from cytosae.sae.model.distributed import gather_latents, shard_latents

        trainer = Trainer(shard_latents(sae), config)
        logs = train(trainer, batches)
        rank, whole = torch.distributed.get_rank(), gather_latents(sae)
    if rank == 0:
        save(folder / f"{case}.npz", logs, whole)


if __name__ == "__main__":
    torch.set_num_threads(1)
    for case in sys.argv[2:]:
        run(case, Path(sys.argv[1]))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
    sys.stdout.flush()
    os._exit(0)  # all is written; gloo's threads have been seen to abort a process that took itself down in order

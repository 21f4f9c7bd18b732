"""Peak memory of a training over that of the bare process; run it in a process of its own.

    python benchmarks/memory.py [D M N K]

The bare process has imported everything, compiled the kernels and done one step of a tiny SAE. What a training needs:
parameters and Adam's two moments (2 x 3 x 4 m d bytes), the encoder's bfloat16 copy (2 m d), and as little as possible
beside; the target for that is 300 MB. Initial weights are made during the measurement, too.
"""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path

import torch

from cytosae.sae import SparseAutoencoder, TopK, TrainConfig, Trainer

ALLOWED = 300e6


def train(d: int, m: int, n: int, k: int, steps: int = 3) -> None:
    sae = SparseAutoencoder(d, m, TopK(k=k, aux_k=0))
    trainer = Trainer(sae, TrainConfig(path="screened", batch_tokens=n))
    for seed in range(steps):
        trainer.step(torch.randn(n, d, generator=torch.Generator().manual_seed(seed)))


def peak() -> int:
    """Largest resident size so far, in bytes; Linux's own figure, since that of getrusage is inherited by a child."""
    status = Path("/proc/self/status")
    if status.is_file():
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM")) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main(d: int = 768, m: int = 49_152, n: int = 2_048, k: int = 32) -> None:
    train(32, 1024, 64, 4)
    bare = peak()
    train(d, m, n, k)
    used = peak() - bare
    needed = 2 * 3 * 4 * m * d + 2 * m * d
    result = {"bare": bare, "used": used, "needed": needed, "beside": used - needed, "allowed": ALLOWED}
    print(
        f"d = {d}, m = {m:,}, N = {n:,}: {used / 1e6:,.0f} MB over the bare process ({bare / 1e6:,.0f} MB) = "
        f"parameters, Adam's moments and the bfloat16 copy {needed / 1e6:,.0f} MB + {(used - needed) / 1e6:,.0f} MB "
        "(target 300 MB)."
    )
    print(json.dumps(result))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))

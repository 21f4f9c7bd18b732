"""Trains in forked children that are killed at random moments; run by `test_kill.py` in a process of its own.

``python kill_driver.py FOLDER KILLS SEED PATH`` prints one JSON line. Torch is imported once, and forked before it
starts threads.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch
from sae.readers import ArrayReader
from safetensors.torch import load_file, save_file
from torch import Generator

from cytosae.sae import BatchTopK, PositionMean, ReluL1, SparseAutoencoder, TrainConfig, Trainer
from cytosae.sae.screening.paths import Path as ScreeningPath

CONFIG = TrainConfig(
    learning_rate=1e-2,
    warmup_steps=5,
    steps=150,
    batch_tokens=32,
    dead_window=2,
    ghost_gradients=True,
    sample_tokens=128,
    checkpoint_every=3,
    keep_checkpoints=2,
    log_every=1,
)
POSITIONS = 4


def train(out: Path, path: ScreeningPath) -> None:
    saes = [
        SparseAutoencoder(8, 32, BatchTopK(3, aux_k=2), PositionMean(), seed=1),
        SparseAutoencoder(8, 24, ReluL1(1e-2), seed=2),
    ]
    tokens = torch.randn(256, 8, generator=Generator().manual_seed(0)).cumsum(1)
    reader = ArrayReader(tokens, torch.arange(POSITIONS).repeat(64), batch_tokens=32, seed=5)
    Trainer(saes, replace(CONFIG, path=path), out=out).fit(reader)
    weights = {f"{i}.{name}": t.contiguous() for i, sae in enumerate(saes) for name, t in sae.state_dict().items()}
    save_file(weights, out / "final.partial")
    (out / "final.partial").rename(out / "final.safetensors")


def child(out: Path, path: ScreeningPath) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        torch.set_num_threads(1)
        train(out, path)
    except BaseException as problem:
        sys.stderr.write(f"{problem!r}\n")
        os._exit(1)
    os._exit(0)


def finish(pid: int) -> None:
    _, status = os.waitpid(pid, 0)
    if status:
        raise SystemExit(f"a training failed with status {status}")


def killed(pid: int, after: float) -> bool:
    """Kill the child after so many seconds; False if it had ended by then."""
    time.sleep(after)
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    return os.WIFSIGNALED(status)


def same(first: Path, second: Path) -> bool:
    a, b = load_file(first / "final.safetensors"), load_file(second / "final.safetensors")
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def steps_of(out: Path) -> list[str]:
    return [line.split(",")[0] for line in (out / "metrics.csv").read_text().splitlines()[1:]]


def main(folder: Path, kills: int, seed: int, path: ScreeningPath) -> None:
    rng = random.Random(seed)
    undisturbed = folder / "undisturbed"
    began = time.monotonic()
    finish(child(undisturbed, path))
    duration = time.monotonic() - began
    done, equal, logs_equal, rounds = 0, True, True, 0
    while done < kills:
        disturbed = folder / f"disturbed-{rounds}"
        rounds += 1
        while done < kills and not (disturbed / "final.safetensors").exists():
            done += killed(child(disturbed, path), rng.uniform(0, duration / 8))
        finish(child(disturbed, path))
        equal &= same(undisturbed, disturbed)
        logs_equal &= steps_of(undisturbed) == steps_of(disturbed)
        shutil.rmtree(disturbed)
    sys.stdout.write(json.dumps({"kills": done, "equal": equal, "logs_equal": logs_equal, "trainings": rounds}) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])

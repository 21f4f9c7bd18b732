"""Runs for ``test_ranks.py`` in two processes, which Fabric or torchrun starts: what they say, and how they end."""

from __future__ import annotations

import atexit
import sys
from pathlib import Path

import torch

from cytosae.cli.output import Output
from cytosae.common import progress
from cytosae.common.runtime import RuntimeConfig, make_fabric

torch.set_num_threads(1)
progress.LINE_EVERY = 0.0
output = Output(as_json=False)
output.line("before they have met")
folder = Path(sys.argv[1])


def tell() -> None:  # runs last: what is registered first
    state = "in" if torch.distributed.is_initialized() else "out"
    (folder / f"rank-{fabric.global_rank}-of-{fabric.world_size}").write_text(state)


atexit.register(tell)
fabric = make_fabric(RuntimeConfig(device="cpu", devices=2))
with progress.progress("Working", 1, "things") as bar:
    bar.advance()
output.line("after they have met")
fabric.barrier()
assert torch.distributed.is_initialized()

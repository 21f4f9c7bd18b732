"""One trainer in a process of its own: does a step and says how long it took, each time it reads a line.

python worker.py NAME TOKENS.npy M K topk|relu THREADS cpu|cuda
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

import numpy as np
import torch
from steps import STEPS


def main(name: str, tokens: str, m: int, k: int, kind: str, threads: int, device: str) -> None:
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    x = torch.from_numpy(np.load(tokens)).to(device)
    try:
        step = STEPS[name](x, m, k, kind)
        for _ in range(2):  # compiles, allocates Adam's moments, fills caches
            step()
    except (LookupError, ImportError, TypeError, AttributeError) as problem:
        say({"cannot": f"{type(problem).__name__}: {problem}"})
        return
    say({"ready": True})
    for _ in sys.stdin:
        began, used = time.perf_counter(), time.process_time()
        l0 = step()  # a number, for which a GPU has to finish
        seconds, busy = time.perf_counter() - began, time.process_time() - used
        say({"seconds": seconds, "processor_seconds": busy, "l0": l0, "peak_gb": peak(x)})


def peak(x: torch.Tensor) -> float:
    """Largest resident size so far, or GPU memory, in GB; Linux's own figure: getrusage's is inherited by a child."""
    if x.is_cuda:
        return torch.cuda.max_memory_allocated() / 1e9
    status = Path("/proc/self/status")
    if status.is_file():
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM")) / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def say(answer: dict) -> None:
    print("@" + json.dumps(answer), flush=True)


if __name__ == "__main__":
    name, tokens, m, k, kind, threads, device = sys.argv[1:]
    main(name, tokens, int(m), int(k), kind, int(threads), device)

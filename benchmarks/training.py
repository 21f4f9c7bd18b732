"""Speed of training and encoding as ratios to this machine's own limits, everything alternating in one run.

    python benchmarks/training.py                     the sizes of the targets
    python benchmarks/training.py --growth            how cost grows with m, N, k and threads
    python benchmarks/training.py --tokens x.npy      on your own tokens (N, d) float32 instead of random ones

A ratio is the float32 product's time divided by that of the thing measured in the same round: above 1 means faster than
the wall that a dense trainer stands before. Printed are the median of the rounds and the range.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from cytosae.sae import ReluL1, SparseAutoencoder, TopK, TrainConfig, Trainer
from cytosae.sae.screening.paths import Path as Way
from cytosae.sae.screening.paths import Screening


@dataclass(frozen=True)
class Case:
    """Sizes of one comparison; l0 > 0 asks for a `ReluL1` with about so many active latents instead of TopK."""

    m: int
    n: int
    k: int
    d: int = 768
    l0: int = 0


TARGETS = (
    (Case(49_152, 2_048, 32), {"step, screened": 1.5, "encode, screened": 2.0, "step, blocks": 0.8}),
    (Case(49_152, 2_048, 0, l0=64), {"step, screened": 1.2}),
    (Case(6_144, 4_096, 32), {"step, screened": 1.0, "step, blocks": 0.7}),
)
GROWTH = tuple(
    (Case(m, n, k), {})
    for m, n, k in (
        (6_144, 2_048, 32), (12_288, 2_048, 32), (24_576, 2_048, 32), (49_152, 2_048, 32),
        (24_576, 512, 32), (24_576, 8_192, 32), (24_576, 2_048, 8), (24_576, 2_048, 128),
    )
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--growth", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=Path, help="an .npy file (N, d)")
    parser.add_argument(
        "--way", action="append", choices=["screened", "blocks", "dense"], help="by default the first two"
    )
    parser.add_argument(
        "--cpu-seconds", action="store_true", help="processor time, for a machine that is busy otherwise"
    )
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--case", type=int, action="append", help="number of a case, from 0")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    print(f"{_machine()}; torch {torch.__version__}, {torch.get_num_threads()} threads")
    cases = GROWTH if options.growth else TARGETS
    for i, (case, targets) in enumerate(cases):
        if not options.case or i in options.case:
            compare(case, targets, options)


def compare(case: Case, targets: dict[str, float], options: argparse.Namespace) -> None:
    """Measure one case and print its ratios."""
    tokens = _tokens(case, options.tokens)
    case = Case(case.m, len(tokens), case.k, tokens.shape[1], case.l0)
    work = _limits(case, tokens)
    ways: list[Way] = options.way or ["screened", "blocks"]
    clock = time.process_time if options.cpu_seconds else time.perf_counter
    for way in ways:
        work.update(_own(case, tokens, way))
    for call in work.values():  # compiles, fills caches
        call()
    laps: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(options.rounds):
        for name, call in work.items():
            start = clock()
            call()
            laps[name].append(clock() - start)
    kind = f"ReLU, L0 about {case.l0}" if case.l0 else f"TopK, k = {case.k}"
    print(f"\nm = {case.m:,}, N = {case.n:,}, d = {case.d}, {kind}; peak memory {_peak():.2f} GB")
    print(f"{'':24} {'seconds':>8} {'ratio to the float32 product':>30} {'target':>7}")
    for name, times in laps.items():
        ratios = [wall / t for wall, t in zip(laps["float32 product"], times, strict=True)]
        span = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        target = f"{targets[name]:.1f}" if name in targets else ""
        print(f"{name:24} {statistics.median(times):8.3f} {span:>30} {target:>7}")


def _limits(case: Case, tokens: torch.Tensor) -> dict[str, Callable[[], object]]:
    rows = torch.randn(case.m, case.d) / case.d**0.5
    out, low = torch.empty(case.n, case.m), torch.empty(case.n, case.m, dtype=torch.bfloat16)
    x16, rows16, copy = tokens.bfloat16(), rows.bfloat16(), torch.empty_like(rows)
    return {
        "float32 product": lambda: torch.mm(tokens, rows.T, out=out),
        "bfloat16 product": lambda: torch.mm(x16, rows16.T, out=low),
        "copy of the weights": lambda: copy.copy_(rows),
    }


def _own(case: Case, tokens: torch.Tensor, way: Way) -> dict[str, Callable[[], object]]:
    sparsity = ReluL1() if case.l0 else TopK(k=case.k, aux_k=0)
    sae = SparseAutoencoder(case.d, case.m, sparsity)
    with torch.no_grad():
        sae.W_enc.copy_(sae.W_dec.T)
        if case.l0:
            scores = tokens[:64] @ sae.W_enc
            sae.b_enc -= float(torch.quantile(scores.flatten()[::97], 1 - case.l0 / case.m))
    config = TrainConfig(path=way, batch_tokens=case.n, learning_rate=1e-5)
    trainer = Trainer(sae, config)
    reader = SparseAutoencoder(case.d, case.m, sparsity)
    reader.load_state_dict(sae.state_dict())
    reader.screening = Screening(way)
    return {f"step, {way}": lambda: trainer.step(tokens), f"encode, {way}": lambda: reader.encode_sparse(tokens)}


def _tokens(case: Case, path: Path | None) -> torch.Tensor:
    if path is None:
        return torch.randn(case.n, case.d, generator=torch.Generator().manual_seed(0))
    return torch.from_numpy(np.load(path)[: case.n].astype(np.float32)).contiguous()


def _machine() -> str:
    names = [
        line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith(("model name", "flags"))
    ]
    model = names[0].partition(":")[2].strip() if names else "unknown CPU"
    flags = names[1] if len(names) > 1 else ""
    return f"{model}, bfloat16 instructions: {'yes' if 'avx512_bf16' in flags or 'amx_bf16' in flags else 'no'}"


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


if __name__ == "__main__":
    main()

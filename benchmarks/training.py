"""Speed of training and encoding as ratios to this machine's own limits, targets beside measurements.

    python benchmarks/training.py                     the targets, on random and on real tokens
    python benchmarks/training.py --peers             also against published trainers (benchmarks/peers)
    python benchmarks/training.py --growth            also how cost grows with m, N, k and threads
    python benchmarks/training.py --memory            also the peak memory of a training in a process of its own
    python benchmarks/training.py --all               everything: what `make bench` runs
    python benchmarks/training.py --images DIR        real tokens of these cells instead of drawn ones
    python benchmarks/training.py --device cuda       on a GPU: the paper's batch, every path, no targets (--peers too)

Everything that is compared takes turns in one run; ratios are given as least, median and most. Real tokens are those of
the bundled backbone (192 numbers); for d = 768 four neighbouring patch tokens (2 x 2) are put side by side, which keeps
what makes real tokens hard: a few directions with most of the norm.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent / "peers"))
import compare as peers

from cytosae.backbones import load_backbone
from cytosae.cells import read_cells
from cytosae.evaluation import Speed, SpeedConfig, describe_machine, markdown, measure_speed, random_tokens
from cytosae.evaluation.speed import tuned_sae
from cytosae.sae import SparseAutoencoder, TrainConfig, Trainer, Whitening
from cytosae.sae.model.token_normalisation import Normaliser
from cytosae.tokens import ExtractConfig, extract

MEMORY = Path(__file__).with_name("memory.py")


@dataclass(frozen=True)
class Case:
    """One comparison of the targets.

    ``limits`` are targets relative to the float32 product, ``peers`` how many times as fast as a peer, ``kind`` what
    peers are to train.
    """

    name: str
    speed: SpeedConfig
    limits: dict[str, float]
    kind: str
    peers: dict[str, float] = field(default_factory=dict)


WAYS = ("screened", "blocks")
CASES = (
    Case(
        "TopK, wide",
        SpeedConfig(m=49_152, n=2_048, k=32, paths=WAYS),
        {"step, screened": 1.5, "encode, screened": 2.0, "step, blocks": 0.8},
        "topk",
        {"eai-sparsify": 5, "overcomplete": 10, "sae-lens": 10},
    ),
    Case(
        "ReLU with L1, wide",
        SpeedConfig(m=49_152, n=2_048, k=64, variant="ReluL1", paths=("screened",)),
        {"step, screened": 1.2},
        "relu",
        {"sae-lens": 6, "overcomplete": 6, "published CytoSAE step": 6},
    ),
    Case(
        "TopK, narrow",
        SpeedConfig(m=6_144, n=4_096, k=32, paths=WAYS),
        {"step, screened": 1.0, "step, blocks": 0.7},
        "topk",
        {"eai-sparsify": 3},
    ),
)
EVERY = ("screened", "blocks", "dense")
ON_GPU = (
    Case("TopK, wide", SpeedConfig(m=49_152, n=16_384, k=32, paths=EVERY), {}, "topk"),
    Case("ReLU with L1, wide", SpeedConfig(m=49_152, n=16_384, k=64, variant="ReluL1", paths=EVERY), {}, "relu"),
    Case("TopK, narrow", SpeedConfig(m=6_144, n=16_384, k=32, paths=EVERY), {}, "topk"),
)
GPU_PEERS = {"topk": ("eai-sparsify", "overcomplete"), "relu": ("overcomplete", "published CytoSAE step")}
MIDDLE = SpeedConfig(m=24_576, n=2_048, k=32, paths=("screened",))
GROWTH = (
    *(replace(MIDDLE, m=m) for m in (6_144, 12_288, 24_576, 49_152)),
    *(replace(MIDDLE, n=n) for n in (512, 8_192)),
    *(replace(MIDDLE, k=k) for k in (8, 128)),
    replace(MIDDLE, threads=1),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("all", "peers", "growth", "memory", "no-real", "cpu-seconds"):
        parser.add_argument(f"--{name}", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peer-rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=40, help="of training before tokens are measured again")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--images", type=Path, default=Path("../shared/data/apl_cohort"), help="folder of real cells")
    parser.add_argument("--shrink", type=int, default=1, help="divide m and N, to see whether everything runs")
    chosen = parser.parse_args()
    if chosen.threads:
        torch.set_num_threads(chosen.threads)
    print(f"Machine: {describe_machine()}\n")
    bench = Bench(chosen)
    rates = bench.targets()
    if not chosen.no_real and chosen.device == "cpu":
        bench.real_tokens()
    if chosen.all or chosen.peers:
        bench.against_peers()
    if chosen.all or chosen.memory:
        bench.memory()
    if chosen.all or chosen.growth:
        bench.growth()
    estimates(rates, chosen.shrink)
    if bench.verdicts:
        print_verdicts(bench.verdicts)


def print_verdicts(verdicts: list[tuple[str, float, float]]) -> None:
    print("\n## Targets beside what was measured (medians)\n\n| target | wanted | measured | |\n|---|---|---|---|")
    for what, wanted, found in verdicts:
        print(f"| {what} | {wanted:g} | {found:.2f} | {'met' if found >= wanted else 'missed'} |")


class Bench:
    """Runs the parts and remembers how targets were met."""

    def __init__(self, chosen: argparse.Namespace) -> None:
        self.chosen = chosen
        self.clock: Callable[[], float] = time.process_time if chosen.cpu_seconds else time.perf_counter
        self.verdicts: list[tuple[str, float, float]] = []
        self.cases = ON_GPU if chosen.device == "cuda" else CASES

    def targets(self) -> dict[str, float]:
        """Our own speed on random tokens; tokens/s of the whole step by case."""
        rates = {}
        for case in self.cases:
            speed = self.speed(case.speed)
            print(f"## {case.name}, random tokens\n\n{markdown(speed, case.limits)}\n", flush=True)
            self.judge(f"{case.name}, random tokens", case.limits, speed)
            rates[case.name] = (
                speed.config.n / sorted(speed.lap("step, screened").seconds)[len(speed.laps[0].seconds) // 2]
            )
        return rates

    def real_tokens(self) -> None:
        """Our own speed on tokens of the bundled backbone, raw and normalised, before and after some training."""
        raw, positions = side_by_side(cell_tokens(self.chosen.images))
        for kind, stream in (("raw", raw), ("whitened", whitened(raw, positions))):
            for case in CASES:
                config = replace(self.sized(case.speed), paths=("screened",), rounds=min(self.chosen.rounds, 3))
                limits = {name: aim for name, aim in case.limits.items() if "screened" in name}
                for when, sae in (("before", None), ("after", trained(config, stream, self.chosen.steps))):
                    speed = measure_speed(config, tokens=stream[: config.n], sae=sae, clock=self.clock)
                    title = f"{case.name}, real tokens, {kind}, {when} {self.chosen.steps} steps of training"
                    print(f"## {title}\n\n{markdown(speed, limits)}\n", flush=True)
                    self.judge(title, limits, speed)

    def against_peers(self) -> None:
        clock = "processor_seconds" if self.chosen.cpu_seconds else "seconds"
        for case in self.cases:
            config = self.sized(case.speed)
            x = random_tokens(config.n, config.d).numpy()
            rounds, threads = self.chosen.peer_rounds, torch.get_num_threads()
            names = GPU_PEERS[case.kind] if config.device == "cuda" else peers.PEERS
            how = {"rounds": rounds, "threads": threads, "device": config.device, "peers": names}
            found = list(peers.compare(x, m=config.m, k=config.k, kind=case.kind, **how))
            print(f"## {case.name}, peers (m = {config.m:,}, N = {config.n:,})\n")
            print(f"{peers.table(found, config.n, clock)}\n", flush=True)
            for comparison in found:
                if comparison.peer in case.peers and not comparison.cannot:
                    title = f"{case.name}: times as fast as {comparison.peer}"
                    median = statistics.median(comparison.ratios(clock))
                    self.verdicts.append((title, case.peers[comparison.peer], median))

    def memory(self) -> None:
        config = self.sized(CASES[0].speed)
        command = [sys.executable, str(MEMORY), str(config.d), str(config.m), str(config.n), str(config.k)]
        print("## Peak memory\n\n" + subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    def growth(self) -> None:
        print("## Growth with m, N, k and threads\n")
        print("| m | N | k | threads | float32 product, s | step, s | step, us a token | ratio | candidates |")
        print("|---|---|---|---|---|---|---|---|---|")
        for wanted in GROWTH:
            speed = self.speed(wanted, rounds=3)
            c, step, wall = speed.config, speed.lap("step, screened"), speed.laps[0]
            seconds, product = (statistics.median(lap.seconds) for lap in (step, wall))
            print(
                f"| {c.m:,} | {c.n:,} | {c.k} | {speed.machine.threads} | {product:.3f} | {seconds:.3f} "
                f"| {seconds / c.n * 1e6:.0f} | {step.ratio[0]:.2f} | {speed.candidates['screened']:.0f} |",
                flush=True,
            )

    def speed(self, config: SpeedConfig, rounds: int = 0) -> Speed:
        return measure_speed(replace(self.sized(config), rounds=rounds or self.chosen.rounds), clock=self.clock)

    def sized(self, config: SpeedConfig) -> SpeedConfig:
        shrink = self.chosen.shrink
        sizes = {"m": config.m // shrink, "n": config.n // shrink}
        return replace(config, **sizes, rounds=self.chosen.rounds, device=self.chosen.device)

    def judge(self, title: str, limits: dict[str, float], speed: Speed) -> None:
        self.verdicts += [(f"{title}: {name}", aim, speed.lap(name).ratio[0]) for name, aim in limits.items()]


def cell_tokens(images: Path, cells: int = 256) -> Tensor:
    """Patch tokens (cells, side, side, 192) of the bundled backbone; cells are drawn where there are no images."""
    with tempfile.TemporaryDirectory() as folder:
        if not images.is_dir():
            from cytosae.cli.demonstration import WHOLE

            images = WHOLE.draw(Path(folder) / "smear")
            print("(no folder of real cells: tokens of drawn ones)")
        table = read_cells(images)
        rows = np.random.default_rng(0).permutation(len(table))[:cells]
        config = ExtractConfig(dtype="bfloat16", workers=0)
        store = extract(table.subset(rows), load_backbone("tiny"), Path(folder) / "tokens", config=config)
        patches = store.read(0, len(store))[:, 1:]
        return patches.unflatten(1, store.grid).contiguous()


def side_by_side(tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Four neighbouring patch tokens as one: (N, 4 d) in random order, and their positions (N,)."""
    n, side, _, d = tokens.shape
    half = side // 2
    blocks = tokens[:, : 2 * half, : 2 * half].unflatten(1, (half, 2)).unflatten(3, (half, 2))
    joined = blocks.permute(0, 1, 3, 2, 4, 5).reshape(n * half * half, 4 * d)
    order = torch.randperm(len(joined), generator=torch.Generator().manual_seed(0))
    return joined[order].contiguous(), torch.arange(half * half).repeat(n)[order]


def whitened(tokens: Tensor, positions: Tensor) -> Tensor:
    normaliser = Normaliser(Whitening(), tokens.shape[1])
    normaliser.fit(tokens, positions)
    return normaliser(tokens, positions)


def trained(config: SpeedConfig, tokens: Tensor, steps: int) -> SparseAutoencoder:
    """An SAE after ``steps`` steps on the tokens, over and over."""
    sae = tuned_sae(replace(config, d=tokens.shape[1]), tokens)
    trainer = Trainer(sae, TrainConfig(batch_tokens=config.n, warmup_steps=10, steps=steps, path="screened"))
    for step in range(steps):
        at = step * config.n % max(len(tokens) - config.n, 1)
        trainer.step(tokens[at : at + config.n])
    return sae


def estimates(rates: dict[str, float], shrink: int) -> None:
    """What the measured rates mean for the paper's training."""
    print("\n## Estimates\n")
    paper = TrainConfig.paper()
    for name in ("TopK, wide", "ReLU with L1, wide"):
        rate = rates[name]
        print(
            f"- {name}: {rate:,.0f} tokens/s here{f' (sizes divided by {shrink})' if shrink > 1 else ''}. A day trains "
            f"on {rate * 86_400 / 1e6:,.0f} million tokens ({rate * 86_400 / 257:,.0f} cells of 257). The paper's "
            f"{paper.steps:,} steps of {paper.batch_tokens:,} tokens = {paper.total_tokens / 1e6:,.0f} million tokens "
            f"take {paper.total_tokens / rate / 3600:,.1f} hours, once latents are sparse."
        )


if __name__ == "__main__":
    main()

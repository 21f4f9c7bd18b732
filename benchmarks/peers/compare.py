"""Our training step against those of published trainers on the same tokens, in turns, each in its own process.

    python benchmarks/peers/compare.py [--m 49152 --n 2048 --k 32 --kind topk] [--peer NAME ...] [--cpu-seconds]

The peers live in the environment .venv-peers beside ours, made here on the first call (they agree on versions, so one
serves all; torch comes with it, some gigabytes). The published CytoSAE step is plain torch and runs there, too.
Where another Python has the peers already, CYTOSAE_PEERS_PYTHON names it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

HERE = Path(__file__).parent
ENVIRONMENT = HERE.parents[1] / ".venv-peers"
PEERS = ("eai-sparsify", "overcomplete", "sae-lens", "published CytoSAE step")


@dataclass(frozen=True)
class Comparison:
    """Times of a peer and of ours in turns; ``cannot`` says why there are none."""

    peer: str
    theirs: list[dict]
    ours: list[dict]
    cannot: str = ""

    def ratios(self, clock: str) -> list[float]:
        """How many times as fast ours is, round by round."""
        return [a[clock] / b[clock] for a, b in zip(self.theirs, self.ours, strict=True)]


def compare(
    x: np.ndarray,
    *,
    m: int,
    k: int,
    kind: str,
    peers: tuple[str, ...] = PEERS,
    rounds: int = 3,
    threads: int = 0,
    device: str = "cpu",
) -> Iterator[Comparison]:
    """Each peer against ours, one peer at a time, so that two trainers' memory is enough."""
    python = environment()
    with tempfile.TemporaryDirectory() as folder:
        tokens = Path(folder) / "tokens.npy"
        np.save(tokens, x.astype(np.float32))
        work = (str(tokens), str(m), str(k), kind, str(threads or torch.get_num_threads()), device)
        for name in peers:
            with worker(python, name, *work) as theirs, worker(Path(sys.executable), "cytosae", *work) as ours:
                refused = answer(theirs).get("cannot") or answer(ours).get("cannot")
                if refused:
                    yield Comparison(name, [], [], refused)
                    continue
                laps = [(ask(theirs), ask(ours)) for _ in range(rounds)]
                yield Comparison(name, [a for a, _ in laps], [b for _, b in laps])


def table(comparisons: list[Comparison], n: int, clock: str) -> str:
    """Markdown: seconds of both and how many times as fast ours is."""
    rows = [
        "| peer | its step | ours | tokens/s | times as fast (min, median, max) | peak memory | L0 |",
        "|" + "---|" * 7,
    ]
    for c in comparisons:
        if c.cannot:
            rows.append(f"| {c.peer} | | | | {c.cannot.splitlines()[0]} | | |")
            continue
        ratios = c.ratios(clock)
        theirs, ours = (statistics.median(lap[clock] for lap in laps) for laps in (c.theirs, c.ours))
        peak = f"{c.theirs[-1]['peak_gb']:.1f} against {c.ours[-1]['peak_gb']:.1f} GB"
        span = f"{min(ratios):.1f}, {statistics.median(ratios):.1f}, {max(ratios):.1f}"
        l0 = f"{c.theirs[-1]['l0']:.0f} and {c.ours[-1]['l0']:.0f}"
        rates = f"{n / theirs:,.0f} and {n / ours:,.0f}"
        rows.append(f"| {c.peer} | {theirs:.3g} s | {ours:.3g} s | {rates} | {span} | {peak} | {l0} |")
    return "\n".join(rows)


def environment(place: Path = ENVIRONMENT, requirements: Path = HERE / "requirements.txt") -> Path:
    """Python of the peers' environment, which is made if it is not there."""
    if os.environ.get("CYTOSAE_PEERS_PYTHON"):
        return Path(os.environ["CYTOSAE_PEERS_PYTHON"])
    python, done = place / "bin" / "python", place / ".setup"
    if not done.exists() or done.stat().st_mtime < requirements.stat().st_mtime:
        print(f"Setting up {place} with the peers (some minutes) ...", flush=True)
        if not python.exists():
            venv.create(place, with_pip=True)
        pip = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "-r", str(requirements)]
        subprocess.run(pip, check=True)
        done.touch()
    return python


@contextmanager
def worker(python: Path, *arguments: str) -> Iterator[subprocess.Popen]:
    command = [str(python), str(HERE / "worker.py"), *arguments]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        yield process
    finally:
        process.stdin.close()
        process.terminate()
        process.wait()


def ask(process: subprocess.Popen) -> dict:
    process.stdin.write("\n")
    process.stdin.flush()
    return answer(process)


def answer(process: subprocess.Popen) -> dict:
    """The next answer of a worker; other lines are what its libraries say."""
    for line in process.stdout:
        if line.startswith("@"):
            return json.loads(line[1:])
    return {"cannot": f"ended with code {process.wait()}"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("d", 768), ("m", 49_152), ("n", 2_048), ("k", 32), ("rounds", 3), ("threads", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--kind", choices=["topk", "relu"], default="topk")
    parser.add_argument("--peer", action="append", choices=PEERS)
    parser.add_argument("--cpu-seconds", action="store_true", help="processor time, for a machine that is busy")
    chosen = parser.parse_args()
    x = torch.randn(chosen.n, chosen.d, generator=torch.Generator().manual_seed(0)).numpy()
    peers = tuple(chosen.peer or PEERS)
    how = {"rounds": chosen.rounds, "threads": chosen.threads, "device": chosen.device}
    found = list(compare(x, m=chosen.m, k=chosen.k, kind=chosen.kind, peers=peers, **how))
    print(table(found, chosen.n, "processor_seconds" if chosen.cpu_seconds else "seconds"))


if __name__ == "__main__":
    main()

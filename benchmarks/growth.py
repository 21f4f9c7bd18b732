"""How time and memory grow with the number of cells: extraction, training and atlas at 1x, 4x and 16x.

    python benchmarks/growth.py [--cells N] [--side PX] [--epochs E] [--backbone NAME] [--dir DIR] [--seconds cpu|wall]

The cells are the built-in generator's, drawn once at the largest size; smaller sizes are the first of them. Each stage
runs in a process of its own, whose largest resident memory is what the kernel counted. Training goes over all tokens
E times, so its steps grow with the cells; tokens are shuffled in pools (a store that fits in memory would be held
there, up to `memory_bytes`). Decoding is done in the same process, so that its memory is counted. The table is
Markdown.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

SIZES = (1, 4, 16)
STAGES = ("extraction", "training", "atlas")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=500, help="of the smallest size")
    parser.add_argument("--side", type=int, default=128, help="pixels of the square images")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--backbone", default="tiny")
    parser.add_argument("--dir", type=Path, help="where to work; a temporary folder otherwise")
    parser.add_argument("--seconds", choices=["wall", "cpu"], default="wall", help="cpu on a machine that is busy")
    parser.add_argument("--stage", choices=["draw", *STAGES], help=argparse.SUPPRESS)
    parser.add_argument("--times", type=int, default=1, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.stage:
        print(json.dumps(run_stage(options)))
        return
    with tempfile.TemporaryDirectory(dir=options.dir) as folder:
        options.dir = Path(folder)
        start(options, "draw", SIZES[-1])
        rows = [(stage, [start(options, stage, times) for times in SIZES]) for stage in STAGES]
    print(table(rows, options))


def start(options: argparse.Namespace, stage: str, times: int) -> dict[str, float]:
    """Run one stage in a process of its own."""
    words = ["--stage", stage, "--times", times, "--dir", options.dir, "--cells", options.cells, "--side", options.side]
    words += ["--epochs", options.epochs, "--backbone", options.backbone]
    done = subprocess.run([sys.executable, __file__, *map(str, words)], stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def run_stage(options: argparse.Namespace) -> dict[str, float]:
    """Seconds, and MB of resident memory before and at most."""
    stage = {"draw": draw, "extraction": extraction, "training": training, "atlas": atlas}[options.stage]
    act, size = stage(options)
    before = memory()
    wall, cpu = time.perf_counter(), time.process_time()
    act()
    return {
        "wall": time.perf_counter() - wall,
        "cpu": time.process_time() - cpu,
        "before": before,
        "peak": memory(),
        "bytes": size() if size else 0,
    }


def draw(options: argparse.Namespace):
    from cytosae.cells import read_cells
    from cytosae.cells.synthetic import synthesize

    def act() -> None:
        out = options.dir / "smear"
        synthesize(out, patients=SIZES[-1], cells=options.cells, seed=0, size=options.side)
        read_cells(out, workers=1).save(options.dir / "cells")

    return act, None


def extraction(options: argparse.Namespace):
    from cytosae.backbones import load_backbone
    from cytosae.tokens import ExtractConfig, extract

    cells, backbone = cells_of(options), load_backbone(options.backbone)
    config = ExtractConfig(workers=0, shard_cells=128)
    return lambda: extract(cells, backbone, place(options, "tokens"), config=config), lambda: on_disk(options, "tokens")


def training(options: argparse.Namespace):
    from cytosae.sae import RECIPES, Trainer, save_sae
    from cytosae.tokens import ReaderConfig, TokenReader, open_tokens

    store = open_tokens(place(options, "tokens"), verify=False)
    recipe = RECIPES["default"]
    batch = 1024
    steps = options.epochs * len(store) * store.n_tokens // batch
    train = replace(recipe.train, batch_tokens=batch, steps=steps, warmup_steps=10, sample_tokens=8192)

    def act() -> None:
        sae = recipe.build(store.width)
        reader = TokenReader([store], ReaderConfig(batch, memory_bytes=0, buffer_tokens=1 << 14))
        Trainer(sae, train).fit(reader)
        save_sae(sae, place(options, "sae"))

    return act, lambda: on_disk(options, "sae")


def atlas(options: argparse.Namespace):
    from cytosae.atlas import write_atlas
    from cytosae.sae import load_sae
    from cytosae.tokens import open_tokens

    cells, store = cells_of(options), open_tokens(place(options, "tokens"), verify=False)
    sae = load_sae(place(options, "sae").with_name("sae-1"))  # one SAE for all sizes, so that it alone is no reason
    path = place(options, "atlas").with_suffix(".h5ad")
    return lambda: write_atlas(path, sae, store, cells), lambda: path.stat().st_size


def cells_of(options: argparse.Namespace):
    from cytosae.cells import CellTable

    return CellTable.load(options.dir / "cells").subset(range(options.cells * options.times))


def place(options: argparse.Namespace, what: str) -> Path:
    return options.dir / f"{what}-{options.times}"


def on_disk(options: argparse.Namespace, what: str) -> int:
    return sum(file.stat().st_size for file in place(options, what).rglob("*") if file.is_file())


def memory() -> float:
    """Largest resident memory of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def table(rows: list[tuple[str, list[dict[str, float]]]], options: argparse.Namespace) -> str:
    cells = [options.cells * times for times in SIZES]
    kind = "processor" if options.seconds == "cpu" else "wall"
    lines = [
        f"{options.backbone}, {cells[0]:,} / {cells[1]:,} / {cells[2]:,} cells, {options.epochs} epochs; {kind} time",
        "",
        "| stage | seconds | time relative to cells | peak memory, MB | growth per cell, kB | on disk, MB |",
        "|---|---|---|---|---|---|",
    ]
    for stage, results in rows:
        seconds = [result[options.seconds] for result in results]
        relative = [s / seconds[0] / times for s, times in zip(seconds, SIZES, strict=True)]
        peaks = [result["peak"] for result in results]
        growth = (peaks[-1] - peaks[-2]) * 1024 / (cells[-1] - cells[-2])  # the smallest fills no shard and no pool
        columns = (
            " / ".join(f"{s:.1f}" for s in seconds),
            " / ".join(f"{r:.2f}" for r in relative),
            " / ".join(f"{p:,.0f}" for p in peaks),
            f"{growth:.1f}",
            " / ".join(f"{result['bytes'] / 1e6:.1f}" for result in results),
        )
        lines.append(f"| {stage} | {' | '.join(columns)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()

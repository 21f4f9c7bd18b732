"""Speed of extraction as a share of the bare transformer's: tokens/s of both, in turns, in one run.

    python benchmarks/extraction.py [--images DIR] [--cells N] [--rounds R] [--workers W] [--batch B]
    python benchmarks/extraction.py --variants [--rounds R] [--batch B] [--seconds cpu]

With --variants the forward pass alone is measured as it is (eager, float32) and with bfloat16 autocast, torch.compile,
both, channels-last images and patch embedding, and ONNX Runtime where it is installed, each as a ratio to eager in the
same round, with the largest relative error of its tokens: what would help on this machine, and what it costs.

The bare forward pass runs on random tensors of the same shape. The pipeline is all of `cytosae.tokens.extract`:
decoding in worker processes, preparing, forward pass, rounding, shards with checksums, manifest.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from cytosae.backbones import load_backbone
from cytosae.cells import read_cells
from cytosae.tokens import ExtractConfig, extract
from cytosae.tokens.extraction.extract import Forward


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument(
        "--images", type=Path, help="folder of cells; without it, noisy 360 x 363 JPEG images are made"
    )
    options.add_argument("--backbone", default="tiny")
    options.add_argument("--cells", type=int, default=512)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--workers", type=int, default=ExtractConfig.workers)
    options.add_argument("--batch", type=int, default=ExtractConfig.batch_size)
    options.add_argument("--variants", action="store_true", help="ways of computing the forward pass, compared")
    options.add_argument("--seconds", choices=["wall", "cpu"], default="wall", help="cpu on a machine that is busy")
    chosen = options.parse_args()
    if chosen.variants:
        compare_variants(load_backbone(chosen.backbone), chosen)
        return
    with tempfile.TemporaryDirectory() as folder:
        images = chosen.images or make_images(Path(folder) / "images", chosen.cells)
        table = read_cells(images)
        rows = np.random.default_rng(0).permutation(len(table))[: chosen.cells]
        compare(load_backbone(chosen.backbone), table.subset(rows), Path(folder), chosen)


def compare(backbone, cells, folder: Path, chosen: argparse.Namespace) -> None:
    config = ExtractConfig(workers=chosen.workers, batch_size=chosen.batch)
    n_tokens = len(cells) * backbone.n_tokens
    shape = backbone.prepare([np.zeros((64, 64, 3), np.uint8)]).shape[1:]
    sizes = [len(part) for part in np.array_split(np.arange(len(cells)), -(-len(cells) // config.batch_size))]
    bare(backbone, sizes[:2], shape)
    ratios = []
    for turn in range(chosen.rounds):
        before = bare(backbone, sizes, shape)
        start = time.perf_counter()
        extract(cells, backbone, folder / f"tokens-{turn}", config=config)
        whole = time.perf_counter() - start
        after = bare(backbone, sizes, shape)
        ratios.append((before + after) / 2 / whole)
        print(
            f"round {turn + 1}: bare {n_tokens / before:,.0f} and {n_tokens / after:,.0f} tokens/s, "
            f"pipeline {n_tokens / whole:,.0f} tokens/s, ratio {ratios[-1]:.3f}"
        )
    print(
        f"{backbone.name}, {len(cells)} cells, batch {config.batch_size}, {config.workers} workers, "
        f"{torch.get_num_threads()} threads: pipeline / bare = {statistics.median(ratios):.3f} "
        f"(min {min(ratios):.3f}, max {max(ratios):.3f})"
    )


def bare(backbone, sizes: list[int], shape: torch.Size) -> float:
    """Seconds of the forward pass alone."""
    batch = torch.randn(max(sizes), *shape)
    start = time.perf_counter()
    with torch.inference_mode():
        for size in sizes:
            backbone(batch[:size])
    return time.perf_counter() - start


def compare_variants(backbone, chosen: argparse.Namespace) -> None:
    """Print speed relative to the eager float32 forward pass, and what the tokens of each variant are off by."""
    shape = backbone.prepare([np.zeros((64, 64, 3), np.uint8)]).shape[1:]
    batch = torch.randn(chosen.batch, *shape, generator=torch.Generator().manual_seed(0))
    last = copy.deepcopy(backbone)
    last.model.patch_embed.to(memory_format=torch.channels_last)

    def forward(**options) -> Forward:
        return Forward(backbone, ExtractConfig(batch_size=chosen.batch, **options), torch.device("cpu"))

    variants = {
        "eager": backbone,
        "bfloat16 autocast": forward(precision="bfloat16"),
        "torch.compile": forward(compile=True),
        "torch.compile, bfloat16 autocast": forward(compile=True, precision="bfloat16"),
        "channels-last": lambda images: last(images.to(memory_format=torch.channels_last)),
    }
    with tempfile.TemporaryDirectory() as folder:
        if (runtime := onnx_forward(backbone, batch, Path(folder) / "backbone.onnx")) is not None:
            variants["ONNX Runtime"] = runtime
        measure_variants(variants, batch, chosen)


def onnx_forward(backbone, batch: torch.Tensor, file: Path) -> Callable[[torch.Tensor], torch.Tensor] | None:
    """The forward pass by ONNX Runtime with torch's number of threads; None, and a line, where it is not installed."""
    try:
        import onnxruntime

        torch.onnx.export(backbone.eval(), (batch,), file, input_names=["images"], dynamo=True, verbose=False)
    except ImportError as missing:
        print(f"ONNX Runtime is left out ({missing}); for it: pip install onnxruntime onnx onnxscript")
        return None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(None, {"images": images.numpy()})[0])


def measure_variants(variants: dict, batch: torch.Tensor, chosen: argparse.Namespace) -> None:
    clock = time.process_time if chosen.seconds == "cpu" else time.perf_counter
    errors, firsts, times = {}, {}, {name: [] for name in variants}
    with torch.inference_mode():
        plain = variants["eager"](batch)
        for name, forward in variants.items():
            start = time.perf_counter()
            tokens = forward(batch).float()
            firsts[name] = time.perf_counter() - start
            off = (tokens - plain).norm(dim=-1) / plain.norm(dim=-1)
            errors[name] = float((tokens - plain).norm() / plain.norm()), float(off.max())
        for _ in range(chosen.rounds):
            for name, forward in variants.items():
                start = clock()
                forward(batch)
                times[name].append(clock() - start)
    print(f"{chosen.backbone}, batch {chosen.batch}, {torch.get_num_threads()} threads, torch {torch.__version__},")
    print(f"{torch.backends.cpu.get_cpu_capability()}; {chosen.seconds} time, median of {chosen.rounds} rounds")
    print("\n| forward pass | speed relative to eager | relative error, all tokens | worst token | first pass, s |")
    print("|---|---|---|---|---|")
    for name, seconds in times.items():
        ratios = [a / b for a, b in zip(times["eager"], seconds, strict=True)]
        words = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        print(f"| {name} | {words} | {errors[name][0]:.1e} | {errors[name][1]:.1e} | {firsts[name]:.1f} |")


def make_images(folder: Path, n: int) -> Path:
    rng = np.random.default_rng(0)
    folder.mkdir()
    for i in range(n):
        coarse = Image.fromarray(rng.integers(0, 256, (24, 24, 3), dtype=np.uint8))
        coarse.resize((360, 363), Image.Resampling.BICUBIC).save(folder / f"{i:05d}.jpg", quality=90)
    return folder


if __name__ == "__main__":
    main()

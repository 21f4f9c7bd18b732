"""Speed of reading shuffled tokens, as a share of what the disk and a plain copy of memory give.

    python benchmarks/reading.py [--cells N] [--width D] [--dir DIR] [--run R] [--cold]

GB/s are those of the stored bytes (float16). The file system's cache is warm; with --cold the store is dropped from it
before each measurement (Linux), which shows the disk that holds --dir.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

import torch

from cytosae.tokens import ReaderConfig, TokenReader, TokenStore, open_tokens
from cytosae.tokens.extraction.work import Recipe, Work, plan_shards


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--cells", type=int, default=8192)
    options.add_argument("--width", type=int, default=192)
    options.add_argument("--batch", type=int, default=4096)
    options.add_argument("--run", type=int, default=ReaderConfig.run_tokens)
    options.add_argument("--dir", type=Path)
    options.add_argument("--cold", action="store_true", help="read from the disk, not from the file system's cache")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory(dir=chosen.dir) as folder:
        store = make_store(Path(folder) / "tokens", chosen.cells, chosen.width)
        size = len(store) * store.n_tokens * store.width * 2
        print(f"{len(store):,} cells x {store.n_tokens} tokens x {store.width} in float16: {size / 1e9:.2f} GB")
        if chosen.cold:
            drop(store)
            print(f"files in order, nothing decoded {size / files(store) / 1e9:6.2f} GB/s")
            drop(store)
        plain = in_order(store)
        print(f"in order, as float32            {size / plain / 1e9:6.2f} GB/s")
        for name, config in (
            ("shuffled, whole store in memory", ReaderConfig(batch_tokens=chosen.batch, memory_bytes=1 << 40)),
            ("shuffled in pools, two in memory", ReaderConfig(chosen.batch, memory_bytes=0, run_tokens=chosen.run)),
        ):
            if chosen.cold:
                drop(store)
            seconds, first = shuffled(store, config, cold=chosen.cold)
            print(
                f"{name:31s} {size / seconds / 1e9:6.2f} GB/s, ratio to reading in order {plain / seconds:.2f}, "
                f"first batch after {first:.2f} s"
            )


def make_store(path: Path, n: int, width: int) -> TokenStore:
    recipe = Recipe({"name": "random"}, "0" * 64, 257, width, 16, "float16", "float32")
    work = Work(path, recipe, plan_shards([f"{cell:064x}" for cell in range(n)], 512, recipe))
    work.tidy()
    for shard in work.shards:
        work.write(shard, {"tokens": torch.randn(len(shard.cell_ids), 257, width).half()})
    work.publish(path.name, 512, config={}, inputs={})
    return open_tokens(path, verify=False)


def drop(store: TokenStore) -> None:
    """Make the kernel forget what it keeps of the shards."""
    for shard in store.path.glob("shard-*"):
        with shard.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def files(store: TokenStore) -> float:
    """Seconds to read the bytes of all shards, one after the other."""
    room = bytearray(8 << 20)
    start = time.perf_counter()
    for shard in sorted(store.path.glob("shard-*")):
        with shard.open("rb", buffering=0) as file:
            while file.readinto(room):
                pass
    return time.perf_counter() - start


def in_order(store: TokenStore) -> float:
    start = time.perf_counter()
    for _ in store.batches(16):
        pass
    return time.perf_counter() - start


def shuffled(store: TokenStore, config: ReaderConfig, *, cold: bool) -> tuple[float, float]:
    """Seconds of an epoch (from the first batch on, if it is not cold), and seconds until the first batch is there."""
    reader = TokenReader([store], config)
    start = time.perf_counter()
    next(reader)
    first = time.perf_counter() - start
    start = start if cold else time.perf_counter()
    for _ in range(reader.tokens_per_epoch // config.batch_tokens):
        next(reader)
    return time.perf_counter() - start, first


if __name__ == "__main__":
    main()

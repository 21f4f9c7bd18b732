"""Rows and columns of a made-up atlas on disk: time and memory to write them, and cold look-ups of each.

    python benchmarks/disk_index.py [--cells 1000000] [--latents 49152] [--active 2000] [--dir DIR]

The defaults are 2 x 10^9 stored entries, for which 32 GB of disk are needed: 10 bytes an entry for the index by latent
and 5 to 6 for the rows, packed as in `.h5ad`. Rows go through the writer of atlases block by block, columns through
`write_columns`. Before each look-up what the system holds of the files is dropped, so that the disk is asked; how long
it takes for 4 KB somewhere in the same files stands beside. Memory is that of the process itself (RssAnon), without
pages of files, which the system may take back. The files are removed at the end. The table is Markdown.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import scipy.sparse as sp
from anndata.io import sparse_dataset

from cytosae.atlas.stored.atlas_file import CsrWriter
from cytosae.atlas.stored.latent_columns import Columns, write_columns
from cytosae.atlas.stored.matrix import read_rows

BYTES = 16
"""Of disk that an entry of this data takes at most."""
BLOCK = 1 << 22


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=1_000_000)
    parser.add_argument("--latents", type=int, default=49_152)
    parser.add_argument("--active", type=int, default=2_000, help="active latents of a cell, about")
    parser.add_argument("--lookups", type=int, default=50)
    parser.add_argument("--dir", type=Path, default=None, help="folder on the disk to be measured")
    args = parser.parse_args()
    place = args.dir or Path(tempfile.gettempdir())
    free, needed = shutil.disk_usage(place).free, args.cells * args.active * BYTES
    if needed > free:
        parser.error(f"{needed / 1e9:,.0f} GB are needed, {free / 1e9:,.0f} GB are free in {place}; ask for less.")
    with tempfile.TemporaryDirectory(dir=place, prefix="disk-index-") as folder:
        measure(Path(folder), args.cells, args.latents, args.active, args.lookups)


def measure(folder: Path, cells: int, latents: int, active: int, lookups: int) -> None:
    """Write, look up, and print the table."""
    rows_file, columns = folder / "rows.h5", folder / "columns"
    start = time.perf_counter()
    with watched_memory() as memory:
        entries = write_rows(rows_file, cells, latents, active)
    rows_seconds, start = time.perf_counter() - start, time.perf_counter()
    with watched_memory() as memory_of_columns, h5py.File(rows_file) as file:
        write_columns(sparse_dataset(file["X"]), columns)  # pyright: ignore[reportArgumentType]
    columns_seconds = time.perf_counter() - start
    size = sum(file.stat().st_size for file in columns.iterdir())
    rng = np.random.default_rng(1)
    files = [rows_file, *columns.iterdir()]
    of_latent = cold(files, lambda: Columns(columns).of(int(rng.integers(latents))), lookups)
    of_cell = cold(files, lambda: Columns(columns).count_on(rng.integers(cells, size=1)), lookups)
    of_cells = cold(files, lambda: Columns(columns).count_on(rng.integers(cells, size=128)), lookups)
    of_row = cold(files, lambda: row_of(rows_file, int(rng.integers(cells))), lookups)
    of_disk = cold(files, lambda: some_bytes(columns / "entries", rng), lookups)
    print(f"\n{cells:,} cells x {latents:,} latents, {entries:,} entries\n")
    print("| | |\n|---|---|")
    print(f"| rows | {rows_file.stat().st_size / 1e9:.2f} GB, {rows_seconds:,.0f} s |")
    print(f"| by latent, and the latents of each cell | {size / 1e9:.2f} GB, {columns_seconds:,.0f} s |")
    title = "memory at the beginning, largest while rows were written, while the columns were"
    print(f"| {title} | {memory[0]:,.0f}, {max(memory):,.0f}, {max(memory_of_columns):,.0f} MB |")
    for words, times in (
        ("4 KB of the disk", of_disk),
        ("cells of a latent", of_latent),
        ("latents of a cell", of_cell),
        ("latents of 128 cells, as a concept's page asks", of_cells),
        ("row of a cell", of_row),
    ):
        print(f"| {words}, cold: median, largest | {np.median(times) * 1e3:.1f}, {max(times) * 1e3:.1f} ms |")


def write_rows(path: Path, cells: int, latents: int, active: int) -> int:
    """Write the made-up cells as an atlas holds them; the number of stored entries."""
    entries = 0
    with h5py.File(path, "w") as file:
        writer = CsrWriter(file.create_group("X"), latents, np.float32)
        for block in made_up(cells, latents, active):
            writer.append(block)
            entries += block.nnz
        writer.finish()
    return entries


def made_up(cells: int, latents: int, active: int) -> Iterator[sp.csr_array]:
    """Cells with about ``active`` latents each, at random distances from each other, block by block."""
    rng = np.random.default_rng(0)
    gap = max(1, 2 * latents // (active + 1) - 1)
    step = max(1, BLOCK // active)
    for start in range(0, cells, step):
        places = rng.integers(1, gap + 1, (min(step, cells - start), active), np.int32).cumsum(1, dtype=np.int32) - 1
        there = places < latents
        indptr = np.concatenate([[0], there.sum(1).cumsum()]).astype(np.int32)
        values = rng.random(int(indptr[-1]), np.float32) + np.float32(0.01)
        yield sp.csr_array((values, places[there], indptr), shape=(len(places), latents))


def row_of(path: Path, cell: int) -> sp.csr_array:
    """A cell's row from a file that is opened for it."""
    with h5py.File(path) as file:
        matrix: Any = sparse_dataset(file["X"])  # pyright: ignore[reportArgumentType]
        return read_rows(matrix, np.array([cell]))


def some_bytes(path: Path, rng: np.random.Generator) -> bytes:
    """4 KB from anywhere in a file, which is what a single look at the disk takes."""
    with path.open("rb", buffering=0) as file:
        file.seek(4096 * int(rng.integers(max(1, path.stat().st_size // 4096))))
        return file.read(4096)


def cold(files: list[Path], look_up: Callable[[], object], times: int) -> list[float]:
    """Seconds of look-ups, each after all files were dropped from the system's memory."""
    taken = []
    for _ in range(times):
        for file in files:
            handle = os.open(file, os.O_RDONLY)
            os.fsync(handle)  # what is not yet written cannot be dropped
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(handle)
        start = time.perf_counter()
        look_up()
        taken.append(time.perf_counter() - start)
    return taken


@contextmanager
def watched_memory() -> Iterator[list[float]]:
    """MB of this process (`anonymous_memory`), a hundred times a second while the block runs."""
    seen, done = [anonymous_memory()], threading.Event()

    def watch() -> None:
        while not done.wait(0.01):
            seen.append(anonymous_memory())

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        done.set()
        thread.join()


def anonymous_memory() -> float:
    """MB of this process that belong to no file."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


if __name__ == "__main__":
    main()

"""Cells nearest by mean tokens: seconds of a search among all and through the index, and how many of the ten it finds.

    python benchmarks/neighbours.py [--cells 10000 100000] [--width 768] [--searches 100] [ATLAS ...]

Made-up mean tokens lie about 200 kinds of cells that differ in a few directions, as cells do. Random numbers, of which
none is near another, are the worst case. Beside them the mean tokens of atlases (`.h5ad` or `.zarr`) are searched where
some are given. Exact search is that of pages of cells: of an array in memory up to `cell_neighbours.INDEXED` numbers,
else of a file, as an atlas holds them, whose pages the system may have in memory. Recall@10 is
the share of the ten nearest that the index finds. The table is Markdown.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np

os.environ.setdefault("OMP_NUM_THREADS", "1")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("atlases", type=Path, nargs="*")
    parser.add_argument("--cells", type=int, nargs="*", default=[10_000, 100_000])
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--searches", type=int, default=100)
    args = parser.parse_args()
    print(
        "| mean tokens | cells | width | exact, ms | exact from a file, ms | index, ms | made in, s | MB | recall@10 |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for cells in args.cells:
        measure("made up", made_up(cells, args.width), args.searches)
    rng = np.random.default_rng(0)
    measure("random numbers", rng.standard_normal((args.cells[0], args.width), np.float32), args.searches)
    for path in args.atlases:
        from cytosae.atlas import open_atlas

        measure(path.stem, np.asarray(open_atlas(path, backed="r").obsm["X_backbone"]), args.searches)


def made_up(cells: int, width: int) -> np.ndarray:
    """Mean tokens (cells, width) of 200 kinds of cells, which vary in 40 directions, and a little in all."""
    rng = np.random.default_rng(0)
    some = min(40, width)
    kinds = rng.standard_normal((200, width), np.float32)
    directions = rng.standard_normal((some, width), np.float32) / np.float32(np.sqrt(some))
    made = kinds[rng.integers(200, size=cells)]
    made += rng.standard_normal((cells, some), np.float32) @ directions
    made += np.float32(0.2) * rng.standard_normal((cells, width), np.float32)
    return made + 1


def measure(name: str, means: np.ndarray, searches: int) -> None:
    """Print the row of one set of mean tokens."""
    from cytosae.atlas.finding.cell_neighbours import write_index
    from cytosae.atlas.stored.atlas_file import growing

    rows = np.random.default_rng(1).choice(len(means), min(searches, len(means)), replace=False)
    centre = means.mean(axis=0)
    with tempfile.TemporaryDirectory() as folder, h5py.File(Path(folder) / "means.h5", "w") as file:
        os.environ["CYTOSAE_CACHE"] = folder
        stored = growing(file, "means", np.float32, means.shape[1])
        stored.extend(means)
        stored.finish()
        exact, exact_seconds = timed(means, centre, means[rows])
        _, file_seconds = timed(stored.array, centre, means[rows[:5]])
        index = Path(folder) / "neighbours" / "made.usearch"
        start = time.perf_counter()
        write_index(means, centre, index)
        made_in, size = time.perf_counter() - start, index.stat().st_size / 1e6
        found, seconds = timed(stored.array, centre, means[rows], fingerprint="made")
        assert all(one.approximate for one in found)
        recall = np.mean(
            [len(np.intersect1d(one.rows, all_.rows)) / 10 for one, all_ in zip(found, exact, strict=True)]
        )
        print(
            f"| {name} | {len(means):,} | {means.shape[1]} | {1e3 * exact_seconds:.1f} | {1e3 * file_seconds:.0f} "
            f"| {1e3 * seconds:.1f} | {made_in:.0f} | {size:.0f} | {recall:.3f} |",
            flush=True,
        )


def timed(means: Any, centre: np.ndarray, queries: np.ndarray, **options: Any) -> tuple[list[Any], float]:
    """What is found for each query, and the median of the seconds."""
    from cytosae.atlas.finding.cell_neighbours import nearest_cells

    found, taken = [], []
    for query in queries:
        start = time.perf_counter()
        found.append(nearest_cells(means, centre, query, 10, **options))
        taken.append(time.perf_counter() - start)
    return found, float(np.median(taken))


if __name__ == "__main__":
    main()

"""Speed of the synthetic smear: images a second, drawn only and drawn and written, with one process and with several.

    python benchmarks/drawing.py [--patients P] [--cells C] [--processes N]

Cells are those of a cohort of all laboratories at 128 px; written are image, mask and structures as PNG and the tables.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from cytosae.cells.synthetic import Cohort, generate_cohort, synthesize


def main() -> None:
    """Draw, then draw and write, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, default=40)
    parser.add_argument("--cells", type=int, default=50)
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    cohort = generate_cohort(patients=options.patients, cells=options.cells, domain="mixed")
    print("| processes | drawn, images/s | drawn and written, images/s |\n|---|---|---|")
    for processes in dict.fromkeys((1, options.processes)):
        rates = [len(cohort.cells) / seconds for seconds in (drawing(cohort, processes), writing(options, processes))]
        print(f"| {processes} | {rates[0]:.0f} | {rates[1]:.0f} |", flush=True)


def drawing(cohort: Cohort, processes: int) -> float:
    """Seconds for all cells, in memory; the start of the processes is not counted."""
    names = list(cohort.cells.index)
    with ProcessPoolExecutor(processes) as pool:
        list(pool.map(draw, [(cohort, names[i : i + 1]) for i in range(processes)]))
        start = time.perf_counter()
        list(pool.map(draw, [(cohort, names[i :: 8 * processes]) for i in range(8 * processes)]))
        return time.perf_counter() - start


def draw(task: tuple[Cohort, list[str]]) -> None:
    """Draw some cells of a cohort."""
    cohort, names = task
    for _ in cohort.drawings(names):
        pass


def writing(options: argparse.Namespace, processes: int) -> float:
    """Seconds of `synthesize`, start of the processes included."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        synthesize(
            Path(folder) / "smear",
            patients=options.patients,
            cells=options.cells,
            domain="mixed",
            processes=processes,
        )
        return time.perf_counter() - start


if __name__ == "__main__":
    main()

"""Speed of the cohort's statistics: barcodes as a function of the number of cells, contrasts and outliers.

    python benchmarks/cohort.py [--patients N] [--cells C] [--latents M] [--active A] [--contrast-latents L]

Barcodes of N patients of C cells are timed twice, with a quarter of the cells and with all: a ratio of about 4 or less
says that time is linear in cells. A cell has A active latents, half of them above tau. Contrast and outliers are timed
on 200 patients and L latents. Input is random CSR, made beforehand; nothing is timed but the call.
"""

from __future__ import annotations

import argparse
import resource
import time

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

from cytosae.cohort import barcodes, contrast, patient_specific


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--patients", type=int, default=2000)
    options.add_argument("--cells", type=int, default=500)
    options.add_argument("--latents", type=int, default=3072)
    options.add_argument("--active", type=int, default=200)
    options.add_argument("--contrast-latents", type=int, default=49_152)
    chosen = options.parse_args()
    rng = np.random.default_rng(0)
    seconds = []
    for cells in (max(chosen.cells // 4, 1), chosen.cells):
        atlas = make_atlas(rng, chosen.patients, cells, chosen.latents, chosen.active)
        held, start = peak(), time.perf_counter()
        barcodes(atlas)
        seconds.append(time.perf_counter() - start)
        print(
            f"barcodes of {chosen.patients:,} patients x {cells} cells ({atlas.X.nnz / 1e6:.0f} M entries): "
            f"{seconds[-1]:.1f} s, {max(peak() - held, 0) / 1e9:.2f} GB above what the input took"
        )
        del atlas
    print(f"ratio of times at 4x and 1x the cells: {seconds[1] / seconds[0]:.2f}")
    cohort = make_cohort(rng, 200, chosen.contrast_latents)
    for name, call in (
        ("contrast", lambda: contrast(cohort, "x", "y")),
        ("outliers", lambda: patient_specific(cohort)),
    ):
        start = time.perf_counter()
        call()
        print(f"{name} of 200 patients x {chosen.contrast_latents:,} latents: {time.perf_counter() - start:.1f} s")


def make_atlas(rng: np.random.Generator, patients: int, cells: int, latents: int, active: int) -> ad.AnnData:
    n = patients * cells
    # runs of consecutive latents from a random start: as sparse as real cells, and made without sorting
    first = rng.integers(0, latents - active, n, dtype=np.int32)
    columns = (first[:, None] + np.arange(active, dtype=np.int32)).ravel()
    offsets = np.arange(n + 1, dtype=np.int64) * active
    values = rng.random(n * active, dtype=np.float32)
    obs = pd.DataFrame(
        {"patient": pd.Categorical(np.tile([f"P{i:05d}" for i in range(patients)], cells)), "diagnosis": "x"},
        index=[f"{i:x}" for i in range(n)],
    )
    atlas = ad.AnnData(sp.csr_matrix((values, columns, offsets), shape=(n, latents)), obs=obs)
    counted = active // 2
    columns = columns.reshape(n, active)[:, :counted].ravel()
    counts = rng.integers(1, 100, n * counted, dtype=np.int32)
    above = np.arange(n + 1, dtype=np.int64) * counted
    atlas.layers["tokens_above"] = sp.csr_matrix((counts, columns, above), shape=(n, latents))
    return atlas


def make_cohort(rng: np.random.Generator, patients: int, latents: int) -> ad.AnnData:
    values = rng.binomial(50, rng.beta(0.3, 3, latents), (patients, latents)).astype(np.float32) / 50
    obs = pd.DataFrame({"diagnosis": rng.choice(["x", "y"], patients)}, index=[f"P{i}" for i in range(patients)])
    error = np.sqrt(values * (1 - values) / 50)
    return ad.AnnData(values, obs=obs, layers={"presence": values, "presence_se": error})


def peak() -> int:
    """Largest memory so far, bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()

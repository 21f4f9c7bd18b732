"""Cells that have much of what is active on a patch: how often they are of the same class, beside random weights.

    python benchmarks/patch_search.py DIR [--queries 300] [--hits 10]

DIR is a study with tokens and an SAE whose cells have labels. From cells drawn at random one patch each is drawn from
the middle of the image (within 0.2 of its sides), and the cells found by it are compared with the cell that it is
from. Beside it: latents of random weights of the same SAE, the mean tokens of whole cells, and cells drawn at random.
Intervals are of the mean over queries (normal, 95%). The table is Markdown.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

import cytosae
from cytosae.atlas import build_atlas
from cytosae.atlas.finding.cell_search import rank_cells
from cytosae.sae.model.randomised import randomised
from cytosae.views import OpenedDataset
from cytosae.views.cells.cell_page_view import like_cells, seen_in_store, surprise_at


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--hits", type=int, default=10)
    options = parser.parse_args()
    study = cytosae.Study(options.study)
    name = study.datasets[0]
    cells, store, sae = study.cells(name), study.tokens(name), study.sae()
    learned = OpenedDataset(study.atlas(name), cells, store, sae)
    control = randomised(sae, 0).eval()
    beside = OpenedDataset(build_atlas(control, store, cells), cells, store, control)
    rng = np.random.default_rng(0)
    labels = np.array([learned.labels[str(cell)] for cell in learned.atlas.obs_names], dtype=object)
    queries = rng.permutation(np.flatnonzero(labels != None))[: options.queries]  # noqa: E711
    rows, columns = store.grid
    middle = [r * columns + c for r in range(rows) for c in range(columns) if inside(r, rows) and inside(c, columns)]
    patches = rng.choice(middle, len(queries))
    found = {
        "the patch, learned latents": [
            by_patch(learned, *at, options.hits) for at in zip(queries, patches, strict=True)
        ],
        "the patch, random weights": [by_patch(beside, *at, options.hits) for at in zip(queries, patches, strict=True)],
        "the whole cell, mean tokens": [by_mean(learned, row, options.hits) for row in queries],
        "cells at random": [rng.permutation(np.delete(np.arange(len(labels)), row))[: options.hits] for row in queries],
    }
    print(f"{len(queries)} queries among {len(labels):,} cells of {name}, {options.hits} hits each\n")
    print("| cells found by | of the same class |\n|---|---|")
    for words, hits in found.items():
        same = [np.mean(labels[rows] == labels[row]) for row, rows in zip(queries, hits, strict=True) if len(rows)]
        print(f"| {words} | {np.mean(same):.3f} ± {1.96 * np.std(same) / len(same) ** 0.5:.3f} |")


def inside(place: int, n: int) -> bool:
    return abs((place + 0.5) / n - 0.5) <= 0.2


def by_patch(dataset: OpenedDataset, row: int, patch: int, hits: int) -> NDArray[np.int64]:
    """Rows of the atlas that are found by a patch of one of its cells."""
    by_latent = dataset.__dict__.setdefault("by_latent", sp.csc_array(dataset.atlas.X))
    there = surprise_at(dataset, seen_in_store(dataset, str(dataset.atlas.obs_names[row])), [int(patch)])
    if not there:
        return np.zeros(0, np.int64)

    def column(latent: int) -> tuple[NDArray[np.integer], NDArray[np.floating]]:
        own = slice(by_latent.indptr[latent], by_latent.indptr[latent + 1])
        order = np.argsort(by_latent.indices[own])
        return by_latent.indices[own][order], by_latent.data[own][order]

    ranked, _ = rank_cells(there, column, cells=len(dataset.atlas), limit=hits, but=int(row))
    return np.array([hit.row for hit in ranked], np.int64)


def by_mean(dataset: OpenedDataset, row: int, hits: int) -> NDArray[np.int64]:
    """Rows of the atlas with the nearest mean tokens."""
    cell = str(dataset.atlas.obs_names[row])
    alike, _ = like_cells(dataset, dataset.mean_tokens[row], but=cell, n=hits)
    return dataset.atlas.obs_names.get_indexer([one.cell for one in alike])


if __name__ == "__main__":
    main()

"""The concept benchmark over all kinds of SAE: what docs/concept_benchmark.md shows.

    python benchmarks/concepts.py --data DATA --out runs/concepts

Trains one SAE of each kind on the same tokens of the bundled backbone, those of the real cells of `apl_cohort` and of
drawn cells, so that neither the cells with attributes nor those with masks have been seen. Then all of them are scored
on real and drawn cells (`--parts variants`), and the first on drawn cohorts of several seeds and difficulties (`--parts
cohorts`). Tables go to OUT; SAEs that are there are not trained again.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from cytosae import extract, load_backbone, read_cells
from cytosae.backbones import Backbone
from cytosae.cells.synthetic import synthesize
from cytosae.evaluation.concept_benchmark import measure_concepts
from cytosae.evaluation.config import CohortsConfig, ConceptsConfig
from cytosae.evaluation.tables import concepts_markdown
from cytosae.sae import BatchTopK, JumpRelu, Matryoshka, SparseAutoencoder, TopK, Trainer, evaluate, load_sae, save_sae
from cytosae.sae.training.recipes import DEFAULT, PAPER, Recipe
from cytosae.tokens import ReaderConfig, TokenReader, TokenStore

KINDS = {
    "TopK": DEFAULT,
    "TopK 16": replace(DEFAULT, sparsity=TopK(k=16, aux_k=64)),
    "BatchTopK": replace(DEFAULT, sparsity=BatchTopK(32)),
    "Matryoshka": replace(DEFAULT, sparsity=Matryoshka(32)),
    "JumpReLU": replace(DEFAULT, sparsity=JumpRelu()),
    "ReLU + L1": replace(
        PAPER, expansion=16, train=replace(PAPER.train, steps=300, warmup_steps=50, batch_tokens=4_096)
    ),
}
"""Kinds at the same width. ReLU + L1 is the paper's recipe otherwise, in 300 steps: early ones are dense, and slow."""
DRAWN = {"patients": 40, "cells": 50, "seed": 99, "domain": "mixed", "difficulty": 0.5}
"""Drawn cells beside the real ones; the benchmark draws others (its seeds are 0, 1, 2)."""


def main() -> None:
    """Train what is missing, then score."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the shared data sets")
    parser.add_argument("--out", type=Path, required=True, help="folder for tokens, SAEs and tables")
    parser.add_argument("--parts", nargs="*", default=["variants", "cohorts"], choices=["variants", "cohorts"])
    parser.add_argument("--kinds", nargs="*", default=list(KINDS), choices=list(KINDS), help="all by default")
    options = parser.parse_args()
    backbone = load_backbone("tiny")
    config = ConceptsConfig(resamples=500)
    if "variants" in options.parts:
        saes = train(options.data, options.out, backbone, options.kinds)
        result = measure_concepts(saes, backbone, data=options.data, config=config, work=options.out / "real")
        (options.out / "variants.md").write_text(concepts_markdown(result) + "\n", encoding="utf-8")
    if "cohorts" in options.parts:
        first = train(options.data, options.out, backbone, options.kinds[:1])
        asked = CohortsConfig(seeds=(0, 1), difficulties=(0.2, 0.8), cells_per_patient=25)
        result = measure_concepts(first, backbone, config=replace(config, cohorts=asked))
        (options.out / "cohorts.md").write_text(concepts_markdown(result) + "\n", encoding="utf-8")


def train(data: Path, out: Path, backbone: Backbone, kinds: list[str]) -> dict[str, SparseAutoencoder]:
    """One SAE of each of these kinds; prints what it explains of the tokens of real and of drawn cells."""
    drawn = out / "drawn"
    if not drawn.is_dir():
        synthesize(drawn, **DRAWN)
    stores: list[TokenStore] = [
        extract(read_cells(images, name=images.name), backbone, out / "tokens" / images.name)
        for images in (data / "apl_cohort", drawn)
    ]
    saes: dict[str, SparseAutoencoder] = {}
    for name in kinds:
        place = out / "saes" / name.replace(" ", "_")
        if not place.is_dir():
            save_sae(fit(KINDS[name], stores), place)
        saes[name] = load_sae(place)
        real, other = (evaluate(saes[name], store, 32_768) for store in stores)
        print(
            f"{name}: explained variance {real.explained_variance:.3f} and {other.explained_variance:.3f}, "
            f"L0 {real.l0:.1f} and {other.l0:.1f}",
            flush=True,
        )
    return saes


def fit(recipe: Recipe, stores: list[TokenStore]) -> SparseAutoencoder:
    """Train an SAE of this kind."""
    sae = recipe.build(stores[0].width)
    reader = TokenReader(stores, ReaderConfig(batch_tokens=recipe.train.batch_tokens))
    Trainer(sae, recipe.train).fit(reader)
    return sae.eval()


if __name__ == "__main__":
    main()

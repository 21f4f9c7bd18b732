"""The table and plot of a sweep, and the named recipes."""

from __future__ import annotations

import pandas as pd
import pytest
from PIL import Image

from cytosae.common.errors import UsageError
from cytosae.sae import (
    RECIPES,
    BatchTopK,
    Matryoshka,
    Metrics,
    NoNormalisation,
    ReluL1,
    SparseAutoencoder,
    TopK,
    TrainConfig,
    write_sweep,
)


def metrics(l0, explained):
    return Metrics(0.1, explained, explained - 0.2, explained - 0.1, l0, 0.0, 1000)


def test_sweep_writes_table_and_plot(tmp_path):
    saes = {
        "wide": SparseAutoencoder(4, 32, TopK(8)),
        "narrow": SparseAutoencoder(4, 16, TopK(4)),
        "one": SparseAutoencoder(4, 16, TopK(1)),
        "batch": SparseAutoencoder(4, 16, BatchTopK(2)),
        "nested": SparseAutoencoder(4, 16, Matryoshka(2)),
    }
    figures = [metrics(8.0, 0.9), metrics(4.0, 0.8), metrics(1.0, 0.5), metrics(2.0, 0.7), metrics(2.0, 0.6)]
    table = write_sweep(tmp_path / "sweep", saes, figures)
    read = pd.read_csv(tmp_path / "sweep" / "sweep.csv")
    assert list(read["name"]) == list(table["name"]) == ["batch", "nested", "one", "narrow", "wide"]
    assert read.set_index("name").loc["narrow", ["k", "l0", "explained_variance"]].tolist() == [4, 4.0, 0.8]
    assert {"explained_variance_after_position", "explained_variance_whitened", "dead_share", "seed"} <= set(read)
    with Image.open(tmp_path / "sweep" / "sweep.png") as image:
        assert image.width > 1000
    assert "<svg" in (tmp_path / "sweep" / "sweep.svg").read_text()


def test_metrics_must_match_the_saes(tmp_path):
    with pytest.raises(UsageError, match="metrics of each"):
        write_sweep(tmp_path, {"a": SparseAutoencoder(4, 8)}, [])


def test_paper_recipe_is_the_papers():
    recipe = RECIPES["paper"]
    assert recipe.train == TrainConfig.paper()
    sae = recipe.build(8)
    assert (sae.d_sae, sae.sparsity, sae.normalisation) == (512, ReluL1(8e-5), NoNormalisation())


def test_every_recipe_builds_an_sae():
    for recipe in RECIPES.values():
        sae = recipe.build(16, seed=3)
        assert (sae.d_sae, sae.seed) == (16 * recipe.expansion, 3)

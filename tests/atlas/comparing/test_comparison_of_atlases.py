"""Two atlases: of one SAE on two data sets, or of two SAEs on the same cells."""

from __future__ import annotations

import json

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from sklearn.metrics import roc_auc_score

from cytosae.atlas import compare_atlases, import_official, match_directions, match_profiles, save_atlas
from cytosae.atlas.comparing import matching
from cytosae.atlas.encoding.unreconstructed import unreconstructed_shares
from cytosae.atlas.making.column_ranks import column_aucs
from cytosae.cli import main
from cytosae.common.errors import UsageError
from cytosae.sae import SparseAutoencoder, TopK


def atlas_of(means, labels, *, name="a", sae="one", references=2):
    """An atlas whose slots follow from the mean activations (n, m) alone."""
    X = np.asarray(means, np.float32)
    n, m = X.shape
    order = np.argsort(-X, axis=0, kind="stable")[:references].T
    values = np.take_along_axis(X, order.T, axis=0).T
    active = (X > 0).sum(0)
    var = pd.DataFrame(
        {
            "cells_active": active,
            "activation_frequency": active / n,
            "mean_activation": X.sum(0) / np.where(active, active, np.nan),
        },
        index=[str(j) for j in range(m)],
    )
    ids = [f"{name}{i}" for i in range(n)]
    reference = {"rows": np.where(values > 0, order, -1), "values": values, "cell_ids": np.array(ids, dtype=object)}
    provenance = {"dataset": name, "sae": sae, "backbone": "{}", "cells": name, "tokens": name}
    obs = pd.DataFrame({"label": pd.Categorical(labels)}, index=ids)
    uns = {"reference_cells": reference, "provenance": provenance, "classes": np.unique(labels)}
    return ad.AnnData(X=sp.csr_matrix(X), obs=obs, var=var, uns=uns)


def test_types_marked_on_one_data_set_are_asked_for_on_the_other():
    # latent 0 marks x on a and on b, latent 1 marks y on a but fires on x on b, latent 2 is dead on b
    a = atlas_of([[3, 0, 1], [2, 0, 1], [0, 2, 1], [0, 4, 1]], ["x", "x", "y", "y"])
    b = atlas_of([[1, 5, 0], [2, 1, 0], [0, 0, 0], [0, 0, 0]], ["x", "x", "y", "y"], name="b")
    found = compare_atlases(a, b)
    assert found.table["marks"].astype(object).tolist()[:2] == ["x", "y"]
    np.testing.assert_allclose(found.table["auc"], [1, 0, np.nan])
    np.testing.assert_allclose(found.table["overlap"], [1, 0, np.nan])
    assert found.figures["shared"] == 2
    assert found.figures["alive_a"] == 3
    assert found.figures["overlap"] == 0.5
    assert found.figures["auc"] == 0.5


def test_a_latent_is_specific_where_it_is_ten_times_as_frequent_and_that_is_no_accident():
    rng = np.random.default_rng(0)
    often, rare = rng.random((400, 1)) < 0.5, rng.random((400, 1)) < 0.02
    once = np.zeros((400, 1))
    once[0] = 1  # never seen on b, but that is no evidence
    a = atlas_of(np.hstack([often, often, rare, once]), ["x"] * 400)
    b = atlas_of(np.hstack([rare, often, often, 0 * once]), ["x"] * 400, name="b")
    assert compare_atlases(a, b).table["specific"].tolist() == ["a", "", "b", ""]


def test_a_cell_is_unusual_whose_latents_are_rare_on_the_other_data_set():
    common = np.ones((200, 1))
    rare = np.zeros((200, 1))
    rare[0] = 1
    a = atlas_of(np.hstack([common, rare]), ["x"] * 200)
    b = atlas_of([[1, 0], [1, 0], [0, 1]], ["x"] * 3, name="b")
    found = compare_atlases(a, b)
    assert found.cells.index[0] == "b2"
    assert found.cells["unusual"].tolist() == [True, False, False]
    np.testing.assert_allclose(found.cells["unusualness"].iloc[0], -np.log(2 / 202))
    np.testing.assert_allclose(found.cells["unusualness"].iloc[1], -np.log(201 / 202))
    assert found.figures["unusual_b"] == pytest.approx(1 / 3)


def test_atlases_of_different_saes_are_not_compared_latent_by_latent():
    a, b = (atlas_of(np.eye(3), ["x"] * 3, sae=sae) for sae in ("one", "two"))
    with pytest.raises(UsageError, match="different SAEs"):
        compare_atlases(a, b)


def test_the_published_statistics_agree_across_data_sets_as_published(shared_reference):
    folder = shared_reference / "official_feature_data"
    found = compare_atlases(*(import_official(folder / name).atlas for name in ("mll23", "hehr")))
    assert round(found.figures["frequency_correlation"], 3) == 0.789
    assert round(found.figures["mean_correlation"], 3) == 0.963
    assert found.figures["shared"] == 49_152
    assert np.isnan(found.figures["overlap"])  # the labels of one are types, of the other patients


def test_aucs_of_sparse_columns_are_those_of_the_dense_ones():
    rng = np.random.default_rng(1)
    X = np.round(rng.random((60, 9)) * (rng.random((60, 9)) < 0.5), 1)
    codes, wanted = rng.integers(-1, 3, 60), rng.integers(-1, 3, 9)
    known = codes >= 0
    expected = [
        np.nan if c < 0 else roc_auc_score(codes[known] == c, X[known, j]) for j, c in enumerate(wanted.tolist())
    ]
    np.testing.assert_allclose(column_aucs(sp.csc_array(X), codes, wanted), expected)


@pytest.mark.parametrize("dense", [1 << 25, 0])
def test_latents_dealt_out_anew_are_found_again(monkeypatch, dense):
    monkeypatch.setattr(matching, "DENSE_PAIRS", dense)
    rng = np.random.default_rng(2)
    X = rng.random((80, 12)) * (rng.random((80, 12)) < 0.4)
    X[:, 3] = 0  # dead: in no pair
    order = rng.permutation(12)
    a = atlas_of(X, ["x"] * 80)
    b = atlas_of(2 * X[:, order] + rng.normal(0, 0.01, (80, 12)).clip(0), ["x"] * 80, sae="two")
    found = match_profiles(a, b[rng.permutation(80)].copy())
    assert {(int(i), int(j)) for i, j in zip(found.table["a"], found.table["b"], strict=True) if i != 3} >= {
        (int(order[j]), j) for j in range(12) if order[j] != 3
    }
    assert found.mean > 0.9 > 0.6 > found.by_chance


def test_directions_dealt_out_anew_are_found_again():
    one, other = SparseAutoencoder(32, 20, TopK(k=2)), SparseAutoencoder(32, 20, TopK(k=2))
    order = torch.randperm(20, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        other.W_dec.copy_(5 * one.W_dec[order])
    found = match_directions(one, other)
    assert sorted(zip(found.table["b"], found.table["a"], strict=True)) == list(enumerate(order.tolist()))
    assert found.mean == pytest.approx(1, abs=1e-5)
    assert found.by_chance < 0.7


def test_atlases_without_common_cells_are_refused():
    a, b = atlas_of(np.eye(12), ["x"] * 12), atlas_of(np.eye(12), ["x"] * 12, name="b", sae="two")
    with pytest.raises(UsageError, match="0 cells in common"):
        match_profiles(a, b)


def test_what_is_not_reconstructed_is_a_share_of_the_norm(chain):
    class Halves:
        def __call__(self, x, positions):
            return 0.5 * x

    np.testing.assert_allclose(unreconstructed_shares(Halves(), chain[1], batch_cells=5), 0.5, rtol=1e-6)


def test_the_command_compares_and_writes_a_page(tmp_path, capsys):
    rng = np.random.default_rng(0)
    X = rng.random((40, 6)) * (rng.random((40, 6)) < 0.5)
    paths = []
    for name, sae in (("a", "one"), ("b", "one"), ("c", "two")):
        atlas = atlas_of(X, ["x", "y"] * 20, name="a" if name == "c" else name, sae=sae)
        for column in ("label_entropy", "position_dependence", "central_share", "top_class"):
            atlas.var[column] = pd.Categorical(["x"] * 6) if column == "top_class" else 0.5
        for column in ("token_frequency", "max_token_activation", "class_selectivity"):
            atlas.var[column] = 0.5
        atlas.varm["class_mean"] = np.ones((6, 2))
        paths.append(str(save_atlas(atlas, tmp_path / f"{name}.h5ad")))
    assert main(["compare", *paths, "--out", str(tmp_path / "out"), "--json"]) == 0
    first, second = json.loads(capsys.readouterr().out)["comparisons"]
    assert first["frequency_correlation"] == pytest.approx(1)
    assert second["matched"]["correlation over cells"]["mean"] == pytest.approx(1)
    assert "Concepts of a on b" in (tmp_path / "out" / "a_b.html").read_text()
    assert (tmp_path / "out" / "a_b.csv").is_file()

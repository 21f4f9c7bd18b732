from __future__ import annotations

import functools
import json

import numpy as np
import pandas as pd
import pytest
import scanpy
import scipy.sparse as sp
import torch
from atlas.stub_chain import StubSae, make_chain

from cytosae.atlas import build_atlas, build_piece, open_atlas, reference_table, save_atlas
from cytosae.common.artifact import read_artifact
from cytosae.common.errors import ArtifactError, InputError
from cytosae.sae import ReluL1


def test_atlas_holds_the_mean_activation_over_all_tokens_cls_included(chain):
    sae, store, cells = chain
    atlas = build_atlas(sae, store, cells, batch_cells=4)
    expected = sae.encode(store.tokens).mean(1).numpy()
    assert sp.issparse(atlas.X)
    assert atlas.X.dtype == np.float32
    np.testing.assert_allclose(atlas.X.toarray(), expected, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(atlas.obsm["X_backbone"], store.tokens.mean(1).numpy(), rtol=1e-6)


@pytest.mark.parametrize("batch", [1, 4, 100])
@pytest.mark.parametrize("tau", [0.0, 0.2, 1.5])
def test_tokens_above_tau_are_counted_for_each_cell(chain, tau, batch):
    sae, store, cells = chain
    atlas = build_atlas(sae, store, cells, tau=tau, batch_cells=batch)
    counts = atlas.layers["tokens_above"]
    assert sp.issparse(counts)
    assert counts.format == "csr"
    assert counts.dtype == np.int32
    np.testing.assert_array_equal(counts.toarray(), (sae.encode(store.tokens) > tau).sum(1).numpy())
    assert (counts.data > 0).all()
    assert atlas.uns["provenance"]["tau"] == tau


def test_tau_of_the_paper_holds_for_relu_with_l1_and_scales_with_the_activations_otherwise(chain):
    sae, store, cells = chain
    dense = sae.encode(store.tokens).numpy()
    tau = build_atlas(sae, store, cells).uns["provenance"]["tau"]
    assert tau == pytest.approx(np.median(dense[dense > 0]))
    sae.W_enc, sae.b_enc = 10 * sae.W_enc, 10 * sae.b_enc
    again = build_atlas(sae, store, cells)
    assert again.uns["provenance"]["tau"] == pytest.approx(10 * tau, rel=1e-5)
    assert abs(again.layers["tokens_above"].toarray() - (dense > tau).sum(1)).sum() <= 1
    sae.sparsity = ReluL1()
    assert build_atlas(sae, store, cells).uns["provenance"]["tau"] == 0.2


def test_impossible_tau_and_silent_sae_are_told_in_a_sentence(chain):
    sae, store, cells = chain
    with pytest.raises(InputError, match="tau is -1"):
        build_atlas(sae, store, cells, tau=-1)
    sae.b_enc = sae.b_enc - 1e6
    with pytest.raises(InputError, match="active on none"):
        build_atlas(sae, store, cells)


def test_latent_statistics_agree_with_the_dense_activations(chain):
    sae, store, cells = chain
    var = build_atlas(sae, store, cells).var
    dense = sae.encode(store.tokens).numpy()
    mean = dense.mean(1)
    np.testing.assert_allclose(var["activation_frequency"], (mean > 0).mean(0))
    np.testing.assert_allclose(var["token_frequency"], (dense > 0).mean((0, 1)))
    np.testing.assert_allclose(var["max_activation"], mean.max(0), rtol=1e-5)
    np.testing.assert_allclose(var["max_token_activation"], dense.max((0, 1)), rtol=1e-6)
    assert var.loc["3", ["mean_activation", "label_entropy", "position_dependence"]].isna().all()
    assert pd.isna(var["top_class"]["3"])
    alive = var["cells_active"] > 0
    with np.errstate(invalid="ignore"):
        expected = mean.sum(0) / (mean > 0).sum(0)
    np.testing.assert_allclose(var["mean_activation"][alive], expected[alive], rtol=1e-5)


def test_class_means_are_over_all_cells_of_a_class(chain):
    sae, store, cells = chain
    atlas = build_atlas(sae, store, cells)
    mean = sae.encode(store.tokens).mean(1).numpy()
    labels = cells.frame["label"].to_numpy(object, na_value=None)
    for c, name in enumerate(atlas.uns["classes"]):
        rows = [i for i, label in enumerate(labels) if label == name]
        np.testing.assert_allclose(atlas.varm["class_mean"][:, c], mean[rows].mean(0), rtol=1e-5, atol=1e-8)
        assert atlas.uns["class_cells"][c] == len(rows)


@pytest.mark.parametrize("batch", [1, 3, 23, 100])
def test_batch_size_does_not_matter(chain, batch):
    sae, store, cells = chain
    one, other = build_atlas(sae, store, cells, batch_cells=7), build_atlas(sae, store, cells, batch_cells=batch)
    np.testing.assert_allclose(one.X.toarray(), other.X.toarray(), rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(one.uns["reference_cells"]["rows"], other.uns["reference_cells"]["rows"])


def test_pieces_of_shards_merge_into_the_whole(chain):
    sae, store, _ = chain
    labels = np.arange(23) % 3
    whole = build_piece(sae, store, labels=labels, n_classes=3)
    bounds = [(16, 23), (0, 5), (5, 16)]
    parts = [build_piece(sae, store, labels=labels, n_classes=3, start=a, stop=b) for a, b in bounds]
    merged = functools.reduce(lambda a, b: a.merge(b), [parts[1], parts[2], parts[0]])
    np.testing.assert_allclose(merged.means.toarray(), whole.means.toarray(), rtol=1e-6)
    np.testing.assert_array_equal(merged.above.toarray(), whole.above.toarray())
    np.testing.assert_allclose(merged.mean_tokens, whole.mean_tokens)
    np.testing.assert_array_equal(merged.statistics.reference_rows, whole.statistics.reference_rows)
    with pytest.raises(ValueError, match="adjoin"):
        parts[0].merge(parts[1])
    with pytest.raises(ValueError, match="thresholds"):
        parts[1].merge(build_piece(sae, store, labels=labels, n_classes=3, start=5, stop=16, tau=0.7))


def test_scanpy_opens_the_file_with_the_columns_of_the_cell_table(chain, tmp_path):
    sae, store, cells = chain
    path = save_atlas(build_atlas(sae, store, cells), tmp_path / "atlas" / "stub.h5ad")
    atlas = scanpy.read_h5ad(path)
    assert atlas.shape == (23, 30)
    assert atlas.obs_names.tolist() == list(cells.frame["cell_id"])
    assert set(cells.frame.columns) - {"cell_id"} == set(atlas.obs.columns)
    assert atlas.obs["label"].isna().sum() == cells.frame["label"].isna().sum()
    assert atlas.obs["patient"].isna().all()
    assert atlas.obs["width"].tolist() == [64] * 23
    assert np.isnan(atlas.obs["score"].iloc[2])
    assert list(atlas.uns["classes"]) == cells.labels
    assert json.loads(atlas.uns["provenance"]["backbone"])["name"] == "stub"
    scanpy.pp.neighbors(atlas, use_rep="X_backbone", n_neighbors=5)


def test_file_is_an_artifact_that_names_its_inputs_and_is_checked(chain, tmp_path):
    sae, store, cells = chain
    path = save_atlas(build_atlas(sae, store, cells), tmp_path / "stub.h5ad")
    artifact = read_artifact(path, "atlas")
    assert artifact.inputs == {"sae": "sae-stub", "tokens": "tokens-stub", "cells": "cells-stub"}
    assert open_atlas(path).n_obs == 23
    again = save_atlas(build_atlas(sae, store, cells), tmp_path / "again" / "stub.h5ad")
    assert read_artifact(again).files == artifact.files
    with path.open("r+b") as file:
        file.seek(1000)
        file.write(b"xxxxx")
    with pytest.raises(ArtifactError, match="checksum"):
        open_atlas(path)


def test_reference_cells_are_found_by_content_after_subsetting(chain):
    sae, store, cells = chain
    atlas = build_atlas(sae, store, cells)
    table = reference_table(atlas, 5)
    values = atlas.X.toarray()[:, 5]
    assert table["value"].is_monotonic_decreasing
    np.testing.assert_array_equal(values[table["row"]], table["value"])
    some = atlas[::-1][:12].copy()
    subset = reference_table(some, 5)
    assert subset.index.tolist() == table.index.tolist()
    for cell, row in subset["row"].items():
        assert (some.obs_names[row] == cell) if row >= 0 else (cell not in some.obs_names)


def test_cells_are_matched_by_content_not_by_position(chain):
    sae, store, cells = chain
    before = build_atlas(sae, store, cells)
    cells.frame = cells.frame.sample(frac=1, random_state=np.random.RandomState(0)).reset_index(drop=True)
    after = build_atlas(sae, store, cells)
    pd.testing.assert_frame_equal(before.obs, after.obs)


def test_unlabelled_cells_give_an_atlas_without_entropy(tmp_path):
    sae, store, cells = make_chain(9)
    cells.frame["label"] = pd.array([None] * 9, dtype="string")
    atlas = open_atlas(save_atlas(build_atlas(sae, store, cells), tmp_path / "a.h5ad"))
    assert atlas.var["label_entropy"].isna().all()
    assert atlas.varm["class_mean"].shape == (30, 0)
    assert len(atlas.uns["classes"]) == 0


def test_wrong_width_and_missing_cells_are_told_in_a_sentence(chain):
    sae, store, cells = chain
    with pytest.raises(InputError, match=r"width 10.*width 12"):
        build_atlas(StubSae(d_in=10), store, cells)
    cells.frame = cells.frame.iloc[:20]
    with pytest.raises(InputError, match="3 cells that the table"):
        build_atlas(sae, store, cells)


def test_encoding_never_asks_for_a_dense_matrix(chain, monkeypatch):
    sae, store, cells = chain
    sparse = {}
    for start in range(0, 23, 32):
        tokens = store.read(start, start + 32)
        flat = tokens.reshape(-1, 12)
        sparse[len(flat)] = sae.encode_sparse(flat, positions=torch.zeros(len(flat)))
    monkeypatch.setattr(sae, "encode", None)
    monkeypatch.setattr(sae, "encode_sparse", lambda x, positions: sparse[len(x)])
    assert build_atlas(sae, store, cells, tau=0.2).n_obs == 23

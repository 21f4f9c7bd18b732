from __future__ import annotations

import importlib

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from cohort.small_chain import APL_LATENT, TAU, TYPES
from hypothesis import given, settings
from hypothesis import strategies as st

from cytosae.atlas.stored.matrix import layer_names
from cytosae.cohort import barcodes, cell_matrix, near_duplicates, open_cohort, patient_correlation, save_cohort
from cytosae.common.artifact import read_artifact
from cytosae.common.errors import ArtifactError, InputError, UsageError

KINDS = ("presence", "mean", "count")


def dense(chain, kind: str) -> tuple[pd.DataFrame, np.ndarray]:
    """Cells and their values straight from the planted activations."""
    _, store, cells = chain
    above = (store.activations > TAU).sum(1)
    values = {"presence": above > 0, "mean": store.activations.mean(1), "count": above}[kind]
    return cells.frame, values.astype(np.float64)


@pytest.mark.parametrize("kind", KINDS)
def test_barcodes_agree_with_the_dense_activations(small_chain, small_atlas, kind):
    result = barcodes(small_atlas)
    frame, values = dense(small_chain, kind)
    assert result.obs_names.tolist() == sorted(set(frame["patient"]))
    for row, patient in enumerate(result.obs_names):
        own = values[(frame["patient"] == patient).to_numpy()]
        np.testing.assert_allclose(result.layers[kind][row], own.mean(0), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(
            result.layers[f"{kind}_se"][row], own.std(0) / np.sqrt(len(own)), rtol=1e-4, atol=1e-5
        )
        assert result.obs["n_cells"].iloc[row] == len(own)
    assert result.layers[kind].dtype == np.float32
    np.testing.assert_array_equal(result.X, result.layers["presence"])


def test_standard_error_is_what_resampling_cells_gives(small_chain, small_atlas):
    result = barcodes(small_atlas, kinds=["count"])
    frame, values = dense(small_chain, "count")
    own = values[(frame["patient"] == "P00").to_numpy()][:, APL_LATENT]
    rng = np.random.default_rng(0)
    means = own[rng.integers(0, len(own), (20000, len(own)))].mean(1)
    assert result.layers["count_se"][0, APL_LATENT] == pytest.approx(means.std(), rel=0.03)


def test_published_scaling_grows_with_the_number_of_cells(small_chain, small_atlas):
    frame, values = dense(small_chain, "count")
    published = barcodes(small_atlas, kinds=["count"], scaling="published")
    own = values[(frame["patient"] == "P07").to_numpy()]
    np.testing.assert_allclose(published.layers["count"][7], own.sum(0) / 64, rtol=1e-5)
    np.testing.assert_allclose(
        published.layers["count_se"][7], own.std(0) * np.sqrt(len(own)) / 64, rtol=1e-4, atol=1e-6
    )
    assert published.uns["barcode"]["scaling"] == "published"


@pytest.mark.parametrize("kind", KINDS)
def test_mean_of_a_patients_rows_of_the_cell_matrix_is_the_barcode(small_atlas, kind):
    matrix = cell_matrix(small_atlas, kind)
    assert (matrix.format, matrix.dtype, matrix.shape) == ("csr", np.float64, small_atlas.shape)
    result = barcodes(small_atlas, kinds=[kind])
    own = (small_atlas.obs["patient"] == "P11").to_numpy()
    np.testing.assert_allclose(result.X[11], np.asarray(matrix[own].mean(0)).ravel(), rtol=1e-6, atol=1e-9)
    assert layer_names(result) == [kind, f"{kind}_se"]


@pytest.mark.parametrize("value", [None, "own"])
def test_another_column_than_patient_may_name_the_patients(small_atlas, tmp_path, value):
    small_atlas.obs["case no"] = small_atlas.obs["patient"].astype(str)
    small_atlas.obs["gap"] = pd.array([20190000123456789] * small_atlas.n_obs, dtype="Int64")
    small_atlas.obs.loc[small_atlas.obs["case no"] == "P00", "gap"] = pd.NA
    if value is None:
        small_atlas.obs["patient"] = pd.Categorical([None] * small_atlas.n_obs, categories=[])
    result = barcodes(small_atlas, patient="case no")
    save_cohort(result, tmp_path / "cohort.h5ad")
    obs = open_cohort(tmp_path / "cohort.h5ad").obs
    assert obs.index.tolist() == sorted(set(small_atlas.obs["case no"]))
    assert obs["gap"].tolist()[:2] == [pd.NA, 20190000123456789]


def test_obs_has_diagnosis_and_what_is_constant_within_patients(small_atlas):
    small_atlas.obs["score"] = np.arange(small_atlas.n_obs, dtype=float)
    small_atlas.obs.loc[small_atlas.obs_names[3], "age"] = np.nan
    obs = barcodes(small_atlas).obs
    assert {"diagnosis", "n_cells", "age", "sex", "width"} <= set(obs.columns)
    assert not {"score", "label", "image", "patient", "true_label"} & set(obs.columns)
    assert obs["diagnosis"].tolist() == ["APL"] * 12 + ["AML"] * 12
    of_cells = small_atlas.obs.groupby("patient", observed=True)["age"].max()
    assert obs["age"].tolist() == of_cells.tolist()


def test_cell_types_are_shares_of_the_labelled_cells(small_atlas):
    types = barcodes(small_atlas).obsm["cell_types"]
    assert set(types.columns) == set(TYPES)
    np.testing.assert_allclose(types.sum(axis=1), 1)
    own = small_atlas.obs[small_atlas.obs["patient"] == "P00"]["label"].dropna()
    assert types.loc["P00", "monocyte"] == pytest.approx((own == "monocyte").mean())
    small_atlas.obs.loc[small_atlas.obs["patient"] == "P01", "label"] = np.nan
    assert barcodes(small_atlas).obsm["cell_types"].loc["P01"].isna().all()
    del small_atlas.obs["label"]
    assert barcodes(small_atlas).obsm["cell_types"].shape == (24, 0)


def test_mean_token_is_over_the_patients_cells(small_atlas):
    result = barcodes(small_atlas)
    own = (small_atlas.obs["patient"] == "P05").to_numpy()
    np.testing.assert_allclose(result.obsm["X_backbone"][5], small_atlas.obsm["X_backbone"][own].mean(0), rtol=1e-5)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), entries=st.integers(1, 200))
def test_order_of_cells_and_size_of_blocks_do_not_matter(seed, entries):
    rng = np.random.default_rng(seed)
    n, m = int(rng.integers(1, 40)), int(rng.integers(1, 9))
    counts = sp.random_array(
        (n, m), density=0.4, rng=rng, format="csr", data_sampler=lambda size: rng.integers(1, 9, size)
    )
    obs = pd.DataFrame({"patient": rng.choice(["a", "b", "c"], n)}, index=[f"cell{i}" for i in range(n)])
    atlas = ad.AnnData(sp.csr_matrix(counts.astype(np.float32) / 9), obs=obs)
    atlas.layers["tokens_above"] = sp.csr_matrix(counts.astype(np.int32))
    whole = barcodes(atlas, diagnosis=None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(importlib.import_module("cytosae.cohort.patients.barcodes"), "BLOCK_ENTRIES", entries)
        parts = barcodes(atlas[rng.permutation(n)].copy(), diagnosis=None)
    for name in layer_names(whole):
        np.testing.assert_allclose(parts.layers[name], whole.layers[name], rtol=1e-5, atol=1e-7)
    assert parts.obs_names.tolist() == sorted(set(obs["patient"]))


def test_cells_without_a_patient_are_left_out_and_counted(small_atlas):
    before = barcodes(small_atlas)
    small_atlas.obs.loc[small_atlas.obs["patient"] == "P02", "patient"] = np.nan
    result = barcodes(small_atlas)
    lost = int(before.obs.loc["P02", "n_cells"])
    assert result.uns["barcode"]["dropped_cells"] == lost
    assert f"{lost} cells name no patient" in result.uns["barcode"]["notes"][0]
    np.testing.assert_array_equal(result.X, before.X[[i for i in range(24) if i != 2]])


def test_barcodes_of_some_cells_leave_out_patients_without_enough_of_them(small_atlas):
    immature = small_atlas.obs["true_label"].isin(["promyelocyte", "myeloblast"]).to_numpy()
    immature = immature & (small_atlas.obs["patient"] != "P09").to_numpy()
    result = barcodes(small_atlas, cells=immature)
    assert "P09" not in result.obs_names
    assert result.uns["barcode"]["left_out"].tolist() == ["P09"]
    assert "fewer than 1 usable cells and are left out: P09" in result.uns["barcode"]["notes"][0]
    own = (small_atlas.obs["patient"] == "P00").to_numpy() & immature
    np.testing.assert_allclose(result.X[0], np.asarray(cell_matrix(small_atlas, "presence")[own].mean(0)).ravel())
    assert barcodes(small_atlas, cells=immature, min_cells=10).n_obs < result.n_obs
    with pytest.raises(InputError, match="No patient has 99 usable cells"):
        barcodes(small_atlas, min_cells=99)
    with pytest.raises(InputError, match="one value a cell"):
        barcodes(small_atlas, cells=immature[1:])


def test_missing_columns_and_layers_are_told_in_a_sentence(small_atlas):
    with pytest.raises(InputError, match="no column 'case'.*patient"):
        barcodes(small_atlas, patient="case")
    with pytest.raises(InputError, match="no column 'disease'"):
        barcodes(small_atlas, diagnosis="disease")
    with pytest.raises(UsageError, match="no barcode 'sum'"):
        barcodes(small_atlas, kinds=["sum"])
    with pytest.raises(UsageError, match="no kind"):
        barcodes(small_atlas, kinds=[])
    with pytest.raises(UsageError, match="scaling 'none'"):
        barcodes(small_atlas, scaling="none")
    assert "diagnosis" not in barcodes(small_atlas, diagnosis=None).uns["barcode"]["notes"]
    del small_atlas.layers["tokens_above"]
    with pytest.raises(InputError, match="build the atlas again"):
        barcodes(small_atlas)
    assert barcodes(small_atlas, kinds=["mean"]).n_obs == 24
    small_atlas.obs["patient"] = None
    with pytest.raises(InputError, match="No cell has a patient"):
        barcodes(small_atlas)


def test_a_patient_with_two_diagnoses_is_refused_by_name(small_atlas):
    place = np.flatnonzero(small_atlas.obs["patient"] == "P15")[0]
    small_atlas.obs["diagnosis"] = small_atlas.obs["diagnosis"].astype(object)
    small_atlas.obs.iloc[place, small_atlas.obs.columns.get_loc("diagnosis")] = "APL"
    with pytest.raises(InputError, match=r"'P15' has 2 diagnoses.*AML, APL"):
        barcodes(small_atlas)


def test_diagnoses_spelled_twice_are_pointed_out(small_atlas):
    values = small_atlas.obs["diagnosis"].astype(object)
    values[small_atlas.obs["patient"] == "P15"] = "aml "
    values[small_atlas.obs["patient"] == "P16"] = None
    small_atlas.obs["diagnosis"] = values
    result = barcodes(small_atlas)
    assert "The diagnoses 'AML' and 'aml ' may be the same, spelled twice." in result.uns["barcode"]["notes"]
    assert "1 patients have no diagnosis." in result.uns["barcode"]["notes"]


@pytest.mark.parametrize(
    ("values", "pairs"),
    [
        (["APL", "AML", "ALL", "AML"], []),
        (["NPM1", "NPM2", "NPM3"], []),
        (
            ["control", "controls", "Control"],
            [("Control", "control"), ("Control", "controls"), ("control", "controls")],
        ),
        (["PML::RARA", "PML-RARA"], [("PML-RARA", "PML::RARA")]),
        (["lymphoma", "lypmhoma"], [("lymphoma", "lypmhoma")]),
        (["FLT3+", "FLT3-"], []),
        (["myelofibrosis", "myelofibroses", "myelodysplasia"], [("myelofibroses", "myelofibrosis")]),
    ],
)
def test_near_duplicates_are_slips_and_not_short_or_numbered_names(values, pairs):
    assert near_duplicates(values) == pairs


def test_saved_cohort_is_an_artifact_and_comes_back_whole(small_atlas, tmp_path):
    result = barcodes(small_atlas)
    path = save_cohort(result, tmp_path / "cohort.h5ad", inputs={"atlas/small": "abc"})
    artifact = read_artifact(path, "cohort")
    assert artifact.details == {"patients": 24, "latents": 64, "cells": small_atlas.n_obs}
    again = open_cohort(path)
    np.testing.assert_array_equal(again.layers["count_se"], result.layers["count_se"])
    pd.testing.assert_frame_equal(again.obsm["cell_types"], result.obsm["cell_types"], check_names=False)
    pd.testing.assert_frame_equal(again.obs, result.obs, check_names=False)
    assert again.uns["barcode"]["tau"] == TAU
    assert list(again.uns["barcode"]["kinds"]) == list(KINDS)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(ArtifactError, match="checksum"):
        open_cohort(path)


def test_patient_correlation_is_numpys_and_nan_for_constant_barcodes(small_atlas):
    result = barcodes(small_atlas)
    table = patient_correlation(result, "mean")
    assert list(table.index) == list(table.columns) == list(result.obs_names)
    np.testing.assert_allclose(table, np.corrcoef(result.layers["mean"].astype(np.float64)), atol=1e-9)
    centred = result.X - result.X.mean(0)
    np.testing.assert_allclose(
        patient_correlation(result, centred=True), np.corrcoef(centred.astype(np.float64)), atol=1e-5
    )
    result.X[3] = 0.25
    table = patient_correlation(result)
    assert table.iloc[3].isna().all()
    assert table.drop(index="P03", columns="P03").notna().all(axis=None)


def test_same_disease_correlates_more_than_another(small_atlas):
    table = patient_correlation(barcodes(small_atlas), centred=True).to_numpy()
    same = np.concatenate([table[:12, :12][np.triu_indices(12, 1)], table[12:, 12:][np.triu_indices(12, 1)]])
    assert same.mean() > table[:12, 12:].mean() + 0.2

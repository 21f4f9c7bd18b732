from __future__ import annotations

from itertools import permutations

import numpy as np
import pandas as pd
import pytest
from cohort.small_chain import AML_LATENT, APL_LATENT
from sklearn.metrics import average_precision_score

from cytosae.cells import CellTable
from cytosae.cohort import (
    Intervals,
    barcodes,
    contrast,
    enrichment,
    evaluate_rankings,
    expert_labels,
    neighbour_scores,
    pathognomonic_cells,
    truth_of_labels,
)
from cytosae.cohort.explanation.pathognomonic import SpecificConcepts
from cytosae.cohort.explanation.ranking import average_precision, expected_ap
from cytosae.cohort.patients.barcodes import cell_matrix
from cytosae.common.errors import InputError, UsageError

KINDS = ("presence", "mean", "count")


def scores_of(atlas, ranking: pd.DataFrame) -> np.ndarray:
    return ranking.set_index("cell_id")["score"].reindex(atlas.obs_names).to_numpy()


@pytest.mark.parametrize("kind", KINDS)
def test_left_out_statistics_are_those_of_a_contrast_without_the_patient(small_atlas, kind):
    cohort = barcodes(small_atlas)
    concepts = SpecificConcepts(cohort, kind, np.arange(12), np.arange(12, 24))
    for row in (0, 7, 15):
        others = contrast(
            cohort[np.arange(24) != row].copy(), "APL", "AML", kind=kind, intervals=Intervals(resamples=2)
        )
        np.testing.assert_allclose(concepts.delta(row), others["cliffs_delta"], atol=1e-12)
        latents, weight = concepts.without(row, 64)
        assert (others["cliffs_delta"].iloc[latents] >= 0.474).all()
        assert (np.diff(others["cliffs_delta"].iloc[latents]) <= 0).all()
        frequent = others["mean_b"].iloc[latents].to_numpy() > 0.02
        chosen = others.iloc[latents[frequent]]
        np.testing.assert_allclose(weight[frequent], np.log(chosen["mean_a"] / chosen["mean_b"]), rtol=0.05)
        assert (weight > 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_planted_cells_come_first_and_the_planted_concept_leads(small_atlas, kind):
    ranking = pathognomonic_cells(small_atlas, "APL", kind=kind)
    assert ranking["patient"].unique().tolist() == [f"P{i:02d}" for i in range(12)]
    assert len(ranking) == small_atlas.obs["patient"].isin(ranking["patient"]).sum()
    has = cell_matrix(small_atlas, "presence")[:, [APL_LATENT]].toarray().ravel() > 0
    carriers = set(small_atlas.obs_names[has])
    for _, own in ranking.groupby("patient"):
        assert own["rank"].tolist() == list(range(1, len(own) + 1))
        assert own["score"].is_monotonic_decreasing
        number = own["cell_id"].isin(carriers).sum()
        assert own["cell_id"].head(number).isin(carriers).mean() > 0.7
    best = ranking[ranking["rank"] == 1]
    assert best["leading"].str.split().str[0].eq(str(APL_LATENT)).all()
    assert ranking.attrs["concepts"]["latent"][0] == str(APL_LATENT)
    assert str(AML_LATENT) not in ranking.attrs["concepts"]["latent"]


def test_a_patients_own_cells_do_not_move_its_weights(small_atlas):
    before = pathognomonic_cells(small_atlas, "APL", patients=["P04"]).set_index("cell_id")["score"]
    own = np.flatnonzero(small_atlas.obs["patient"] == "P04")
    counts = small_atlas.layers["tokens_above"].tolil()
    counts[own, 50] = 17  # a concept that this patient alone would make specific
    small_atlas.layers["tokens_above"] = counts.tocsr()
    changed = pathognomonic_cells(small_atlas, "APL", patients=["P04"])
    pd.testing.assert_series_equal(changed.set_index("cell_id")["score"], before, check_like=True)
    other = pathognomonic_cells(small_atlas, "APL", patients=["P05"])
    assert len(other.attrs["concepts"]["latent"]) >= 1


def test_score_is_the_sum_of_weights_of_the_concepts_present(small_atlas):
    cohort = barcodes(small_atlas)
    latents, weight = SpecificConcepts(cohort, "presence", np.arange(12), np.arange(12, 24)).without(2, 50)
    ranking = pathognomonic_cells(small_atlas, "APL", patients=["P02"])
    there = cell_matrix(small_atlas, "presence").toarray()[small_atlas.obs_names.get_indexer(ranking["cell_id"])]
    np.testing.assert_allclose(ranking["score"], there[:, latents] @ weight)


def test_strength_counts_beyond_presence_and_scales_out_of_the_score(small_atlas):
    before = pathognomonic_cells(small_atlas, "APL", kind="mean")
    small_atlas.X = small_atlas.X * 100
    after = pathognomonic_cells(small_atlas, "APL", kind="mean")
    np.testing.assert_allclose(after["score"], before["score"], rtol=1e-4)
    assert before["score"].nunique() > pathognomonic_cells(small_atlas, "APL")["score"].nunique()


def test_patients_without_the_disease_can_be_ranked_and_some_cells_passed_over(small_atlas):
    ranking = pathognomonic_cells(small_atlas, "APL", patients=["P20"])
    assert ranking["score"].max() < pathognomonic_cells(small_atlas, "APL")["score"].max()
    immature = small_atlas.obs["true_label"].isin(["promyelocyte", "myeloblast"]).to_numpy()
    some = pathognomonic_cells(small_atlas[immature].copy(), "APL")
    assert set(some["label"].dropna()) == {"promyelocyte", "myeloblast"}
    with pytest.raises(InputError, match="no patient 'P99'"):
        pathognomonic_cells(small_atlas, "APL", patients=["P99"])
    with pytest.raises(InputError, match="diagnosis 'CML'"):
        pathognomonic_cells(small_atlas, "CML")
    one = small_atlas[small_atlas.obs["patient"].isin(["P00", "P12", "P13"])].copy()
    with pytest.raises(InputError, match="at least 2 patients in each group, but there are 1 and 2"):
        pathognomonic_cells(one, "APL")


def test_concepts_find_promyelocytes_better_than_chance_and_neighbours(small_atlas):
    scores = {
        "concepts": scores_of(small_atlas, pathognomonic_cells(small_atlas, "APL")),
        "neighbours": neighbour_scores(small_atlas, "APL"),
    }
    truth = truth_of_labels(small_atlas, {"promyelocyte"})
    result = evaluate_rankings(scores, truth, small_atlas.obs["patient"], k=5)
    table = result.table
    assert table.index.tolist() == ["concepts", "neighbours", "chance"]
    assert table.loc["concepts", "precision"] > 0.8
    assert table.loc["concepts", "average_precision_gain_low"] > 0.2
    assert table.loc["concepts", "precision"] > table.loc["neighbours", "precision"]
    assert table[["precision_low", "precision"]].diff(axis=1)["precision"].ge(0).all()
    assert (result.patients, result.without) == (12, 0)
    gap = result.differences("concepts", "chance")
    assert gap.loc["precision", "mean"] == pytest.approx(table.loc["concepts", "precision_gain"])
    assert gap.loc["precision", "low"] == pytest.approx(table.loc["concepts", "precision_gain_low"])


def test_labels_enriched_among_the_first_cells_are_the_planted_ones(small_atlas):
    table = enrichment(pathognomonic_cells(small_atlas, "APL"), k=5)
    assert table.index[0] == "promyelocyte"
    assert table.loc["promyelocyte", "difference_low"] > 0.3
    assert table.loc["lymphocyte", "difference_high"] < 0
    assert table["top"].sum() == pytest.approx(1)
    assert table["all"].sum() == pytest.approx(1)
    with pytest.raises(InputError, match="no labels"):
        enrichment(pathognomonic_cells(small_atlas, "APL").drop(columns="label"))


def test_average_precision_is_sklearns():
    rng = np.random.default_rng(0)
    for _ in range(20):
        positive = rng.random(30) < 0.3
        positive[rng.integers(30)] = True
        assert average_precision(positive) == pytest.approx(average_precision_score(positive, -np.arange(30)))


@pytest.mark.parametrize(("positives", "cells"), [(1, 1), (1, 4), (2, 5), (3, 6), (4, 4)])
def test_chance_is_the_mean_over_all_orders(positives, cells):
    flags = [1] * positives + [0] * (cells - positives)
    orders = [average_precision(np.array(order, bool)) for order in permutations(flags)]
    assert expected_ap(positives, cells) == pytest.approx(np.mean(orders))


def test_unknown_cells_and_patients_without_positives_are_left_out():
    index = pd.Index(list("abcdefghi"), name="cell_id")
    patients = pd.Series(["x"] * 4 + ["y"] * 3 + ["z"] * 2, index=index)
    truth = pd.Series([True, False, None, False, False, False, False, True, False], index=index, dtype="boolean")
    score = np.array([3.0, 2, 9, np.nan, 1, 2, 3, 1, 1])
    result = evaluate_rankings({"s": score}, truth, patients, k=1, intervals=Intervals(resamples=50))
    own = result.per_patient[result.per_patient["ranking"] == "s"].set_index("patient")
    assert own.loc["x", ["cells", "positives", "precision"]].tolist() == [2, 1, 1.0]
    assert own.loc["z", "precision"] == 1.0  # a tie, broken by the name of the cell
    assert (result.patients, result.without) == (2, 1)
    with pytest.raises(InputError, match="No patient has a cell"):
        evaluate_rankings({"s": score}, truth & False, patients)
    with pytest.raises(InputError, match="'s' has 3 values, but there are 9 cells"):
        evaluate_rankings({"s": score[:3]}, truth, patients)
    with pytest.raises(UsageError, match="added by itself"):
        evaluate_rankings({"chance": score}, truth, patients)


def test_neighbours_are_cells_of_other_patients(small_atlas):
    scores = neighbour_scores(small_atlas, "APL", k=7)
    apl = (small_atlas.obs["diagnosis"] == "APL").to_numpy()
    assert np.isnan(scores[~apl]).all()
    tokens, names = small_atlas.obsm["X_backbone"].astype(float), small_atlas.obs["patient"].astype(str).to_numpy()
    for cell in np.flatnonzero(apl)[::40]:
        others = np.flatnonzero(names != names[cell])
        near = others[np.argsort(((tokens[others] - tokens[cell]) ** 2).sum(1))[:7]]
        assert scores[cell] == pytest.approx(apl[near].mean())
    with pytest.raises(InputError, match="diagnosis 'CML'"):
        neighbour_scores(small_atlas, "CML")
    with pytest.raises(UsageError, match="k is 0"):
        neighbour_scores(small_atlas, "APL", k=0)
    del small_atlas.obsm["X_backbone"]
    with pytest.raises(InputError, match="no 'X_backbone'"):
        neighbour_scores(small_atlas, "APL")


def test_truth_is_missing_where_cells_have_no_label(small_atlas):
    truth = truth_of_labels(small_atlas, {"promyelocyte"})
    labels = small_atlas.obs["label"].astype(object)
    assert truth.isna().tolist() == labels.isna().tolist()
    assert truth.fillna(False).tolist() == (labels == "promyelocyte").tolist()
    with pytest.raises(InputError, match=r"No cell is labelled 'faggot'; the labels are: lymphocyte, monocyte"):
        truth_of_labels(small_atlas, {"faggot"})
    with pytest.raises(InputError, match="no column 'expert_label'"):
        truth_of_labels(small_atlas, {"faggot"}, column="expert_label")


def test_expert_annotations_are_joined_to_the_cells_of_the_atlas(small_atlas, small_chain, tmp_path):
    frame = small_chain[2].frame
    cells = CellTable("hehr", tmp_path, frame, pd.DataFrame(), pd.DataFrame(), "AML_Hehr")
    table = pd.DataFrame(
        {
            "mll_annotation": ["typical promyelocyte", "faggot cell"],
            "prediction": ["PML_RARA", "PML_RARA"],
            "ID": frame["patient"].iloc[[3, 8]].to_numpy(),
            "im_tiffname": [f"{name.split('/')[-1][:2]}.TIF" for name in frame["image"].iloc[[3, 8]]],
        }
    )
    path = tmp_path / "annotations.csv"
    table.to_csv(path, index=False)
    shuffled = small_atlas[::-1].copy()
    found = expert_labels(shuffled, cells, path)
    assert found.index.tolist() == shuffled.obs_names.tolist()
    assert found["expert_label"].notna().sum() == 2
    assert found.loc[frame["cell_id"].iloc[8], "expert_label"] == "faggot cell"
    assert found.loc[frame["cell_id"].iloc[8], "expert_pathognomonic"]
    assert not found.loc[frame["cell_id"].iloc[3], "expert_pathognomonic"]
    assert found["expert_pathognomonic"].isna().sum() == len(found) - 2
    table.assign(ID="nobody").to_csv(path, index=False)
    with pytest.raises(InputError, match="names none of these cells"):
        expert_labels(small_atlas, cells, path)

from __future__ import annotations

from itertools import combinations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from cohort.small_chain import AML_LATENT, APL_LATENT, DEAD_LATENT, ODD_PATIENT, PATIENT_LATENT
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from cytosae.cohort import (
    Intervals,
    barcodes,
    conclusion,
    contrast,
    disease_barcodes,
    open_contrast,
    patient_specific,
    save_contrast,
)
from cytosae.cohort.contrasts.rank_tests import auc_interval, fewest_patients, mann_whitney, smallest_p
from cytosae.cohort.patients.outliers import robust_z
from cytosae.common.artifact import read_artifact
from cytosae.common.errors import InputError, UsageError


def cohort_of(values: np.ndarray, diagnoses: list[str], errors: float = 0.0) -> ad.AnnData:
    obs = pd.DataFrame({"diagnosis": diagnoses}, index=[f"P{i:03d}" for i in range(len(values))])
    layers = {"presence": values.astype(np.float32), "presence_se": np.full(values.shape, errors, np.float32)}
    return ad.AnnData(values.astype(np.float32), obs=obs, layers=layers)


def test_exact_p_without_ties_is_scipys():
    rng = np.random.default_rng(0)
    a, b = rng.normal(0.5, 1, (5, 40)), rng.normal(0, 1, (7, 40))
    auc, p, method = mann_whitney(a, b)
    expected = stats.mannwhitneyu(a, b, axis=0, method="exact")
    assert method == "exact"
    np.testing.assert_allclose(p, expected.pvalue, rtol=1e-12)
    np.testing.assert_allclose(auc, expected.statistic / 35)


def test_exact_p_with_ties_is_the_share_of_all_splits():
    rng = np.random.default_rng(1)
    a, b = rng.integers(0, 3, (4, 30)).astype(float), rng.integers(0, 3, (5, 30)).astype(float)
    _, p, _ = mann_whitney(a, b)
    together = np.concatenate([a, b])
    for latent in range(30):
        ranks = stats.rankdata(together[:, latent])
        sums = np.array([ranks[list(chosen)].sum() for chosen in combinations(range(9), 4)])
        far = np.abs(sums - 20) >= abs(ranks[:4].sum() - 20) - 1e-9
        assert p[latent] == pytest.approx(far.mean())


def test_p_of_larger_groups_with_ties_is_scipys_asymptotic_one():
    rng = np.random.default_rng(2)
    a = np.where(rng.random((22, 60)) < 0.5, 0, rng.integers(0, 9, (22, 60))).astype(float)
    b = np.where(rng.random((40, 60)) < 0.8, 0, rng.integers(0, 9, (40, 60))).astype(float)
    a[:, 0], b[:, 0] = 1, 1
    auc, p, method = mann_whitney(a, b)
    expected = stats.mannwhitneyu(a[:, 1:], b[:, 1:], axis=0, method="asymptotic")
    assert method == "asymptotic"
    np.testing.assert_allclose(p[1:], expected.pvalue, rtol=1e-9)
    np.testing.assert_allclose(auc[1:], expected.statistic / 880)
    assert (p[0], auc[0]) == (1, 0.5)


def test_asymptotic_p_is_near_the_exact_one(monkeypatch):
    rng = np.random.default_rng(3)
    a, b = rng.normal(0.7, 1, (8, 50)), rng.normal(0, 1, (8, 50))
    exact = mann_whitney(a, b)[1]
    monkeypatch.setattr("cytosae.cohort.contrasts.rank_tests.EXACT_SPLITS", 1)
    close = mann_whitney(a, b)[1]
    assert np.abs(exact - close).max() < 0.02
    assert not np.array_equal(exact, close)


def test_auc_interval_holds_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(4)
    for n_a, n_b, shift in ((5, 8, 0.5), (12, 12, 1.5), (22, 60, 1.0)):
        truth = stats.norm.cdf(shift / np.sqrt(2))
        auc, _, _ = mann_whitney(rng.normal(shift, 1, (n_a, 1500)), rng.normal(0, 1, (n_b, 1500)))
        low, high = auc_interval(auc, n_a, n_b)
        assert 0.93 <= ((low <= truth) & (truth <= high)).mean() <= 0.99
        assert ((low <= auc) & (auc <= high)).all()


def test_auc_interval_solves_its_equation_and_has_a_width_at_one():
    low, high = auc_interval(np.array([1.0, 0.7, 0.0]), 6, 9)
    for auc, theta in ((1.0, low[0]), (0.7, low[1]), (0.7, high[1]), (0.0, high[2])):
        k = (6 + 9) / 2 - 1
        spread = 1 + k * (1 - theta) / (2 - theta) + k * theta / (1 + theta)
        assert (auc - theta) ** 2 == pytest.approx(1.959964**2 * theta * (1 - theta) / 54 * spread, rel=1e-5)
    assert high[0] == 1
    assert low[2] == 0
    assert low[0] < 0.85
    narrow = auc_interval(np.array([0.7]), 6, 9, confidence=0.5)
    assert narrow[1][0] - narrow[0][0] < high[1] - low[1]


def test_fewest_patients_is_where_the_best_case_reaches_alpha():
    assert fewest_patients(22, 60, 0.05) == 3
    best = [stats.hypergeom.pmf(k, 82, 22, k) for k in (2, 3)]
    assert best[0] > 0.05 >= best[1]
    assert fewest_patients(3, 3, 0.05) == 3
    assert smallest_p(3, 3) == pytest.approx(0.1)


def test_contrast_is_the_textbook_formulae(small_atlas):
    cohort = barcodes(small_atlas)
    table = contrast(cohort, "APL", "AML", kind="count")
    a, b = cohort.layers["count"][:12].astype(float), cohort.layers["count"][12:].astype(float)
    assert table.index.tolist() == cohort.var_names.tolist()
    np.testing.assert_allclose(table["mean_a"], a.mean(0), rtol=1e-6)
    np.testing.assert_allclose(table["median_b"], np.median(b, axis=0), rtol=1e-6)
    np.testing.assert_allclose(table["difference"], a.mean(0) - b.mean(0), rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(table["patients_a"], (a > 0).sum(0))
    np.testing.assert_allclose(table["cliffs_delta"], 2 * table["auc"] - 1)
    tested = table["tested"].to_numpy()
    expected = stats.mannwhitneyu(a[:, tested], b[:, tested], axis=0, method="asymptotic")
    p = np.nan_to_num(expected.pvalue, nan=1.0)  # scipy 1.18 gives none where all values are equal
    np.testing.assert_allclose(table["p"][tested], p, rtol=1e-6)
    np.testing.assert_allclose(table["q"][tested], stats.false_discovery_control(p), rtol=1e-6)
    mirrored = contrast(cohort, "AML", "APL", kind="count")
    np.testing.assert_allclose(mirrored["difference"], -table["difference"])
    np.testing.assert_allclose(mirrored["auc"], 1 - table["auc"])
    np.testing.assert_array_equal(mirrored["specific_b"], table["specific_a"])


@pytest.mark.parametrize("kind", ["presence", "mean", "count"])
def test_planted_concepts_are_specific_and_nothing_else_to_speak_of(small_atlas, kind):
    table = contrast(barcodes(small_atlas), "APL", "AML", kind=kind)
    assert table.loc[str(APL_LATENT), "specific_a"]
    assert table.loc[str(AML_LATENT), "specific_b"]
    assert table["p"].idxmin() in (str(APL_LATENT), str(AML_LATENT))
    others = [str(latent) for latent in (0, 1, 2, 3, 4, 12, 13, 14, *range(40, 63))]
    assert table.loc[others, ["specific_a", "specific_b"]].to_numpy().sum() <= 1  # the rate of false discoveries is 5 %
    assert table.loc[str(APL_LATENT), "difference_low"] > 0
    assert table.loc[str(AML_LATENT), "auc_high"] < 0.5


def test_a_diagnosis_called_rest_is_compared_with_all_others_as_any_is(small_atlas):
    plain = barcodes(small_atlas)
    renamed = plain.copy()
    renamed.obs["diagnosis"] = plain.obs["diagnosis"].astype(str).replace({"APL": "rest"})
    half = renamed.obs_names[(renamed.obs["diagnosis"] == "AML").to_numpy()][::2]
    renamed.obs.loc[half, "diagnosis"] = "ALL"
    assert renamed.obs["diagnosis"].nunique() == 3
    pd.testing.assert_frame_equal(contrast(renamed, "rest"), contrast(plain, "APL"))
    n = len(renamed)
    table = contrast(renamed, "ALL")
    assert (table.attrs["n_a"], table.attrs["n_b"]) == (len(half), n - len(half))  # not the group "rest" alone
    with pytest.raises(UsageError, match="compared with itself"):
        contrast(renamed, "ALL", "ALL")


def test_latents_too_rare_to_be_tested_are_excluded_and_counted(small_atlas):
    table = contrast(barcodes(small_atlas), "APL")
    assert table.attrs["b"] == "rest"
    assert not table.loc[str(DEAD_LATENT), "tested"]
    assert table.loc[~table["tested"], ["p", "q"]].isna().all(axis=None)
    assert table.attrs["excluded"] == (~table["tested"]).sum() > 0
    assert table.attrs["tested"] + table.attrs["excluded"] == 64
    strict = contrast(barcodes(small_atlas), "APL", min_patients=20)
    assert strict.attrs["tested"] < table.attrs["tested"]
    assert (strict["patients_a"] + strict["patients_b"])[strict["tested"]].min() >= 20


def test_bootstrap_interval_of_small_groups_is_as_wide_as_it_should_be():
    rng = np.random.default_rng(5)
    values = rng.normal(0, 1, (12, 1500))
    table = contrast(cohort_of(values, ["x"] * 6 + ["y"] * 6), "x", "y", intervals=Intervals(resamples=400))
    covered = (table["difference_low"] <= 0) & (table["difference_high"] >= 0)
    assert 0.90 <= covered.mean() <= 0.97
    again = contrast(cohort_of(values, ["x"] * 6 + ["y"] * 6), "x", "y", intervals=Intervals(resamples=400))
    pd.testing.assert_frame_equal(table, again)
    single = contrast(cohort_of(values[:4], ["x", "y", "y", "y"]), "x", "y")
    assert single["difference_low"].isna().all()


def test_shuffled_diagnoses_give_few_discoveries():
    rng = np.random.default_rng(6)
    values = rng.binomial(50, 0.2, (60, 800)) / 50
    table = contrast(
        cohort_of(values, rng.permutation(["x"] * 20 + ["y"] * 40).tolist()),
        "x",
        "y",
        intervals=Intervals(resamples=50),
    )
    assert (table["q"] <= 0.05).sum() <= 2
    assert 0.02 < (table["p"] <= 0.05).mean() < 0.08


def test_conclusion_says_what_three_patients_cannot_show():
    rng = np.random.default_rng(7)
    values = np.concatenate([rng.uniform(2, 3, (3, 100)), rng.uniform(0, 1, (3, 100))])
    table = contrast(cohort_of(values, ["x"] * 3 + ["y"] * 3), "x", "y")
    assert table["p"].min() == pytest.approx(0.1)
    assert not table["specific_a"].any()
    text = conclusion(table)
    assert "3 patients with x and 3 with y" in text
    assert "smallest p that a rank test can give is 0.1" in text
    assert "No concept can be called specific" in text


def test_conclusion_counts_how_many_must_separate_at_once():
    rng = np.random.default_rng(8)
    values = rng.uniform(0, 1, (8, 1000))
    table = contrast(cohort_of(values, ["x"] * 4 + ["y"] * 4), "x", "y")
    # 2 / 70 = 0.029; times 1000 tests, over 0.05: 571.4
    assert "if 572 or more separate" in conclusion(table)
    assert "With 4 patients in a group" in conclusion(table)
    separated = values.copy()
    separated[:4, :600] += 2
    assert contrast(cohort_of(separated, ["x"] * 4 + ["y"] * 4), "x", "y")["specific_a"].sum() >= 600
    separated = values.copy()
    separated[:4, :500] += 2
    assert not contrast(cohort_of(separated, ["x"] * 4 + ["y"] * 4), "x", "y")["specific_a"].any()


def test_conclusion_of_larger_groups_counts_the_findings(small_atlas):
    table = contrast(barcodes(small_atlas), "APL", "AML")
    text = conclusion(table)
    assert f"{(table['q'] <= 0.05).sum()} of {table.attrs['tested']} concepts" in text
    assert f"{table['specific_a'].sum()} are specific for APL" in text
    empty = contrast(cohort_of(np.zeros((6, 4)), ["x"] * 3 + ["y"] * 3), "x", "y")
    assert "nothing can be concluded" in conclusion(empty)


def test_wrong_groups_are_told_in_a_sentence(small_atlas):
    cohort = barcodes(small_atlas)
    with pytest.raises(InputError, match=r"diagnosis 'ALL'; choose among: AML, APL"):
        contrast(cohort, "APL", "ALL")
    with pytest.raises(UsageError, match="compared with itself"):
        contrast(cohort, "APL", "APL")
    with pytest.raises(InputError, match="no column 'disease'"):
        contrast(cohort, "APL", diagnosis="disease")
    with pytest.raises(InputError, match=r"same diagnosis \(APL\)"):
        contrast(cohort[:12].copy(), "APL")
    with pytest.raises(UsageError, match="choose among: mean"):
        contrast(barcodes(small_atlas, kinds=["mean"]), "APL", kind="count")


def test_saved_contrast_comes_back_with_its_facts(small_atlas, tmp_path):
    table = contrast(barcodes(small_atlas), "APL", "AML")
    path = save_contrast(table, tmp_path / "contrast.parquet")
    again = open_contrast(path)
    pd.testing.assert_frame_equal(again, table)
    assert conclusion(again) == conclusion(table)
    assert read_artifact(path, "contrasts").details["n_a"] == 12


def test_disease_barcode_is_the_mean_of_its_patients(small_atlas):
    cohort = barcodes(small_atlas)
    table = disease_barcodes(cohort, "mean")
    assert table.index.tolist() == ["AML", "APL"]
    np.testing.assert_allclose(table.loc["APL"], cohort.layers["mean"][:12].mean(0), rtol=1e-5)


def test_intervals_of_patients_who_share_a_site_are_wider():
    rng = np.random.default_rng(3)
    site = np.repeat(np.arange(12), 5)
    values = np.abs(rng.normal(size=(12, 30))[site] + 0.2 * rng.normal(size=(60, 30)))
    cohort = cohort_of(values, np.repeat(["x", "y"], 30).tolist())
    sites = pd.Series(site, index=cohort.obs_names)
    alone, together = (contrast(cohort, "x", "y", intervals=Intervals(groups=groups)) for groups in (None, sites))
    widths = [(table["difference_high"] - table["difference_low"]).mean() for table in (alone, together)]
    assert widths[1] > 1.6 * widths[0]
    pd.testing.assert_series_equal(alone["p"], together["p"])
    one_site = pd.Series(np.where(np.arange(60) < 30, 0, site), index=cohort.obs_names)
    assert contrast(cohort, "x", "y", intervals=Intervals(groups=one_site))["difference_low"].isna().all()


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(2, 12), whole=st.booleans())
def test_robust_z_is_the_loop_over_left_out_patients(seed, n, whole):
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 4, (n, 3)).astype(float) if whole else rng.normal(size=(n, 3))
    errors = rng.uniform(0, 1, (n, 3))
    z, centre = robust_z(x, errors)
    for i in range(n):
        others = np.delete(x, i, axis=0)
        median = np.median(others, axis=0)
        deviation = np.abs(others - median)
        mad = np.median(deviation, axis=0)
        spread = np.where(mad > 0, 1.4826 * mad, 1.2533 * deviation.mean(0))
        np.testing.assert_allclose(centre[i], median)
        np.testing.assert_allclose(z[i], (x[i] - median) / np.sqrt(spread**2 + errors[i] ** 2), atol=1e-9)


def test_odd_patient_is_found_by_the_planted_concept(small_atlas):
    table = patient_specific(barcodes(small_atlas))
    strongest = table.loc[table["z"].idxmax()]
    assert (strongest["patient"], strongest["latent"]) == (ODD_PATIENT, str(PATIENT_LATENT))
    assert strongest["diagnosis"] == "APL"
    assert not ((table["latent"] == str(PATIENT_LATENT)) & (table["patient"] != ODD_PATIENT) & (table["z"] > 8)).any()
    assert (table["z"].abs() >= 3.5).all()
    assert table.groupby("patient").size().max() <= 20
    stricter = patient_specific(barcodes(small_atlas), threshold=6, top=1)
    assert len(stricter) < len(table)


def test_outlier_is_measured_against_its_own_group_only():
    values = np.concatenate([np.full((6, 1), 0.9), np.full((6, 1), 0.1)]) + np.linspace(0, 0.02, 12)[:, None]
    both = cohort_of(values, ["x"] * 6 + ["y"] * 6)
    assert patient_specific(both).empty
    values[0] = 0.1
    assert patient_specific(cohort_of(values, ["x"] * 6 + ["y"] * 6))["patient"].tolist() == ["P000"]


def test_few_cells_make_no_outlier():
    values = np.zeros((8, 1))
    values[2] = 1 / 3
    groups = ["x"] * 8
    assert len(patient_specific(cohort_of(values, groups, errors=0.01))) == 1
    assert patient_specific(cohort_of(values, groups, errors=0.27)).empty
    assert np.isinf(patient_specific(cohort_of(values, groups))["z"]).all()


def test_small_groups_have_no_outliers_and_are_named(small_atlas):
    cohort = barcodes(small_atlas)[:15].copy()
    assert patient_specific(cohort).attrs["skipped"] == ["AML"]
    with pytest.raises(InputError, match="No diagnosis has 5 patients"):
        patient_specific(cohort[:4].copy())
    with pytest.raises(InputError, match="no column"):
        patient_specific(cohort, diagnosis="disease")

from __future__ import annotations

from dataclasses import replace

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from cohort.synthetic_cohort import QUICK, make_atlas

from cytosae.cohort import (
    ClassificationConfig,
    Configuration,
    Controls,
    barcodes,
    classify,
    fit_classifier,
    gather,
    open_retest,
    predict,
    retest_reliability,
    save_retest,
    stable_directions,
)
from cytosae.cohort.classification.models import candidates
from cytosae.cohort.stain.retest import retest_pairs
from cytosae.common.errors import InputError, UsageError
from cytosae.pipeline.stain_retest import choose_cells

CONFIG = replace(QUICK, repeats=1, shuffles=1)
SENSITIVE = (0, 8)
"""Latents that a change of the stain changes."""


def make_retest(atlas: ad.AnnData, *, noise: float = 3.0, every: int = 1, seed: int = 0) -> ad.AnnData:
    """Every so many cells, then the same ones with other values of `SENSITIVE` and of the first token dimension."""
    rng = np.random.default_rng(seed)
    first = atlas[::every].copy()
    second = first.copy()
    values = second.X.toarray()
    values[:, list(SENSITIVE)] = rng.exponential(noise, (len(values), len(SENSITIVE)))
    second.X = sp.csr_matrix(values)
    counts = second.layers["tokens_above"].toarray()
    counts[:, list(SENSITIVE)] = rng.integers(0, 5, (len(values), len(SENSITIVE)))
    second.layers["tokens_above"] = sp.csr_matrix(counts)
    second.obsm["X_backbone"][:, 0] += rng.normal(scale=noise, size=len(values))
    retest = ad.concat([first, second], index_unique="-")
    retest.obs_names.name = None
    retest.obs["cell_id"] = pd.Categorical([*first.obs_names, *first.obs_names])
    retest.obs["changed"] = np.repeat([False, True], first.n_obs)
    return retest


@pytest.fixture(scope="module")
def cohort():
    atlas, colours = make_atlas(patients=24, cells=12, effect=2.0)
    return atlas, barcodes(atlas), colours, make_retest(atlas)


def test_reliability_is_the_intraclass_correlation_of_an_analysis_of_variance() -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(200, 3)) * [2.0, 1.0, 0.0]
    a, b = truth + rng.normal(size=truth.shape), truth + rng.normal(size=truth.shape)
    expected = []
    for x, y in zip(a.T, b.T, strict=True):
        mean = (x + y) / 2
        between = 2 * ((mean - mean.mean()) ** 2).sum() / (len(x) - 1)
        within = ((x - mean) ** 2 + (y - mean) ** 2).sum() / len(x)
        expected.append((between - within) / (between + within))
    found = retest_reliability(a, b)
    np.testing.assert_allclose(found, expected, rtol=1e-10)
    np.testing.assert_allclose(found, [0.8, 0.5, 0.0], atol=0.12)


def test_reliability_of_sparse_cells_is_that_of_dense_ones() -> None:
    rng = np.random.default_rng(1)
    a, b = (sp.random(50, 20, 0.3, format="csr", random_state=rng) for _ in range(2))
    a, b = (sp.hstack([m, sp.csr_matrix((50, 1))], format="csr") for m in (a, b))
    found = retest_reliability(a, b)
    np.testing.assert_allclose(found, retest_reliability(a.toarray(), b.toarray()))
    assert np.isnan(found[-1])
    assert retest_reliability(a, a)[0] == pytest.approx(1.0)


def test_a_single_cell_has_no_reliability() -> None:
    with pytest.raises(InputError, match="two cells or more"):
        retest_reliability(np.ones((1, 2)), np.ones((1, 2)))


def test_stable_directions_leave_the_direction_of_the_stain_out() -> None:
    rng = np.random.default_rng(0)
    n, m = 400, 12
    mixing = rng.normal(size=(3, m))
    content, stains = rng.normal(size=(n, 2)), rng.normal(size=(2, n, 1)) * 3
    a, b = (5 + np.hstack([content, stain]) @ mixing for stain in stains)
    directions = stable_directions(a, b, width=12, least=0.5)
    assert directions.shape == (m, 2)  # of three dimensions, the two of the content
    along_a, along_b = a @ directions, b @ directions
    assert np.abs(along_a - along_b).max() < 1e-6
    middle = (along_a + along_b) / 2
    np.testing.assert_allclose(np.cov(middle.T, bias=True), np.eye(2), atol=1e-8)
    fitted = np.linalg.lstsq(np.c_[content, np.ones(n)], along_a, rcond=None)
    assert fitted[1].max() < 1e-6


def test_with_no_demand_every_direction_stays_and_rare_latents_take_no_part() -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(size=(300, 6))
    b = a + rng.normal(size=a.shape)
    a[:, 5], b[:, 5] = 0, 0
    a[0, 5] = 1.0
    directions = stable_directions(sp.csr_matrix(a), sp.csr_matrix(b), width=6, least=-1.0)
    assert directions.shape == (6, 5)
    assert not directions[5].any()
    assert stable_directions(a, b, width=2, least=-1.0).shape == (6, 2)
    assert stable_directions(a[:12], b[:12], width=6, least=-1.0).shape[1] == 3  # a quarter of the cells


def test_pairs_are_those_of_the_patients_asked_for(cohort) -> None:
    atlas, made, _, retest = cohort
    names = ["P003", "P001"]
    pairs = retest_pairs(retest, names, ("presence", "mean"))
    assert set(pairs) == {"presence", "mean", "token"}
    assert np.bincount(pairs["mean"].patient).tolist() == [12, 12]
    own = pairs["mean"].of(np.array([1]))[0].toarray()
    np.testing.assert_allclose(own, atlas[atlas.obs["patient"] == "P001"].X.toarray())
    with pytest.raises(InputError, match="none of the cells"):
        retest_pairs(retest, ["nobody"], ("mean",))
    broken = retest.copy()
    ids = broken.obs["cell_id"].astype(str).to_numpy()
    broken.obs["cell_id"] = np.concatenate([ids[: len(ids) // 2], np.roll(ids[len(ids) // 2 :], 1)])
    with pytest.raises(InputError, match="not the same ones"):
        retest_pairs(broken, names, ("mean",))
    assert made.n_obs == 24


def test_stain_sensitive_latents_are_set_aside_by_training_patients_only(cohort) -> None:
    atlas, made, colours, retest = cohort
    found = {}
    for test_noise in (3.0, 30.0):
        changed = retest.copy()
        values = changed.X.toarray()
        foreign = (changed.obs["patient"].astype(str) >= "P012").to_numpy() & changed.obs["changed"].to_numpy()
        values[foreign] *= test_noise
        changed.X = sp.csr_matrix(values)
        asked = ClassificationConfig(kinds=("mean",), kind="mean")
        data = gather(made, atlas, colours, retest=changed, config=asked)
        models = {m.name: m for m in candidates(data, asked)}
        found[test_noise] = models["concepts (mean), stain-sensitive set aside"].features(np.arange(12))
    np.testing.assert_array_equal(found[3.0], found[30.0])
    kept = (found[3.0] != 0).any(0)
    assert not kept[list(SENSITIVE)].any()
    assert kept[1:8].all()


def test_the_table_has_the_rows_and_the_classifier_the_weights(cohort) -> None:
    atlas, made, colours, retest = cohort
    result = classify(made, atlas, colours=colours, retest=retest, controls=Controls(made, retest), config=CONFIG)
    rows = set(result.table["model"])
    for kind in CONFIG.kinds:
        assert {
            f"concepts ({kind}), stain-sensitive set aside",
            f"concepts ({kind}), stain-stable directions",
            f"random-weight SAE ({kind}), stain-stable directions",
        } <= rows
    assert "mean token, stain-stable directions" in rows
    without = classify(made, atlas, colours=colours, config=CONFIG)
    assert not without.table["model"].str.contains("stain").any()


def test_a_classifier_along_stable_directions_is_a_sum_of_concepts(cohort) -> None:
    atlas, made, colours, retest = cohort
    setting = Configuration("mean", "stain-stable directions")
    classifier = fit_classifier(made, atlas, configuration=setting, colours=colours, retest=retest, config=CONFIG)
    pairs = retest_pairs(retest, list(made.obs_names), ("mean",))["mean"]
    directions = stable_directions(pairs.original, pairs.changed, width=pairs.width, least=0.5)
    assert set(classifier.latents) <= set(np.flatnonzero(directions.any(1)))
    # The weights lie in the span of the directions, so the decision is a function of the stable parts alone.
    weights = np.zeros(classifier.n_latents)
    weights[classifier.latents] = classifier.coef[0]
    rest = np.linalg.lstsq(directions, weights, rcond=None)[1]
    assert rest.size == 0 or rest.max() < 1e-12 * (weights**2).sum()
    values = np.asarray(made.layers["mean"], dtype=np.float64)
    by_hand = values @ weights + classifier.intercept[0]
    np.testing.assert_allclose(classifier.decision(values), by_hand, atol=1e-9)
    table = predict(classifier, made, atlas=atlas, colours=colours)
    assert (table["call"] == made.obs["diagnosis"].to_numpy()).mean() > 0.8


def test_a_configuration_that_needs_the_retest_says_so(cohort) -> None:
    atlas, made, colours, _ = cohort
    for variant in ("stain-stable directions", "stain-sensitive set aside"):
        with pytest.raises(InputError, match="needs the cells in another stain"):
            fit_classifier(made, atlas, configuration=Configuration("mean", variant), colours=colours, config=CONFIG)


def test_reliability_out_of_range_is_refused(cohort) -> None:
    atlas, made, colours, _ = cohort
    with pytest.raises(UsageError, match="intraclass correlation lies between"):
        classify(made, atlas, colours=colours, config=ClassificationConfig(reliability=1.5))


def test_a_retest_comes_back_as_it_was_saved(cohort, tmp_path) -> None:
    retest = cohort[3]
    path = save_retest(tmp_path / "retest", {"concepts": retest, "control": retest[:, :5].copy()})
    found = open_retest(path)
    np.testing.assert_allclose(found.X.toarray(), retest.X.toarray())
    assert found.obs["changed"].to_numpy(dtype=bool).tolist() == retest.obs["changed"].tolist()
    assert open_retest(path, "control").n_vars == 5


def test_cells_are_chosen_evenly_over_patients() -> None:
    patients = np.array(["a"] * 50 + ["b"] * 5 + ["c"] * 30 + [None] * 20, dtype=object)
    rows = choose_cells(patients, 45)
    assert len(rows) == len(set(rows)) == 45
    counts = pd.Series(patients[rows]).value_counts()
    assert counts["b"] == 5
    assert abs(counts["a"] - counts["c"]) <= 1
    assert len(choose_cells(patients, 1000)) == 85
    np.testing.assert_array_equal(choose_cells(patients, 45), rows)

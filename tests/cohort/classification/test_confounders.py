from __future__ import annotations

import numpy as np
import pytest
from cohort.synthetic_cohort import COLOUR, DISEASE, TYPE, make_atlas

from cytosae.cohort import Design, barcodes, gather
from cytosae.cohort.classification.colour_following import colour_following
from cytosae.cohort.classification.confounders import (
    cell_residual,
    colour_splits,
    explained,
    match_by_colour,
    remove_from_decisions,
)
from cytosae.cohort.classification.features import mean_by_patient, residuals_on


@pytest.fixture(scope="module")
def data():
    atlas, colours = make_atlas(patients=30, cells=20)
    made = barcodes(atlas)
    return gather(made, atlas, colours)


def test_colour_following_latents_are_found_and_cell_types_are_kept(data):
    found = colour_following(data.cells, np.arange(20))
    assert found[list(COLOUR)].all()
    assert not found[list(TYPE)].any()
    assert not found[-1]


def test_colour_following_agrees_with_regressions_latent_by_latent(data):
    from sklearn.linear_model import LinearRegression

    train = np.arange(5, 25)
    mine = np.isin(data.cells.patient, train)
    values = data.cells.means.toarray()[mine]
    types = np.eye(len(data.cells.type_names))[data.cells.types[mine]]
    expected = []
    for column in values.T:
        shares = []
        for design, p in ((data.cells.colours[mine], 6), (types[:, 1:], types.shape[1] - 1)):
            r2 = LinearRegression().fit(design, column).score(design, column) if column.std() > 0 else 0.0
            shares.append(1 - (1 - r2) * (len(column) - 1) / (len(column) - 1 - p))
        expected.append(column.std() > 0 and shares[0] > shares[1])
    np.testing.assert_array_equal(colour_following(data.cells, train), expected)


def test_colour_following_looks_at_training_patients_only(data):
    from dataclasses import replace

    train = np.arange(10)
    other = ~np.isin(data.cells.patient, train)
    changed = replace(data.cells, colours=np.where(other[:, None], 0.0, data.cells.colours))
    np.testing.assert_array_equal(colour_following(changed, train), colour_following(data.cells, train))


def test_colour_regressed_out_of_cells_agrees_with_the_dense_computation(data):
    from sklearn.linear_model import LinearRegression

    train = np.arange(0, 30, 2)
    mine = np.isin(data.cells.patient, train)
    dense = data.cells.matrices["presence"].toarray()
    fit = LinearRegression().fit(data.cells.colours[mine], dense[mine])
    rest = dense - fit.predict(data.cells.colours) + dense[mine].mean(0)
    expected = mean_by_patient(rest, data.cells.patient, 30)
    np.testing.assert_allclose(cell_residual(data, "presence")(train), expected, atol=1e-9)


def test_residuals_are_uncorrelated_with_covariates_in_training():
    rng = np.random.default_rng(0)
    covariates, values = rng.normal(size=(20, 3)), rng.normal(size=(20, 4))
    covariates[0, 0] = np.nan
    rest = residuals_on(covariates, values, np.arange(1, 15))
    np.testing.assert_allclose(covariates[1:15].T @ rest[1:15], 0, atol=1e-9)
    assert np.isfinite(rest).all()


def test_explained_is_one_for_a_linear_decision_and_about_zero_for_chance():
    rng = np.random.default_rng(1)
    covariates = rng.normal(size=(400, 6))
    assert explained(covariates @ np.arange(6.0), covariates) == pytest.approx(1)
    assert abs(explained(rng.normal(size=400), covariates)) < 0.03
    assert np.isnan(explained(np.zeros(400), covariates))


def test_nothing_is_left_of_a_decision_made_of_colour():
    rng = np.random.default_rng(2)
    y = np.arange(60) % 2
    colour = rng.normal(size=(60, 6))
    folds = Design(y).folds(5)
    rest = remove_from_decisions((colour @ np.arange(1.0, 7.0))[None], colour, folds)
    np.testing.assert_allclose(rest, 0, atol=1e-9)


def test_colour_splits_train_on_one_side_and_test_on_the_other():
    rng = np.random.default_rng(3)
    y = np.arange(40) % 2
    colour = rng.normal(size=(40, 1)) * np.ones(6) + 0.01 * rng.normal(size=(40, 6))
    splits = {name: (train, test) for name, train, test in colour_splits(colour, Design(y))}
    train, test = splits["1_up"]
    assert colour[train, 0].max() < colour[test, 0].min()
    assert set(splits["1_down"][0]) == set(test)
    assert set(splits) == {"1_up", "1_down", "2_up", "2_down"}


def test_patients_who_belong_together_are_in_one_half_of_the_colour_range():
    rng = np.random.default_rng(3)
    y, groups = np.arange(60) % 2, np.arange(60) // 4
    splits = colour_splits(rng.normal(size=(60, 6)), Design(y, groups))
    assert len(splits) == 4
    for _, train, test in splits:
        assert not set(groups[train]) & set(groups[test])
        assert sorted([*train, *test]) == list(range(60))


def test_colour_split_without_both_classes_in_a_half_is_not_used():
    y = np.r_[np.zeros(10, int), np.ones(10, int)]
    colour = (y * 10.0)[:, None] * np.ones(6) + np.random.default_rng(0).normal(size=(20, 6)) * 0.1
    assert not [name for name, _, _ in colour_splits(colour, Design(y)) if name.startswith("1")]


def test_matched_patients_are_pairs_of_like_colour():
    rng = np.random.default_rng(4)
    y = (np.arange(90) % 3 == 0).astype(int)
    colour = rng.normal(size=(90, 6)) + y[:, None] * np.array([1.0, 0, 0, 0, 0, 0])
    rows = match_by_colour(colour, y)
    assert (y[rows] == 1).sum() == (y[rows] == 0).sum() > 10
    apart = abs(colour[y == 1, 0].mean() - colour[y == 0, 0].mean())
    assert abs(colour[rows][y[rows] == 1, 0].mean() - colour[rows][y[rows] == 0, 0].mean()) < apart / 3


def test_patients_without_common_colours_are_not_matched():
    y = np.arange(20) % 2
    assert not len(match_by_colour(y[:, None] * 100.0 + np.arange(20)[:, None] * 0.01 + np.zeros(6), y))


def test_planted_latents_are_where_they_are_said_to_be(data):
    layer = data.layers["mean"]
    gap = layer[data.y == 1].mean(0) - layer[data.y == 0].mean(0)
    sign = 1 if data.classes[1] == "APL" else -1
    assert (sign * gap[list(DISEASE)] > 0.4).all()

from __future__ import annotations

import functools

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import entropy

from cytosae.atlas.making.cell_sums import sum_cells
from cytosae.atlas.making.statistics import LatentStatistics, class_indices, class_selectivity, label_entropy

T, M, C, K = 5, 7, 3, 3
GRID = (2, 2)


def random_activations(n: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    # Few distinct values, so that ties between reference cells happen.
    dense = rng.integers(1, 4, (n, T, M)) * (rng.random((n, T, M)) < 0.3)
    dense[:, :, 2] = 0
    return dense.astype(np.float32)


def piece(dense: np.ndarray, rows: np.ndarray, classes: np.ndarray) -> LatentStatistics:
    statistics = LatentStatistics(M, GRID, C, K)
    statistics.update(sp.csr_array(dense[rows].reshape(-1, M)), rows, classes[rows])
    return statistics


def assert_same(a: LatentStatistics, b: LatentStatistics) -> None:
    for name, value in vars(a).items():
        other = getattr(b, name)
        if name in ("mean_sum", "class_sum"):
            np.testing.assert_allclose(value, other, rtol=1e-14)
        else:
            np.testing.assert_array_equal(value, other, err_msg=name)


def test_statistics_equal_the_dense_computation():
    n = 40
    dense = random_activations(n, 0)
    classes = np.random.default_rng(1).integers(-1, C, n)
    s = LatentStatistics(M, GRID, C, K)
    means, above = s.update(sp.csr_array(dense.reshape(-1, M)), np.arange(n), classes, tau=1.5)

    mean = dense.mean(1)
    np.testing.assert_array_equal(above.toarray(), (dense > 1.5).sum(1))
    assert (means.data != 0).all()
    assert (above.data != 0).all()
    np.testing.assert_allclose(means.toarray(), mean, rtol=1e-6)
    np.testing.assert_allclose(s.activation_frequency(), (mean > 0).mean(0))
    np.testing.assert_allclose(s.token_frequency(), (dense > 0).mean((0, 1)))
    expected = [mean[mean[:, j] > 0, j].mean() if (mean[:, j] > 0).any() else np.nan for j in range(M)]
    np.testing.assert_allclose(s.mean_activation(), expected, rtol=1e-6)
    assert np.isnan(s.mean_activation()[2])
    np.testing.assert_array_equal(s.token_max, dense.max((0, 1)))
    of_class = np.stack([mean[classes == c].mean(0) for c in range(C)], 1)
    np.testing.assert_allclose(s.class_means(), of_class, rtol=1e-6)
    for j in range(M):
        order = sorted((i for i in range(n) if mean[i, j] > 0), key=lambda i: (-means.toarray()[i, j], i))[:K]
        assert s.reference_rows[j].tolist() == order + [-1] * (K - len(order))
        np.testing.assert_array_equal(s.reference_values[j, : len(order)], means.toarray()[order, j])


def test_position_dependence_is_the_correlation_ratio_of_position():
    dense = random_activations(60, 3)
    dense[:, :, 0] = 0
    dense[:, 0, 0] = 1  # fires on CLS only, always
    s = piece(dense, np.arange(60), np.full(60, -1))
    active = (dense > 0).astype(float)
    total = active.var((0, 1))
    between = active.mean(0).var(0)
    alive = total > 0
    np.testing.assert_allclose(s.position_dependence()[alive], between[alive] / total[alive])
    assert s.position_dependence()[0] == pytest.approx(1.0)
    assert np.isnan(s.position_dependence()[2])


def test_central_share_counts_active_patches_in_the_middle():
    statistics = LatentStatistics(3, (4, 4), 1, 2)
    tokens = np.zeros((2, 17, 3), np.float32)
    tokens[:, 0, :] = 1  # CLS lies nowhere
    tokens[:, 1 + 5, 0] = 1  # second row, second column of 4 x 4
    tokens[:, 1 + 0, 1] = 1  # a corner
    tokens[0, 1 + 10, 1] = 1
    statistics.update(sp.csr_array(tokens.reshape(-1, 3)), np.arange(2), np.zeros(2, int))
    np.testing.assert_allclose(statistics.central_share(), [1, 1 / 3, np.nan])


@settings(max_examples=60, deadline=None)
@given(data=st.data(), n=st.integers(2, 25), seed=st.integers(0, 1000))
def test_merging_any_partition_in_any_order_gives_the_same_statistics(data, n, seed):
    dense = random_activations(n, seed)
    classes = np.random.default_rng(seed).integers(-1, C, n)
    whole = piece(dense, np.arange(n), classes)
    part = np.array(data.draw(st.lists(st.integers(0, 3), min_size=n, max_size=n)))
    parts = [piece(dense, np.flatnonzero(part == p), classes) for p in range(4) if (part == p).any()]
    parts = data.draw(st.permutations(parts))
    left = functools.reduce(LatentStatistics.merge, parts)
    right = functools.reduce(lambda a, b: b.merge(a), reversed(parts))
    assert_same(left, whole)
    assert_same(right, whole)


def test_merging_leaves_the_pieces_as_they_were():
    dense, classes = random_activations(10, 5), np.zeros(10, int)
    a, b = piece(dense, np.arange(5), classes), piece(dense, np.arange(5, 10), classes)
    rows, counts = a.reference_rows.copy(), a.cells_active.copy()
    a.merge(b)
    np.testing.assert_array_equal(a.reference_rows, rows)
    np.testing.assert_array_equal(a.cells_active, counts)


def test_counts_hold_more_than_int32():
    a = LatentStatistics(2, GRID, C, K)
    a.cells_active[:] = 2**31 - 1
    assert a.merge(a).cells_active.tolist() == [2**32 - 2] * 2


def test_entropy_of_known_cases():
    values = np.array([[1, 1, 1, 1], [2, 1, 1, 0], [5, 0, 0, 0], [0, 0, 0, 0], [1, 3, 0, 0], [1, 1, 2, 0]], float)
    labels = np.array([[0, 1, 2, 3], [0, 1, 1, 2], [1, 2, 3, 0], [0, 1, 2, 3], [-1, 2, -1, -1], [0, -1, 1, -1]])
    h = label_entropy(values, labels, 4)
    expected = [np.log(4), np.log(2), 0, np.nan, 0, entropy([1, 2])]
    np.testing.assert_allclose(h, expected, atol=1e-12)


def test_entropy_without_any_label_is_nan():
    assert np.isnan(label_entropy(np.ones((2, 3)), np.full((2, 3), -1), 1)).all()


@given(seed=st.integers(0, 10_000), scale=st.floats(1e-3, 1e3))
def test_entropy_lies_between_zero_and_ln_of_the_labels_whatever_the_scale(seed, scale):
    rng = np.random.default_rng(seed)
    values, labels = rng.random((6, 10)) + 1e-3, rng.integers(0, 4, (6, 10))
    h = label_entropy(values, labels, 4)
    assert (h >= 0).all()
    assert (h <= np.log(4) + 1e-9).all()
    np.testing.assert_allclose(label_entropy(values * scale, labels, 4), h, atol=1e-9)


def test_entropy_equals_the_published_one_on_the_authors_reference_images(shared_reference):
    folder = shared_reference / "official_feature_data" / "mll23"

    def load(name):
        return torch.load(folder / f"{name}.pt", weights_only=True, map_location="cpu").numpy()

    values, labels = load("max_activating_image_values"), load("max_activating_image_label_indices")
    n_labels = len((folder / "classnames.txt").read_text().split())
    h = label_entropy(values, labels.astype(np.int64), n_labels)
    np.testing.assert_allclose(h, load("top_entropy"), atol=1e-5)
    assert np.median(h) == pytest.approx(1.646, abs=5e-4)


def test_selectivity_is_one_for_a_single_class_and_zero_for_equal_classes():
    means = np.array([[0, 3, 0], [2, 2, 2], [0, 0, 0], [3, 1, 0]], float)
    np.testing.assert_allclose(class_selectivity(means), [1, 0, np.nan, 2.5 / 3.5])
    assert np.isnan(class_selectivity(means[:, :1])).all()


def test_missing_labels_have_no_class():
    assert class_indices(["b", None, float("nan"), "a"], ["a", "b"]).tolist() == [1, -1, -1, 0]


def test_means_and_counts_of_cells_are_those_of_the_tokens_that_count():
    dense = random_activations(6, 5)
    dense[4] = 0
    counted = np.random.default_rng(6).random((6, T)) < 0.6
    counted[:, 0] = True
    dense[~counted] = 0
    means, above = sum_cells(sp.csr_array(dense.reshape(-1, M)), T, 2.0, counted)
    np.testing.assert_array_equal(means.toarray(), (dense.sum(1) / counted.sum(1)[:, None]).astype(np.float32))
    np.testing.assert_array_equal(above.toarray(), (dense > 2).sum(1))
    assert (means.dtype, above.dtype, means.indices.dtype) == (np.float32, np.int32, np.int32)
    assert means.has_sorted_indices
    assert means[[4]].nnz == above[[4]].nnz == 0


def test_a_token_at_the_threshold_is_not_above_it():
    # 0.2 in float32 is larger than 0.2 in float64: both are compared in float32, in which activations are
    _, above = sum_cells(sp.csr_array(np.float32([[0.2], [0.3], [0.1]])), 3, 0.2)
    assert above.toarray().tolist() == [[1]]


def test_a_mean_does_not_depend_on_the_batch_in_which_a_cell_came():
    dense = np.random.default_rng(8).gamma(1, 1e-3, (9, T, M)).astype(np.float32)
    together = sum_cells(sp.csr_array(dense.reshape(-1, M)), T, 0.0).means
    alone = [sum_cells(sp.csr_array(one), T, 0.0).means for one in dense]
    np.testing.assert_array_equal(together.toarray(), sp.vstack(alone).toarray())


def test_a_mean_that_is_no_number_shows():
    dense = np.zeros((1, T, M), np.float32)
    dense[0, 1, 3] = np.nan
    s = LatentStatistics(M, GRID, C, K)
    means, _ = s.update(sp.csr_array(dense.reshape(-1, M)), np.arange(1), np.zeros(1, int))
    assert np.flatnonzero(np.isnan(means.toarray()[0])).tolist() == [3]
    assert np.flatnonzero(np.isnan(s.token_max)).tolist() == [3]

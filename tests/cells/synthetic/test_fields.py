from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import BSpline
from scipy.ndimage import gaussian_filter

from cytosae.cells.synthetic.camera import blur
from cytosae.cells.synthetic.fields import (
    draw_outline,
    inside_discs,
    inside_outline,
    open_window,
    place_points,
    smooth_field,
    stamp_discs,
)


@pytest.mark.parametrize(("size", "scale"), [(64, 14.0), (128, 3.5), (33, 200.0)])
def test_smooth_field_is_the_cubic_spline_of_its_coarse_numbers(size: int, scale: float) -> None:
    window = open_window(size, 1.0, (0.0, 0.0), 64)
    field = smooth_field(np.random.default_rng(3), window, scale)
    count = math.ceil(2 * 64 / scale) + 4
    coarse = np.random.default_rng(3).standard_normal((count, count), dtype=np.float32)
    at = (window.y[:, 0].astype(float) + 64) / scale
    basis = BSpline.design_matrix(at, np.arange(-3.0, count + 1), 3).toarray()
    np.testing.assert_allclose(field, 2.1 * basis @ coarse @ basis.T, atol=1e-4)


def test_outline_is_its_fourier_series() -> None:
    window = open_window(40, 1.0, (3.0, -2.0), 50)
    outline = draw_outline(np.random.default_rng(0), 20, 0.2, elongation=1.3)
    angle = np.arctan2(window.y, window.x)
    expected = 20 - np.hypot(window.y, window.x)
    for order, (amplitude, phase) in enumerate(zip(*outline, strict=True), start=2):
        expected = expected + amplitude * np.cos(order * angle + phase)
    np.testing.assert_allclose(inside_outline(window.y, window.x, 20, outline), expected, atol=1e-3)


def test_one_disc_alone_is_its_distance_and_two_gain_a_quarter_of_the_softness() -> None:
    window = open_window(32, 1.0, (0.0, 0.0), 64)
    disc = np.array([[4.0, -3.0, 9.0]])
    distance = 9 - np.hypot(window.y - 4, window.x + 3)
    np.testing.assert_allclose(inside_discs(window.y, window.x, disc, softness=2), distance, atol=1e-4)
    twice = inside_discs(window.y, window.x, np.repeat(disc, 2, axis=0), softness=2)
    np.testing.assert_allclose(twice, distance + 0.5, atol=1e-4)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([24, 57]))
def test_stamps_are_the_greatest_of_their_discs(seed: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    window = open_window(size, 1.0, (20.0, -50.0), 30)
    points, radii, strength = rng.uniform(-32, 32, (12, 2)), rng.uniform(0.5, 9, 12), rng.uniform(0.2, 1, 12)
    expected = np.zeros(window.shape)
    for (y, x), radius, opacity in zip(points, radii, strength, strict=True):
        distance = np.hypot(window.y - y, window.x - x) / window.step
        r = radius / window.step
        faint = min(r / 0.6, 1) ** 1.5 * opacity
        expected = np.maximum(expected, np.clip(max(r, 0.6) - distance + 0.5, 0, 1) * faint)
    np.testing.assert_allclose(stamp_discs(window, points, radii, strength), expected, atol=1e-3)


@pytest.mark.parametrize("spacing", [0.0, 4.0])
def test_points_lie_inside_and_lattices_keep_their_distance(spacing: float) -> None:
    window = open_window(128, 1.0, (0.0, 0.0), 40)
    inside = np.hypot(window.y, window.x) < 25
    points = place_points(np.random.default_rng(1), window, inside, 60, spacing=spacing)
    assert len(points) == 60
    assert (np.hypot(*points.T) < 26).all()
    if spacing:
        distance = np.hypot(*(points[:, None] - points[None]).transpose(2, 0, 1)) + 9 * np.eye(60)
        assert distance.min() > 0.1 * spacing


@pytest.mark.parametrize("sigma", [0.4, 1.1, 3.0])
def test_blur_is_gaussian(sigma: float) -> None:
    picture = np.random.default_rng(0).random((3, 40, 40), dtype=np.float32)
    reach = max(math.ceil(2.0 * sigma), 1)
    expected = [gaussian_filter(channel, sigma, mode="nearest", radius=reach) for channel in picture]
    np.testing.assert_allclose(blur(picture, sigma), expected, atol=2e-4)


def test_a_window_outside_the_image_is_empty() -> None:
    assert 0 in open_window(32, 1.0, (500.0, 0.0), 10).shape

"""Normalisations: what they do to tokens, that they are undone, and that they are saved."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator

from cytosae.common.errors import UsageError
from cytosae.sae import MeanNorm, NoNormalisation, PositionMean, SparseAutoencoder, TopK, Whitening
from cytosae.sae.model.token_normalisation import Normaliser

pytestmark = pytest.mark.usefixtures("one_thread")
D, T = 6, 5
CHOICES = [
    NoNormalisation(),
    MeanNorm(),
    PositionMean(),
    Whitening(),
    Whitening(floor=0.1, position_mean=False),
]


def draw(images, seed=0, scale=1.0):
    """Tokens [images * T, D] with a strong mean of each position and one dominating direction, and positions."""
    generator = Generator().manual_seed(seed)
    means = 3 * torch.randn(T, D, generator=Generator().manual_seed(77))
    spread = torch.tensor([10.0] + [1.0] * (D - 1))
    x = means + torch.randn(images, T, D, generator=generator) * spread
    return scale * x.flatten(0, 1), torch.arange(T).repeat(images)


def fitted(config, images=200, scale=1.0):
    normaliser = Normaliser(config, D)
    normaliser.fit(*draw(images, scale=scale))
    return normaliser


@settings(max_examples=40, deadline=None)
@given(
    config=st.sampled_from(CHOICES),
    seed=st.integers(0, 1000),
    scale=st.floats(1e-3, 1e3),
    images=st.integers(1, 9),
)
def test_normalising_is_undone(config, seed, scale, images):
    normaliser = fitted(config, scale=scale)
    x, positions = draw(images, seed=seed, scale=scale)
    back = normaliser.inverse(normaliser(x, positions), positions)
    torch.testing.assert_close(back, x, rtol=1e-4, atol=1e-4 * scale)


@pytest.mark.parametrize("config", [MeanNorm(), PositionMean()])
def test_mean_norm_becomes_the_root_of_the_width(config):
    x, positions = draw(200)
    norms = torch.linalg.vector_norm(fitted(config)(x, positions), dim=1)
    assert float(norms.mean()) == pytest.approx(math.sqrt(D), rel=1e-4)


def test_position_means_are_taken_out():
    x, positions = draw(200)
    normalised = fitted(PositionMean())(x, positions)
    for position in range(T):
        assert normalised[positions == position].mean(0).abs().max() < 1e-4


def test_whitened_covariance_is_the_identity():
    normaliser = Normaliser(Whitening(floor=1e-9), D)
    x, positions = draw(500)
    normaliser.fit(x, positions)
    torch.testing.assert_close(torch.cov(normaliser(x, positions).T), torch.eye(D), rtol=1e-3, atol=1e-3)


def test_directions_without_variance_are_not_blown_up():
    x = draw(200)[0]
    x[:, 3] = 2.0
    normaliser = Normaliser(Whitening(floor=1e-2, position_mean=False), D)
    normaliser.fit(x)
    assert normaliser(x).abs().max() < 10
    torch.testing.assert_close(normaliser.inverse(normaliser(x)), x, rtol=1e-4, atol=1e-3)


def test_position_that_was_never_seen_gets_the_overall_mean():
    x, positions = draw(50)
    normaliser = Normaliser(PositionMean(), D)
    patches = positions > 0
    normaliser.fit(x[patches], positions[patches])
    torch.testing.assert_close(normaliser.mean[0], x[patches].mean(0))


def test_whole_images_imply_their_positions():
    sae = SparseAutoencoder(D, 20, TopK(3), PositionMean())
    x, positions = draw(8)
    sae.normaliser.fit(x, positions)
    images = x.view(8, T, D)
    torch.testing.assert_close(sae.encode(images).flatten(0, 1), sae.encode(x, positions))
    torch.testing.assert_close(sae(images).flatten(0, 1), sae(x, positions))
    torch.testing.assert_close(sae.decode(sae.encode(images)), sae(images))


def test_missing_positions_are_asked_for():
    sae = SparseAutoencoder(D, 20, TopK(3), PositionMean())
    sae.normaliser.fit(*draw(8))
    with pytest.raises(UsageError, match="give positions"):
        sae.encode(draw(8)[0])


def test_positions_beyond_the_fitted_ones_are_refused():
    normaliser = fitted(PositionMean())
    with pytest.raises(UsageError, match="position 5 is beyond the 5"):
        normaliser(torch.zeros(1, D), torch.tensor([5]))


@pytest.mark.parametrize("config", CHOICES[1:])
def test_use_before_fitting_is_refused(config):
    with pytest.raises(UsageError, match="has not been fitted"):
        SparseAutoencoder(D, 20, TopK(3), config).encode(torch.zeros(2, T, D))


@pytest.mark.parametrize("config", [MeanNorm(), Whitening(position_mean=False)])
def test_tokens_without_variance_are_refused(config):
    with pytest.raises(UsageError, match="no variance"):
        Normaliser(config, D).fit(torch.zeros(10, D))


def test_floor_must_be_positive():
    with pytest.raises(UsageError, match="floor > 0"):
        Whitening(floor=0.0)


@pytest.mark.parametrize("config", CHOICES)
def test_fitted_normalisation_loads_into_a_fresh_sae(config):
    sae, fresh = (SparseAutoencoder(D, 20, TopK(3), config, seed=s) for s in (0, 1))
    x, positions = draw(8)
    sae.normaliser.fit(x, positions)
    fresh.load_state_dict(sae.state_dict())
    torch.testing.assert_close(fresh.encode(x, positions), sae.encode(x, positions), rtol=0, atol=0)

from __future__ import annotations

import numpy as np
import pytest
import torch

from cytosae.atlas.explaining.intervention import change_concepts, dose_response, interaction
from cytosae.common.errors import UsageError
from cytosae.sae import PositionMean, ReluL1, SparseAutoencoder

TOKENS = torch.tensor([[1.0, 2, 0, 5], [3, 0, 1, 5], [0, 4, 0, 5], [2, 2, 0, 5], [1, 0, 0, 5]])


@pytest.fixture
def sae():
    """Three latents that read the first three numbers of a token; the fourth is their residual."""
    made = SparseAutoencoder(4, 3, ReluL1())
    with torch.no_grad():
        made.W_enc.copy_(torch.eye(4)[:, :3])
        made.W_dec.copy_(torch.eye(4)[:3])
    return made


def total(batch):
    """The sums of the four numbers over the tokens."""
    return batch.sum(1).numpy()


@pytest.mark.parametrize(("factor", "expected"), [(0, -7), (0.5, -3.5), (1, 0), (2, 7)])
def test_change_adds_the_decoder_row_times_the_change_of_activation(sae, factor, expected):
    effect = change_concepts(TOKENS, sae, total, {0: factor})
    np.testing.assert_allclose(effect.change, [expected, 0, 0, 0], atol=1e-6)
    np.testing.assert_allclose(effect.before, [7, 8, 1, 25])


def test_change_stays_at_the_chosen_patches(sae):
    effect = change_concepts(TOKENS, sae, total, {0: 0}, patches=[0, 2])
    np.testing.assert_allclose(effect.change, [-5, 0, 0, 0], atol=1e-6)


def test_random_latents_are_as_strong_at_every_token_and_never_the_changed_one(sae):
    effect = change_concepts(TOKENS, sae, total, {0: 0}, controls=8, seed=1)
    np.testing.assert_allclose(effect.random.sum(1), -7, atol=1e-5)
    assert not effect.random[:, [0, 3]].any()
    again = change_concepts(TOKENS, sae, total, {0: 0}, controls=8, seed=1)
    np.testing.assert_array_equal(effect.random, again.random)
    assert (effect.band()[0] <= effect.band()[1]).all()


def test_dose_response_of_a_linear_outcome_is_a_line(sae):
    found = dose_response(TOKENS, sae, total, 1, [0, 1, 3])
    np.testing.assert_allclose(found.values[:, 1], [0, 8, 24], atol=1e-6)
    np.testing.assert_allclose(found.before, [7, 8, 1, 25])


def test_random_latents_are_as_strong_as_the_concept_at_every_dose(sae):
    """Each moves the sum of what latents read as far as the concept: a line through the cell as it is, too."""
    found = dose_response(TOKENS, sae, total, 0, controls=8)
    np.testing.assert_allclose(found.values[:, 0], [0, 3.5, 7, 10.5, 14], atol=1e-5)
    np.testing.assert_allclose(found.random.sum(2), np.tile([-7, -3.5, 0, 3.5, 7], (8, 1)), atol=1e-5)
    assert not found.random[:, :, [0, 3]].any()


def test_a_dose_is_the_change_by_that_factor_beside_the_same_random_latents(sae):
    found = dose_response(TOKENS, sae, total, 0, patches=[0, 2], controls=6, seed=3).at(0.5)
    alone = change_concepts(TOKENS, sae, total, {0: 0.5}, patches=[0, 2], controls=6, seed=3)
    for name in ("before", "after", "random"):
        np.testing.assert_allclose(getattr(found, name), getattr(alone, name), atol=1e-5)


def product(batch):
    """That of the sums of the first two numbers."""
    return total(batch)[:, :1] * total(batch)[:, 1:2]


def test_interaction_is_nothing_in_a_sum_and_the_product_in_a_product(sae):
    linear = interaction(TOKENS, sae, total, (0, 1))
    np.testing.assert_allclose(linear.beyond_sum, 0, atol=1e-6)
    np.testing.assert_allclose(linear.random_beyond_sum, 0, atol=1e-5)
    np.testing.assert_allclose(linear.changes[:, :2], [[-7, 0], [0, -8], [-7, -8]], atol=1e-6)
    found = interaction(TOKENS, sae, product, (0, 1))
    np.testing.assert_allclose(found.changes, [[-56], [-56], [-56]], atol=1e-4)
    np.testing.assert_allclose(found.beyond_sum, [56], atol=1e-4)
    np.testing.assert_allclose(interaction(TOKENS, sae, product, (0, 1), 0.5).beyond_sum, [56 / 4], atol=1e-4)


def test_each_of_a_random_pair_is_as_strong_as_its_concept(sae):
    found = interaction(TOKENS, sae, total, (0, 1), controls=5)
    np.testing.assert_allclose(found.random[:, :, 2], np.tile([-7, -8, -15], (5, 1)), atol=1e-5)


def test_change_is_in_the_units_of_the_tokens():
    sae = SparseAutoencoder(4, 6, ReluL1(), PositionMean(), seed=2)
    many = torch.randn(40, 5, 4, generator=torch.Generator().manual_seed(0)) * 7 + 3
    sae.normaliser.fit(many.flatten(0, 1), torch.arange(5).repeat(40))
    codes = sae.encode(many[:1]).detach()
    without = codes.clone()
    without[..., 2] = 0
    expected = (sae.decode(without) - sae.decode(codes)).detach()[0].sum(0)
    effect = change_concepts(many[0], sae, total, {2: 0})
    assert expected.any()
    np.testing.assert_allclose(effect.change, expected, atol=1e-4)


@pytest.mark.parametrize(
    ("factors", "patches", "words"),
    [({}, None, "no concept"), ({3: 0}, None, "no latent 3"), ({0: -1}, None, "-1"), ({0: 0}, [4], "no patch 4")],
)
def test_wrong_calls_are_told_in_a_sentence(sae, factors, patches, words):
    with pytest.raises(UsageError, match=words):
        change_concepts(TOKENS, sae, total, factors, patches=patches)
    for latent, factor in factors.items():
        with pytest.raises(UsageError, match=words):
            dose_response(TOKENS, sae, total, latent, [1, factor], patches=patches)
    with pytest.raises(UsageError, match="named twice"):
        interaction(TOKENS, sae, total, (1, 1))


def test_what_the_remaining_block_does_is_seen_through_the_bundled_backbone():
    from cytosae.backbones import load_backbone

    backbone = load_backbone("tiny")
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    tokens = backbone(backbone.prepare([image]))[0]
    sae = SparseAutoencoder(backbone.width, 2 * backbone.width, ReluL1(), seed=0)

    def finished(batch):
        with torch.no_grad():
            return backbone.finish(batch).mean(1).numpy()

    latent = int(sae.encode(tokens[None]).sum((0, 1)).argmax())
    effect = change_concepts(tokens, sae, finished, {latent: 0}, controls=3)
    assert np.abs(effect.change).max() > 1e-3
    np.testing.assert_allclose(change_concepts(tokens, sae, finished, {latent: 1}, controls=1).change, 0, atol=1e-4)

"""The published code's numbers: initialisation, every step of its training, latents and reconstruction."""

from __future__ import annotations

import pytest
import torch

from cytosae.sae import ReluL1, SparseAutoencoder, TrainConfig, Trainer, encoder, geometric_median

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def sae(reference):
    sae = SparseAutoencoder(48, 384, ReluL1(l1_coefficient=2e-2))
    sae.load_state_dict(reference.weights("init"))
    return sae


def test_geometric_median_of_the_first_batch_is_the_published_decoder_bias(reference):
    median = geometric_median(reference.batches[0])
    torch.testing.assert_close(median, reference.expected["init_b_dec"], rtol=0, atol=1e-4)


@pytest.mark.parametrize("dense_above", [0.1, 2.0], ids=["dense while many are active", "sparse throughout"])
def test_paper_training_follows_the_published_trajectory(reference, sae, monkeypatch, dense_above):
    monkeypatch.setattr(encoder, "DENSE_ABOVE", dense_above)
    trainer = Trainer(sae, TrainConfig.paper(learning_rate=2e-2, dead_window=10))
    for step, published in enumerate(reference.trajectory):
        log = trainer.step(reference.batches[step + 1])
        for term in ("loss", "mse", "l1", "ghost"):
            assert getattr(log, term) == pytest.approx(published[term], rel=1e-3, abs=1e-6), (term, step)
        assert log.l0 == pytest.approx(published["l0"], rel=5e-3), step
        assert log.dead == published["dead"], step
    for name, final in reference.weights("final").items():
        torch.testing.assert_close(sae.get_parameter(name).detach(), final, rtol=0, atol=1e-3)


def test_published_weights_give_the_published_latents_and_reconstruction(reference, sae):
    sae.load_state_dict(reference.weights("final"))
    x = reference.expected["x"]
    torch.testing.assert_close(sae.encode(x).detach(), reference.expected["latents"], rtol=0, atol=1e-5)
    torch.testing.assert_close(sae(x).detach(), reference.expected["reconstruction"], rtol=0, atol=1e-5)
    decoded = sae.decode(reference.expected["latents"]).detach()
    torch.testing.assert_close(decoded, reference.expected["reconstruction"], rtol=0, atol=1e-5)


def test_published_state_dict_has_exactly_the_parameters_of_the_paper_model():
    assert set(SparseAutoencoder(4, 8).state_dict()) == {"W_enc", "b_enc", "W_dec", "b_dec"}


def test_geometric_median_weighs_whole_images():
    # three images on a line: the median image is the middle one, however far the last
    images = torch.stack([torch.full((2, 3), value) for value in (0.0, 1.0, 50.0)])
    torch.testing.assert_close(geometric_median(images), torch.ones(3), rtol=0, atol=1e-3)

"""The paper's recipe: its formulae written down a second time, and the numbers of the published code.

The published numbers lie beside the project, and their tests skip where they do not; the formulae are here.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from sae.training import paper_formulae

from cytosae.sae import ReluL1, SparseAutoencoder, TrainConfig, geometric_median
from cytosae.sae.model import encoder

pytestmark = pytest.mark.usefixtures("one_thread")


STEPS, PAPER = 40, {"learning_rate": 2e-2, "warmup_steps": 10, "dead_window": 4}


@pytest.fixture(scope="module")
def images():
    """[steps + 1, 8 images, 5 tokens, 12] float64: sparse sums of 16 directions."""
    random = np.random.default_rng(0)
    codes = (random.random((STEPS + 1, 8, 5, 16)) < 0.15) * random.random((STEPS + 1, 8, 5, 16)) * 3
    return torch.from_numpy(codes @ random.normal(size=(16, 12)) + 0.3)


@pytest.mark.parametrize(
    ("dtype", "path", "steps", "room"),
    [
        (torch.float64, "dense", STEPS, 1e-6),
        (torch.float32, "dense", 20, 1e-3),
        (torch.float32, "blocks", 20, 1e-3),
        (torch.float32, "screened", 20, 1e-3),
    ],
)
def test_paper_training_follows_its_formulae(images, fit, monkeypatch, dtype, path, steps, room):
    """A rounding grows tenfold every four steps once ghost gradients divide by squares near 0."""
    monkeypatch.setattr(encoder, "SCREENED_BELOW", 2.0)
    sae = SparseAutoencoder(12, 48, ReluL1(l1_coefficient=2e-2))
    with torch.no_grad():
        sae.b_dec.copy_(torch.from_numpy(paper_formulae.geometric_median(images[0].numpy())))
        sae.b_enc[::3] = -4.0  # silent from the start, to be revived
    weights = {name: parameter.detach().numpy() for name, parameter in sae.named_parameters()}
    formulae = paper_formulae.PaperTraining(weights, l1=2e-2, **PAPER)
    logs = fit(sae.to(dtype), TrainConfig.paper(**PAPER, path=path, steps=steps), list(images[1 : steps + 1].to(dtype)))
    for step, log in enumerate(logs):
        expected = formulae.step(images[step + 1].flatten(0, 1).numpy())
        for term, value in expected.items():
            assert getattr(log, term) == pytest.approx(value, rel=room, abs=1e-9), (term, step)
    assert any(log.ghost > 0 for log in logs)
    assert any(log.dead < before.dead for before, log in pairwise(logs))
    assert (sae.screening.screen is None) == (path == "dense")
    formulae.normalise_decoder()
    for name, expected in formulae.weights.items():
        found = sae.get_parameter(name).detach().double().numpy()
        np.testing.assert_allclose(found, expected, rtol=0, atol=10 * room, err_msg=name)


def test_the_geometric_median_is_that_of_the_formula(images):
    expected = paper_formulae.geometric_median(images[0].numpy())
    np.testing.assert_allclose(geometric_median(images[0]).numpy(), expected, atol=1e-3)


@pytest.fixture
def sae(reference):
    sae = SparseAutoencoder(48, 384, ReluL1(l1_coefficient=2e-2))
    sae.load_state_dict(reference.weights("init"))
    return sae


def test_geometric_median_of_the_first_batch_is_the_published_decoder_bias(reference):
    median = geometric_median(reference.batches[0])
    torch.testing.assert_close(median, reference.expected["init_b_dec"], rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("path", "dense_above", "screened_below", "late"),
    [
        ("dense", 0.1, 0, 1e-3),
        ("dense", 2.0, 0, 1e-3),
        ("blocks", 0.1, 2.0, 1e-2),
        ("screened", 0.1, 2.0, 1e-2),
        ("screened", 0.1, 1 / 64, 1e-2),
    ],
    ids=["dense while many are active", "sparse throughout", "float32 blocks", "screened", "screened once it pays"],
)
def test_paper_training_follows_the_published_trajectory(
    reference, sae, fit, monkeypatch, path, dense_above, screened_below, late
):
    """Roundings grow a thousandfold in the last 30 of 120 steps: where screening takes part they get room there.

    How much they grow differs between processors: 2e-3 without AVX-512.
    """
    monkeypatch.setattr(encoder, "DENSE_ABOVE", dense_above)
    monkeypatch.setattr(encoder, "SCREENED_BELOW", screened_below)
    batches = reference.batches[1:]
    logs = fit(sae, TrainConfig.paper(learning_rate=2e-2, dead_window=10, path=path, steps=len(batches)), batches)
    for step, (log, published) in enumerate(zip(logs, reference.trajectory, strict=True)):
        for term in ("loss", "mse", "l1", "ghost"):
            room = 1e-3 if step < 90 else late
            assert getattr(log, term) == pytest.approx(published[term], rel=room, abs=1e-6), (term, step)
        assert log.l0 == pytest.approx(published["l0"], rel=5 * room), step
        assert log.dead == published["dead"], step
    screen = sae.screening.screen
    assert (screen is None) == (path == "dense")
    assert screen is None or screen.counters.tokens > 0
    final = reference.weights("final")  # as after the last step; the published code normalises before the next one
    final["W_dec"] = final["W_dec"] / torch.linalg.vector_norm(final["W_dec"], dim=1, keepdim=True)
    for name, expected in final.items():
        torch.testing.assert_close(sae.get_parameter(name).detach(), expected, rtol=0, atol=late)


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

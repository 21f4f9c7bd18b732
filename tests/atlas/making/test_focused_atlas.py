"""An atlas of the tokens in focus, against sums over these tokens that are made by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cytosae.atlas import build_atlas
from cytosae.atlas.encoding.token_activations import encode_cells
from cytosae.atlas.places.maps import reference_maps

TAU = 0.2


@pytest.fixture
def focused(chain):
    sae, store, cells = chain
    rng = np.random.default_rng(1)
    store.counted = np.pad(rng.random((len(store), 16)) < 0.3, ((0, 0), (1, 0)))
    store.counted[:, 5] = True
    store.counted[4] = True
    store.focus = "cell"
    return sae, store, cells


@pytest.fixture
def activations(focused):
    sae, store, _ = focused
    return np.where(store.counted[..., None], sae.encode(store.tokens).numpy(), 0)


def test_activations_of_other_tokens_are_not_there(focused, activations):
    sae, store, _ = focused
    found = encode_cells(sae, store.tokens, store.counted).toarray()
    np.testing.assert_allclose(found.reshape(activations.shape), activations, rtol=1e-5, atol=1e-6)


def test_means_counts_and_frequencies_are_those_of_the_tokens_in_focus(focused, activations):
    sae, store, cells = focused
    atlas = build_atlas(sae, store, cells, tau=TAU, batch_cells=5)
    n = store.counted.sum(1)
    np.testing.assert_allclose(atlas.X.toarray(), activations.sum(1) / n[:, None], rtol=1e-5, atol=1e-7)
    assert np.array_equal(atlas.layers["tokens_above"].toarray(), (activations > TAU).sum(1))
    mean_tokens = (store.tokens.numpy() * store.counted[..., None]).sum(1) / n[:, None]
    np.testing.assert_allclose(atlas.obsm["X_backbone"], mean_tokens, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(atlas.var["token_frequency"], (activations > 0).sum((0, 1)) / n.sum(), rtol=1e-12)
    assert atlas.uns["provenance"]["focus"] == "cell"
    assert np.array_equal(atlas.uns["tokens_counted"], store.counted.sum(0))


def test_position_explains_the_share_of_variance_that_an_analysis_of_variance_says(focused, activations):
    sae, store, cells = focused
    found = build_atlas(sae, store, cells, tau=TAU).var["position_dependence"].to_numpy()
    position = np.broadcast_to(np.arange(17), store.counted.shape)[store.counted]
    for latent in np.flatnonzero(np.isfinite(found) & (found < 1))[:8]:
        active = (activations[..., latent] > 0)[store.counted].astype(float)
        between = sum(
            (position == t).sum() * (active[position == t].mean() - active.mean()) ** 2 for t in set(position)
        )
        assert found[latent] == pytest.approx(between / ((active - active.mean()) ** 2).sum(), abs=1e-9)


def test_maps_are_zero_outside(focused, activations):
    sae, store, _ = focused
    latent = int((activations[2] > 0).sum(0).argmax())
    found = reference_maps(store, [(2, latent)], sae=sae)[2, latent]
    np.testing.assert_allclose(found.ravel(), activations[2, 1:, latent], rtol=1e-5)
    everywhere = sae.encode(store.tokens[2]).numpy()[1:, latent]
    assert (everywhere > 0).sum() > (found > 0).sum() > 0


def test_a_focus_on_all_tokens_changes_nothing(chain):
    sae, store, cells = chain
    plain = build_atlas(sae, store, cells, tau=TAU)
    store.counted = np.ones((len(store), store.n_tokens), bool)
    every = build_atlas(sae, store, cells, tau=TAU)
    assert np.array_equal(plain.X.toarray(), every.X.toarray())
    assert plain.var.equals(every.var)
    assert "tokens_counted" not in plain.uns
    assert plain.uns["provenance"]["focus"] == "all"
    torch.testing.assert_close(torch.tensor(plain.obsm["X_backbone"]), torch.tensor(every.obsm["X_backbone"]))

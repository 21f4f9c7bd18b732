from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from cytosae.atlas import concept_map, concept_maps, reference_maps
from cytosae.atlas.places.maps import strongest_patches
from cytosae.common.errors import InputError, UsageError
from cytosae.sae import JumpRelu, NoNormalisation, PositionMean, ReluL1, SparseAutoencoder, TopK


class StubBackbone:
    name, grid = "stub", (4, 4)

    def describe(self):
        return {"name": self.name}

    def prepare(self, images):
        return torch.from_numpy(np.stack([np.asarray(image) for image in images])).float()

    def __call__(self, batch):
        patches = batch.reshape(len(batch), 4, 2, 4, 2, 3).permute(0, 1, 3, 2, 4, 5).reshape(len(batch), 16, 12)
        return torch.cat([patches.mean(1, keepdim=True), patches], 1) / 64


def test_map_is_the_dense_encoding_without_cls(chain):
    sae, store, _ = chain
    dense = sae.encode(store.tokens[4]).numpy()
    for latent in (0, 3, 29):
        found = concept_map(store.tokens[4], latent, sae=sae)
        assert found.shape == (4, 4)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found.ravel(), dense[1:, latent], rtol=1e-6)


def test_maps_of_many_cells_and_latents_equal_single_maps(chain):
    sae, store, _ = chain
    maps = concept_maps(store.tokens[:5], [7, 2], sae=sae, batch_cells=2)
    assert maps.shape == (5, 2, 4, 4)
    for i in range(5):
        for j, latent in enumerate([7, 2]):
            np.testing.assert_allclose(maps[i, j], concept_map(store.tokens[i], latent, sae=sae), rtol=1e-6)


@pytest.mark.parametrize("sparsity", [ReluL1(), TopK(k=3)])
@pytest.mark.parametrize("normalisation", [NoNormalisation(), PositionMean()])
def test_maps_of_a_real_sae_equal_its_dense_encoding(chain, sparsity, normalisation):
    _, store, _ = chain
    sae = SparseAutoencoder(12, 40, sparsity, normalisation, seed=1)
    sae.normaliser.fit(store.tokens.flatten(0, 1), torch.arange(17).repeat(len(store)))
    dense = sae.encode(store.tokens).detach().numpy()[:, 1:, [5, 31]]
    maps = concept_maps(store.tokens, [5, 31], sae=sae)
    np.testing.assert_allclose(maps.reshape(len(store), 2, 16), dense.transpose(0, 2, 1), atol=1e-5)
    assert maps.any()
    stored = reference_maps(store, [(3, 5), (9, 31), (3, 31)], sae=sae)
    for (row, latent), found in stored.items():
        np.testing.assert_allclose(found.ravel(), dense[row, :, [5, 31].index(latent)], atol=1e-5)


def test_a_map_is_nothing_where_tokens_do_not_count(chain):
    _, store, _ = chain
    sae = SparseAutoencoder(12, 40, ReluL1(), seed=1)
    whole = reference_maps(store, [(3, 5)], sae=sae)[3, 5]
    store.counted = np.ones((len(store), 17), bool)
    store.counted[3, 1:9] = False
    found = reference_maps(store, [(3, 5)], sae=sae)[3, 5]
    assert not found[:2].any()
    np.testing.assert_array_equal(found[2:], whole[2:])
    assert whole[:2].any()


def test_reference_maps_read_each_cell_once(chain, monkeypatch):
    sae, store, _ = chain
    reads = []
    original = store.read
    monkeypatch.setattr(store, "read", lambda a, b: reads.append(a) or original(a, b))
    maps = reference_maps(store, [(3, 1), (20, 1), (3, 8)], sae=sae)
    assert sorted(reads) == [3, 20]
    np.testing.assert_allclose(maps[3, 8], concept_map(store.tokens[3], 8, sae=sae), rtol=1e-6)


@pytest.mark.parametrize("sparsity", [ReluL1(), TopK(k=1), TopK(k=3), JumpRelu(initial_threshold=0.5)])
@pytest.mark.parametrize("first", [1, 4])
def test_the_strongest_patch_is_the_place_of_the_largest_value_of_the_map(chain, sparsity, first):
    _, store, _ = chain
    sae = SparseAutoencoder(12, 40, sparsity, PositionMean(), seed=1)
    sae.normaliser.fit(store.tokens.flatten(0, 1), torch.arange(17).repeat(len(store)))
    pairs = [(row, latent) for row in (7, 2, 20) for latent in range(40)]
    maps = reference_maps(store, pairs, sae=sae)
    found = strongest_patches(store, [*pairs, pairs[0]], sae=sae, first=first)
    assert found == {pair: int(grid.argmax()) for pair, grid in maps.items()}
    assert len(set(found.values())) > 4


def test_the_strongest_patch_is_among_those_that_count(chain):
    _, store, _ = chain
    sae = SparseAutoencoder(12, 40, TopK(k=3), seed=1)
    before = strongest_patches(store, [(5, latent) for latent in range(40)], sae=sae)
    store.counted = np.ones((len(store), 17), bool)
    store.counted[:, 1 + np.unique(list(before.values()))[1:4]] = False
    after = strongest_patches(store, [*before], sae=sae)
    maps = reference_maps(store, [*before], sae=sae)
    assert after == {pair: int(grid.argmax()) for pair, grid in maps.items()}
    assert after != before


def test_image_may_be_an_array_a_picture_or_a_path(chain, tmp_path):
    sae, *_ = chain
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(image).save(tmp_path / "cell.png")
    by_array = concept_map(image, 2, sae=sae, backbone=StubBackbone())
    by_picture = concept_map(Image.fromarray(image), 2, sae=sae, backbone=StubBackbone())
    np.testing.assert_array_equal(by_array, by_picture)
    by_path = concept_map(tmp_path / "cell.png", 2, sae=sae, backbone=StubBackbone())
    np.testing.assert_array_equal(by_array, by_path)


def test_wrong_calls_are_told_in_a_sentence(chain):
    sae, store, _ = chain
    with pytest.raises(UsageError, match="no latent 30"):
        concept_map(store.tokens[0], 30, sae=sae)
    with pytest.raises(UsageError, match="needs a backbone"):
        concept_map(np.zeros((8, 8, 3), np.uint8), 0, sae=sae)
    with pytest.raises(InputError, match="uint8"):
        concept_map(np.zeros((8, 8, 3), float), 0, sae=sae, backbone=StubBackbone())
    with pytest.raises(InputError, match="square grid"):
        concept_map(store.tokens[0, :12], 0, sae=sae)

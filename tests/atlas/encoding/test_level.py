"""Tokens of another level than the SAE was trained on are refused, though their width is the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cytosae.atlas import build_atlas, concept_map, reference_maps
from cytosae.backbones import Backbone, load_backbone
from cytosae.cells import CellTable, read_cells
from cytosae.common.errors import InputError
from cytosae.sae import SparseAutoencoder, TopK, load_sae, save_sae
from cytosae.sae.model.level import level_of
from cytosae.tokens import ExtractConfig, TokenStore, extract

IMAGE = np.full((64, 64, 3), 200, np.uint8)


@pytest.fixture(scope="module")
def cells(smear: Path) -> CellTable:
    return read_cells(smear)


@pytest.fixture(scope="module")
def store(cells: CellTable, tmp_path_factory: pytest.TempPathFactory) -> TokenStore:
    out = tmp_path_factory.mktemp("level") / "tokens"
    return extract(cells, load_backbone("tiny", block=1), out, config=ExtractConfig(workers=0))


def trained_on(backbone: Backbone) -> SparseAutoencoder:
    sae = SparseAutoencoder(192, 64, TopK(k=4))
    sae.level = level_of(backbone.describe())
    return sae


def tiny(block: int) -> Backbone:
    backbone = load_backbone("tiny", block=block)
    assert isinstance(backbone, Backbone)
    return backbone


def test_an_sae_of_block_2_is_refused_on_tokens_of_block_1(store: TokenStore, cells: CellTable) -> None:
    said = r"trained on tokens after block 2, but .*tokens gives those after block 1;"
    with pytest.raises(InputError, match=said):
        build_atlas(trained_on(tiny(2)), store, cells, tau=0.1)
    with pytest.raises(InputError, match=said):
        reference_maps(store, [(0, 0)], sae=trained_on(tiny(2)))
    build_atlas(trained_on(tiny(1)), store, cells, tau=0.1)


@pytest.mark.parametrize("what", ["weights", "preprocessing"])
def test_maps_refuse_other_weights_and_another_image_size(what: str) -> None:
    backbone = tiny(1)
    sae = trained_on(backbone)
    assert concept_map(IMAGE, 0, sae=sae, backbone=backbone).shape == backbone.grid
    if what == "weights":
        backbone.weights_hash = "0" * 64
    else:
        backbone.preprocessing = replace(backbone.preprocessing, size=backbone.preprocessing.size * 2)
    said = {"weights": r"by the weights \w{12}, but .* by the weights 0{12};", "preprocessing": r"prepared by size "}
    with pytest.raises(InputError, match=said[what]):
        concept_map(IMAGE, 0, sae=sae, backbone=backbone)


def test_stained_tokens_are_another_level() -> None:
    plain = tiny(1).describe()
    assert level_of({**plain, "stain": "reinhard"}) != level_of(plain)
    assert level_of({**plain, "weights_hash": "1", "exported_from": plain["weights_hash"]}) == level_of(plain)


def test_the_level_is_saved_with_the_sae_and_old_saes_have_none(tmp_path: Path, store: TokenStore) -> None:
    sae = trained_on(tiny(1))
    assert load_sae(save_sae(sae, tmp_path / "sae")).level == sae.level == level_of(store.manifest["backbone"])
    without = SparseAutoencoder(192, 64, TopK(k=4))
    assert load_sae(save_sae(without, tmp_path / "old")).level is None
    assert concept_map(IMAGE, 0, sae=without, backbone=tiny(2)).shape == (16, 16)

"""Models with registers or several prefix tokens, from images to a map: every patch is where it was in the image."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from timm.models.deit import VisionTransformerDistilled
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer

from cytosae.atlas import build_atlas, concept_map, reference_maps
from cytosae.backbones import Backbone, Preprocessing
from cytosae.cells import CellTable, load_image, read_cells
from cytosae.sae import SparseAutoencoder, TopK
from cytosae.tokens import ExtractConfig, extract

SMALL: dict[str, Any] = {"img_size": 64, "patch_size": 16, "embed_dim": 48, "depth": 3, "num_heads": 4}
REGISTERED: dict[str, Any] = {**SMALL, "reg_tokens": 4, "no_embed_class": True, "init_values": 1.0}
ROTARY: dict[str, Any] = {**SMALL, "use_rot_pos_emb": True}
MODELS: dict[str, tuple[Callable[[], torch.nn.Module], int]] = {
    "plain": (lambda: VisionTransformer(**SMALL), 0),
    "DINOv2 with registers": (lambda: VisionTransformer(**REGISTERED), 4),
    "DINOv3": (lambda: Eva(**ROTARY, num_reg_tokens=4, use_abs_pos_emb=False, dynamic_img_size=False), 4),
    "Eva": (lambda: Eva(**ROTARY), 0),
    "CLS and distillation token": (lambda: VisionTransformerDistilled(**SMALL), 1),
}


@pytest.fixture(scope="module")
def cells(smear: Path) -> CellTable:
    return read_cells(smear)


@pytest.fixture(params=MODELS)
def backbone(request: pytest.FixtureRequest) -> Backbone:
    make, extra = MODELS[request.param]
    torch.manual_seed(2)
    preprocessing = Preprocessing(64, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    made = Backbone(
        make(), name="drawn", preprocessing=preprocessing, block=2, weights_hash="0", source="test", licence="none"
    )
    assert made.registers == extra
    return made


def test_tokens_are_the_class_token_and_the_patches_of_the_hooked_block(backbone: Backbone, cells: CellTable) -> None:
    batch = backbone.prepare([load_image(cells.image_path(row)) for row in range(2)])
    seen: list[torch.Tensor] = []
    hook = backbone.model.blocks[1].register_forward_hook(lambda _m, _i, out: seen.append(out))
    with torch.no_grad():
        backbone.model.forward_features(batch)
    hook.remove()
    whole = seen[0]
    assert whole.shape[1] == 1 + backbone.registers + 16
    expected = torch.cat([whole[:, :1], whole[:, 1 + backbone.registers :]], 1)
    torch.testing.assert_close(backbone(batch), expected)


def test_maps_of_an_atlas_are_those_of_the_image(backbone: Backbone, cells: CellTable, tmp_path: Path) -> None:
    store = extract(cells, backbone, tmp_path / "tokens", config=ExtractConfig(batch_size=4, workers=0))
    sae = SparseAutoencoder(48, 96, TopK(k=6), seed=1)
    atlas = build_atlas(sae, store, cells, tau=0.0)
    latent = int(np.nanargmax(atlas.var["activation_frequency"]))
    row = int(atlas.X[:, [latent]].toarray().argmax())
    stored = reference_maps(store, [(row, latent)], sae=sae)[row, latent]
    fresh = concept_map(load_image(cells.image_path(row)), latent, sae=sae, backbone=backbone)
    assert stored.shape == backbone.grid == (4, 4)
    np.testing.assert_allclose(stored, fresh, atol=2e-2)
    assert np.isclose(atlas.X[row, latent], (stored.sum() + cls_activation(store, row, latent, sae)) / 17, atol=1e-5)


def cls_activation(store: Any, row: int, latent: int, sae: SparseAutoencoder) -> float:
    return float(sae.encode_sparse(store.read(row, row + 1)[0, :1]).to_dense()[0, latent])


def test_tokens_do_not_depend_on_the_size_of_the_batch(backbone: Backbone, cells: CellTable) -> None:
    batch = backbone.prepare([load_image(cells.image_path(row)) for row in range(7)])
    together = backbone(batch)
    apart = torch.cat([backbone(part) for size in (1, 2, 4) for part in [batch[size - 1 : 2 * size - 1]]])
    torch.testing.assert_close(apart, together, rtol=1e-4, atol=1e-5)

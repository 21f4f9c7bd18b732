"""Images, and a DinoBloom-S checkpoint in the published format with made-up weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import timm
import torch


@pytest.fixture(scope="session")
def images() -> list[np.ndarray]:
    """Three images of different sizes and proportions."""
    rng = np.random.default_rng(5)
    return [rng.integers(0, 256, (h, w, 3), dtype=np.uint8) for h, w in ((90, 90), (200, 160), (31, 47))]


@pytest.fixture(scope="session")
def dino_small() -> torch.nn.Module:
    """timm's DINOv2 ViT-S at 224 px, its weights drawn at random."""
    torch.manual_seed(11)
    model = timm.create_model("vit_small_patch14_dinov2", num_classes=0, img_size=224, dynamic_img_size=False)
    with torch.no_grad():  # layer scale starts at 1e-5, which would hide whatever blocks compute
        for name, value in model.named_parameters():
            if name.endswith("gamma"):
                value.uniform_(0.5, 1.5)
    return model.eval()


def published_names(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Rename a timm state dict as DinoBloom is published: prefix, heads and mask token beside, all else alike."""
    width = state["cls_token"].shape[-1]
    renamed = {f"backbone.{key}": value for key, value in state.items()}
    renamed["backbone.mask_token"] = torch.zeros(1, width)
    renamed["dino_head.mlp.0.weight"] = torch.zeros(3, width)
    renamed["ibot_head.last_layer.weight_v"] = torch.zeros(3, width)
    return renamed


@pytest.fixture(scope="session")
def published(dino_small: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The teacher of a DinoBloom-S checkpoint."""
    return published_names(dino_small.state_dict())


@pytest.fixture(scope="session")
def dinobloom_file(published: dict[str, torch.Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint as a file."""
    path = tmp_path_factory.mktemp("dinobloom") / "made_up.pth"
    torch.save({"teacher": published}, path)
    return path

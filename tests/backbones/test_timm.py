"""Any vision transformer of timm, from a local file or its hub; the unsuitable ones are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from cytosae.backbones import load_backbone
from cytosae.common.errors import InputError, UsageError, WeightsError


def save_model(name: str, path: Path, **changes: object) -> torch.nn.Module:
    torch.manual_seed(3)
    model = timm.create_model(name, **changes).eval()
    save_file(model.state_dict(), path)
    return model


def test_local_file_with_its_classifier_gives_timms_tokens(tmp_path: Path, images: list[np.ndarray]) -> None:
    model = save_model("test_vit", tmp_path / "vit.safetensors")
    backbone = load_backbone("timm:test_vit", tmp_path / "vit.safetensors")
    batch = backbone.prepare(images)
    seen = []
    model.blocks[4].register_forward_hook(lambda _m, _i, output: seen.append(output))  # pyright: ignore
    with torch.no_grad():
        whole = model.forward_features(batch)  # pyright: ignore
    assert torch.equal(backbone(batch), seen[0])
    torch.testing.assert_close(backbone.finish(backbone(batch)), whole)
    assert (backbone.grid, backbone.n_tokens, backbone.preprocessing.size) == ((10, 10), 101, 160)
    assert backbone.preprocessing.mean == tuple(model.pretrained_cfg["mean"])  # pyright: ignore


def test_register_tokens_are_left_out_and_finish_says_why(tmp_path: Path, images: list[np.ndarray]) -> None:
    # vit_tiny with rotary positions, a CLS token and four registers
    save_model("vit_tiny_patch16_dinov3_qkvb", tmp_path / "vit.safetensors")
    backbone = load_backbone("timm:vit_tiny_patch16_dinov3_qkvb", tmp_path / "vit.safetensors")
    tokens = backbone(backbone.prepare(images))
    assert tokens.shape == (3, 1 + 16 * 16, backbone.width)
    assert backbone.describe()["registers_left_out"] == 4
    with pytest.raises(InputError, match="has 4 register tokens"):
        backbone.finish(tokens)


def test_keys_that_do_not_fit_are_named(tmp_path: Path) -> None:
    save_model("vit_tiny_patch16_224", tmp_path / "other.safetensors")
    with pytest.raises(
        WeightsError, match=r"other\.safetensors do not fit .*has in excess 72 keys .*has in another shape 78 keys"
    ):
        load_backbone("timm:test_vit", tmp_path / "other.safetensors")


def test_unreachable_hub_is_said_and_nothing_is_random(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_args: object, **options: object) -> None:
        assert options["pretrained"] is True
        raise OSError("no route to the hub\nand more lines")

    monkeypatch.setattr(timm, "create_model", unreachable)
    with pytest.raises(
        WeightsError, match=r"could not be fetched through timm \(no route to the hub\); .*weights=PATH"
    ):
        load_backbone("timm:test_vit")


def test_model_without_published_weights_is_not_started_at_random() -> None:
    unpublished = next(name for name in timm.list_models("vit_small*") if not timm.is_model_pretrained(name))
    with pytest.raises(WeightsError, match="could not be fetched"):
        load_backbone(f"timm:{unpublished}")


def test_unknown_model_is_named() -> None:
    with pytest.raises(UsageError, match="timm has no model 'vit_nobody'"):
        load_backbone("timm:vit_nobody")


@pytest.mark.parametrize(
    ("name", "said"),
    [("test_vit2", "has no CLS token"), ("test_resnet", "not a plain vision transformer")],
)
def test_unsuitable_models_are_refused(name: str, said: str, tmp_path: Path) -> None:
    save_model(name, tmp_path / "model.safetensors", num_classes=0)
    with pytest.raises(WeightsError, match=said):
        load_backbone(f"timm:{name}", tmp_path / "model.safetensors")


def test_a_model_for_oblong_images_has_an_oblong_grid(tmp_path: Path, images: list[np.ndarray]) -> None:
    model = timm.create_model("test_vit", num_classes=0, img_size=(160, 128))
    timm.models.save_for_hf(model, tmp_path / "vit", model_args={"img_size": [160, 128]})
    backbone = load_backbone(f"timm:local-dir:{tmp_path / 'vit'}")
    assert (backbone.grid, backbone.n_tokens, backbone.preprocessing.size) == ((10, 8), 81, (160, 128))
    assert backbone(backbone.prepare(images)).shape == (3, 81, backbone.width)
    described = backbone.describe()
    assert (described["side"], described["preprocessing"]["size"]) == ([10, 8], [160, 128])
    with pytest.raises(InputError, match=r"takes batches \[B, 3, 160, 128\], not \[1, 3, 128, 160\]"):
        backbone(torch.zeros(1, 3, 128, 160))


def test_a_model_in_timms_format_outside_of_its_list_is_loaded_with_its_own_preprocessing(tmp_path: Path) -> None:
    model = timm.create_model("test_vit", num_classes=0)
    timm.models.save_for_hf(model, tmp_path / "vit", model_config={"mean": [0.1, 0.2, 0.3]})
    backbone = load_backbone(f"timm:local-dir:{tmp_path / 'vit'}")
    assert backbone.n_tokens == 101
    assert all(torch.equal(value, backbone.model.state_dict()[key]) for key, value in model.state_dict().items())  # pyright: ignore

"""DinoBloom checkpoints: as published, translated, and refused where a key does not fit."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import timm
import torch

from cytosae.backbones import REGISTRY, load_backbone
from cytosae.backbones.checkpoints import dinobloom_state
from cytosae.common.errors import WeightsError

State = dict[str, torch.Tensor]


def test_tokens_of_a_published_checkpoint_are_timms(
    dinobloom_file: Path, dino_small: torch.nn.Module, images: list[np.ndarray]
) -> None:
    backbone = load_backbone("dinobloom-s", dinobloom_file)
    batch = backbone.prepare(images)
    seen = []
    handle = dino_small.blocks[10].register_forward_hook(lambda _m, _i, output: seen.append(output))  # pyright: ignore
    with torch.no_grad():
        whole = dino_small.forward_features(batch)  # pyright: ignore
    handle.remove()
    tokens = backbone(batch)
    assert batch.shape == (3, 3, 224, 224)
    assert tokens.shape == (3, 257, 384)
    assert backbone.block == 11
    assert torch.equal(tokens, seen[0])
    torch.testing.assert_close(backbone.finish(tokens), whole)
    assert backbone.describe()["licence"] == "Apache-2.0"


def test_state_dict_of_the_hub_with_blocks_in_chunks_is_read(published: State, dino_small: torch.nn.Module) -> None:
    plain = {k.removeprefix("backbone."): v for k, v in published.items() if "head" not in k}
    chunked = {
        k.replace("blocks.", f"blocks.{int(k.split('.')[1]) // 3}.") if k.startswith("blocks.") else k: v
        for k, v in plain.items()
    }
    for state in (plain, chunked):
        assert dinobloom_state(state, "x.pth").keys() == dino_small.state_dict().keys()


def test_names_and_shapes_of_the_giant_fit_timm() -> None:
    with torch.device("meta"):
        model = timm.create_model("vit_giant_patch14_dinov2", num_classes=0, img_size=224, dynamic_img_size=False)
    own = {key: list(value.shape) for key, value in model.state_dict().items()}
    published = {
        f"backbone.{key.replace('.mlp.fc1.', '.mlp.w12.').replace('.mlp.fc2.', '.mlp.w3.')}": value
        for key, value in model.state_dict().items()
    }
    assert "backbone.blocks.39.mlp.w12.weight" in published
    assert list(published["backbone.blocks.0.mlp.w12.weight"].shape) == [8192, 1536]
    translated = dinobloom_state({"teacher": published}, "g.pth")
    assert {key: list(value.shape) for key, value in translated.items()} == own


@pytest.mark.parametrize("name", [name for name in REGISTRY if name.startswith("dinobloom")])
def test_registered_sizes_are_those_of_the_architecture(name: str) -> None:
    entry = REGISTRY[name]
    with torch.device("meta"):
        model = timm.create_model(entry.timm_model, num_classes=0, img_size=224, dynamic_img_size=False)
    assert (model.embed_dim, len(model.blocks)) == (entry.width, entry.depth)  # pyright: ignore
    assert list(model.pos_embed.shape) == [1, 257, entry.width]  # pyright: ignore


def _without(state: State) -> State:
    return {k: v for k, v in state.items() if k != "backbone.blocks.7.ls1.gamma"}


def _with_more(state: State) -> State:
    return {**state, "backbone.register_tokens": torch.zeros(1, 4, 384)}


def _with_another_shape(state: State) -> State:
    return {**state, "backbone.pos_embed": torch.zeros(1, 1370, 384)}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_without, r"it lacks 1 keys \(blocks\.7\.ls1\.gamma\)"),
        (_with_more, r"it has in excess 1 keys \(register_tokens\)"),
        (
            _with_another_shape,
            r"it has in another shape 1 keys \(pos_embed \[1, 1370, 384\] instead of \[1, 257, 384\]\)",
        ),
    ],
)
def test_every_key_is_accounted_for(
    change: Callable[[State], State], said: str, published: State, tmp_path: Path
) -> None:
    torch.save({"teacher": change(published)}, tmp_path / "changed.pth")
    with pytest.raises(WeightsError, match=rf"changed\.pth do not fit .*{said}") as caught:
        load_backbone("dinobloom-s", tmp_path / "changed.pth")
    assert "\n" not in str(caught.value)


def test_checkpoint_of_another_size_is_refused(dinobloom_file: Path) -> None:
    with pytest.raises(WeightsError, match="has in another shape"):
        load_backbone("dinobloom-b", dinobloom_file)


class _Runs:
    def __reduce__(self) -> tuple:
        return os.mkdir, (os.environ["CYTOSAE_TEST_TRAP"],)


def test_pickle_that_would_run_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trap = tmp_path / "was_run"
    monkeypatch.setenv("CYTOSAE_TEST_TRAP", str(trap))
    torch.save({"teacher": _Runs()}, tmp_path / "evil.pth")
    with pytest.raises(WeightsError, match=r"evil\.pth is damaged, or holds more than tensors"):
        load_backbone("dinobloom-s", tmp_path / "evil.pth")
    assert not trap.exists()


def test_damaged_and_foreign_files_are_refused(dinobloom_file: Path, tmp_path: Path) -> None:
    (tmp_path / "short.pth").write_bytes(dinobloom_file.read_bytes()[:5000])
    (tmp_path / "empty.pth").write_bytes(b"")
    (tmp_path / "text.safetensors").write_text("no weights")
    (tmp_path / "weights.h5").write_text("no weights")
    torch.save([1, 2], tmp_path / "list.pth")
    torch.save({"epoch": 3}, tmp_path / "epoch.pth")
    for name in ("short.pth", "empty.pth", "text.safetensors", "weights.h5", "list.pth", "epoch.pth", "none.pth"):
        with pytest.raises(WeightsError, match=name.replace(".", r"\.")) as caught:
            load_backbone("dinobloom-s", tmp_path / name)
        assert "\n" not in str(caught.value)


def test_file_with_a_published_name_must_have_the_published_checksum(dinobloom_file: Path, tmp_path: Path) -> None:
    (tmp_path / "DinoBloom-S.pth").hardlink_to(dinobloom_file)
    with pytest.raises(WeightsError, match=r"not its checksum .*instead of c2f7990b"):
        load_backbone("dinobloom-s", tmp_path / "DinoBloom-S.pth")


@pytest.mark.parametrize("letter", ["s", "b", "l", "g"])
def test_missing_weights_are_answered_with_where_to_get_them(letter: str) -> None:
    with pytest.raises(WeightsError) as caught:
        load_backbone(f"dinobloom-{letter}")
    said = str(caught.value)
    for part in (f"DinoBloom-{letter.upper()}.pth", f"pytorch_model_{letter}.bin", "10908163", "MarrLab/DinoBloom"):
        assert part in said
    assert "weights=PATH (--backbone.weights" in said
    assert ("c2f7990b" in said) == (letter == "s")

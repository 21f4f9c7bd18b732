"""The bundled backbone, and what holds for every backbone."""

from __future__ import annotations

import hashlib
import json
import pickle
import shutil
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torchvision.transforms import v2

from cytosae.backbones import REGISTRY, Backbone, Preprocessing, former_weights, load_backbone
from cytosae.common.errors import InputError, UsageError, WeightsError

SHIPPED = Path(str(resources.files("cytosae.backbones") / "weights"))


@pytest.fixture(scope="module")
def tiny() -> Backbone:
    return load_backbone("tiny")


def test_tokens_have_the_geometry_of_dinobloom(tiny: Backbone, images: list[np.ndarray]) -> None:
    tokens = tiny(tiny.prepare(images))
    assert tokens.shape == (3, 257, 192)
    assert tokens.dtype == torch.float32
    assert (tiny.width, tiny.grid, tiny.n_tokens, tiny.depth, tiny.block) == (192, (16, 16), 257, 8, 7)
    assert torch.isfinite(tokens).all()
    assert not tokens.requires_grad
    assert 3.7e6 < sum(p.numel() for p in tiny.parameters()) < 3.8e6


def test_tokens_do_not_depend_on_the_rest_of_the_batch_or_the_loading(tiny: Backbone, images: list[np.ndarray]) -> None:
    together = tiny(tiny.prepare(images))
    alone = torch.cat([load_backbone()(tiny.prepare([image])) for image in images])
    torch.testing.assert_close(alone, together, rtol=1e-4, atol=1e-5)
    assert torch.equal(together, tiny(tiny.prepare(images)))


@pytest.mark.parametrize("block", [1, 3, 7, 8, -8, -1])
def test_tokens_are_what_a_hook_on_the_block_sees(block: int, images: list[np.ndarray]) -> None:
    backbone = load_backbone("tiny", block=block)
    batch = backbone.prepare(images)
    seen = []
    number = block if block > 0 else 9 + block
    handle = backbone.model.blocks[number - 1].register_forward_hook(lambda _m, _i, output: seen.append(output))
    with torch.no_grad():
        backbone.model.forward_features(batch)
    handle.remove()
    assert backbone.block == number
    assert torch.equal(backbone(batch), seen[0])


def test_later_blocks_are_not_computed(images: list[np.ndarray]) -> None:
    backbone = load_backbone("tiny", block=3)
    computed = []
    for number, block in enumerate(backbone.model.blocks, 1):
        block.register_forward_hook(lambda _m, _i, _o, number=number: computed.append(number))
    backbone(backbone.prepare(images))
    assert computed == [1, 2, 3]


def test_finish_runs_the_remaining_blocks(tiny: Backbone, images: list[np.ndarray]) -> None:
    batch = tiny.prepare(images)
    with torch.no_grad():
        whole = tiny.model.forward_features(batch)
    torch.testing.assert_close(tiny.finish(tiny(batch)), whole)


def test_finish_gives_gradients_with_respect_to_tokens(tiny: Backbone, images: list[np.ndarray]) -> None:
    tokens = tiny(tiny.prepare(images[:1])).requires_grad_()
    tiny.finish(tokens)[:, 0].sum().backward()
    assert tokens.grad is not None
    assert tokens.grad.abs().sum() > 0
    assert all(p.grad is None for p in tiny.parameters())


def test_training_mode_around_it_changes_nothing(tiny: Backbone) -> None:
    torch.nn.Sequential(tiny).train()
    assert not any(module.training for module in tiny.modules())


def test_preprocessing_is_torchvisions(tiny: Backbone, images: list[np.ndarray]) -> None:
    p = tiny.preprocessing
    chain = v2.Compose(
        [
            v2.Resize((p.size, p.size), antialias=True),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(p.mean, p.std),
        ]
    )
    expected = torch.stack([chain(Image.fromarray(image)) for image in images])
    torch.testing.assert_close(tiny.prepare(images), expected)


def test_arrays_and_pil_images_of_any_mode_are_the_same_cells(tiny: Backbone, images: list[np.ndarray]) -> None:
    image = Image.fromarray(images[0])
    batch = tiny.prepare([images[0], image, image.convert("RGBA")])
    assert torch.equal(batch[0], batch[1])
    assert torch.equal(batch[0], batch[2])


def test_prepare_is_sent_to_workers_without_the_network(tiny: Backbone) -> None:
    assert len(pickle.dumps(tiny.prepare)) < 1000
    assert pickle.loads(pickle.dumps(tiny.prepare)) == tiny.preprocessing


@pytest.mark.parametrize("bad", [np.zeros((8, 8), np.uint8), np.zeros((8, 8, 3), np.float32), "cell.png"])
def test_what_is_no_image_is_named(tiny: Backbone, images: list[np.ndarray], bad: object) -> None:
    with pytest.raises(InputError, match=r"Image 1 of the batch is a .*; give a PIL image or a uint8 array"):
        tiny.prepare([images[0], bad])


def test_a_single_image_is_refused(tiny: Backbone, images: list[np.ndarray]) -> None:
    with pytest.raises(InputError, match="put it into a list"):
        tiny.prepare(images[0])  # pyright: ignore


def test_batches_and_tokens_of_another_shape_are_refused(tiny: Backbone) -> None:
    with pytest.raises(InputError, match=r"takes batches \[B, 3, 256, 256\], not \[1, 3, 64, 64\]"):
        tiny(torch.zeros(1, 3, 64, 64))
    with pytest.raises(InputError, match=r"has tokens \[B, 257, 192\], not \[1, 256, 192\]"):
        tiny.finish(torch.zeros(1, 256, 192))


def test_impossible_preprocessing_is_refused() -> None:
    with pytest.raises(InputError, match="interpolation 'cubic'"):
        Preprocessing(size=8, mean=(0, 0, 0), std=(1, 1, 1), interpolation="cubic")
    with pytest.raises(InputError, match="positive size"):
        Preprocessing(size=8, mean=(0, 0, 0), std=(1, 0, 1))


def test_description_is_json_and_names_the_weights(tiny: Backbone) -> None:
    described = json.loads(json.dumps(tiny.describe()))
    assert described["weights_hash"] == hashlib.sha256((SHIPPED / "tiny.safetensors").read_bytes()).hexdigest()
    assert described["preprocessing"] == {
        "size": 256,
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
        "interpolation": "bilinear",
    }
    assert described["block"] == 7


def test_shipped_weights_are_float16_and_small() -> None:
    state = load_file(SHIPPED / "tiny.safetensors")
    assert {value.dtype for value in state.values()} == {torch.float16}
    assert (SHIPPED / "tiny.safetensors").stat().st_size < 8e6


def test_weights_that_are_not_those_described_are_refused(tmp_path: Path) -> None:
    for name in ("tiny.safetensors", "tiny.json"):
        shutil.copy(SHIPPED / name, tmp_path)
    damaged = bytearray((tmp_path / "tiny.safetensors").read_bytes())
    damaged[-7] ^= 1
    (tmp_path / "tiny.safetensors").write_bytes(damaged)
    with pytest.raises(WeightsError, match=r"tiny.safetensors is not the file that tiny.json describes"):
        load_backbone("tiny", tmp_path / "tiny.safetensors")
    (tmp_path / "tiny.json").write_text("{")
    with pytest.raises(WeightsError, match=r"tiny.json, which describes the weights, is missing or damaged"):
        load_backbone("tiny", tmp_path / "tiny.safetensors")
    (tmp_path / "tiny.json").write_text('{"architecture": {"class": "Mamba"}}')
    with pytest.raises(WeightsError, match="install a newer cytosae"):
        load_backbone("tiny", tmp_path / "tiny.safetensors")
    with pytest.raises(WeightsError, match="There is no weights file"):
        load_backbone("tiny", tmp_path / "none.safetensors")


FORMER = "7b9f3fd1cb8bf875133134eaf57e05de2edffc0bfbe1938a782e806ce9bc617c"


def test_weights_that_were_bundled_before_are_found_by_their_hash(
    images: list[np.ndarray], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    former = load_backbone("tiny", FORMER)
    assert (former.weights_hash, former.depth, former.block) == (FORMER, 6, 5)
    assert former(former.prepare(images)).shape == (3, 257, 192)
    assert former.describe()["source"] == load_backbone("tiny").describe()["source"]  # as they were recorded then
    kept = former_weights.IN_THE_REPOSITORY
    monkeypatch.setattr(former_weights, "IN_THE_REPOSITORY", tmp_path / "an installed wheel has none")
    monkeypatch.setenv("CYTOSAE_CACHE", str(tmp_path))
    with pytest.raises(WeightsError, match=r"copy weights/tiny-2026a.safetensors and the .json beside it .* to "):
        load_backbone("tiny", FORMER)
    shutil.copytree(kept, tmp_path / "weights")
    assert load_backbone("tiny", FORMER).weights_hash == FORMER
    with pytest.raises(WeightsError, match="No version of cytosae bundled weights with the sha256 'aaaa"):
        load_backbone("tiny", 64 * "a")


@pytest.mark.parametrize("block", [0, 9, -9])
def test_blocks_that_do_not_exist_are_named(block: int) -> None:
    with pytest.raises(UsageError, match=rf"has blocks 1 to 8 \(or -8 to -1\), not {block}\."):
        load_backbone("tiny", block=block)


def test_unknown_names_are_answered_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="'dinobloom'; take one of tiny, dinobloom-s, .*onnx:<name> or timm:<model>"):
        load_backbone("dinobloom")


def test_registry_says_where_weights_come_from_and_their_licence() -> None:
    assert list(REGISTRY) == ["tiny", "dinobloom-s", "dinobloom-b", "dinobloom-l", "dinobloom-g"]
    assert [entry.width for entry in REGISTRY.values()] == [192, 384, 768, 1024, 1536]
    assert all(entry.origin and entry.licence and entry.files for entry in REGISTRY.values())
    assert REGISTRY["dinobloom-s"].sha256["DinoBloom-S.pth"].startswith("c2f7990b")


@pytest.mark.cuda
def test_tokens_on_a_gpu_are_those_of_the_cpu(images: list[np.ndarray]) -> None:
    backbone = load_backbone("tiny")
    batch = backbone.prepare(images)
    expected, finished = backbone(batch), backbone.finish(backbone(batch))
    backbone.to("cuda")
    tokens = backbone(batch)
    assert tokens.device.type == "cuda"
    torch.testing.assert_close(tokens.cpu(), expected, rtol=2e-3, atol=2e-3)
    torch.testing.assert_close(backbone.finish(tokens).cpu(), finished, rtol=2e-3, atol=2e-3)

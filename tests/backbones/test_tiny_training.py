"""The scripts that made the bundled backbone: what they train goes on exactly, loads, and is chosen by the rule."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from timm.models.vision_transformer import checkpoint_filter_fn

from cytosae.backbones import load_backbone

SCRIPTS = Path(__file__).parents[2] / "scripts"
if not SCRIPTS.is_dir():
    pytest.skip("the scripts are not installed with the package", allow_module_level=True)
sys.path.insert(0, str(SCRIPTS))

from tiny_images import Cells, pack_images  # noqa: E402
from tiny_learner import Recipe, deit_encoder, position_share  # noqa: E402
from train_tiny import Training, export  # noqa: E402
from trials_rule import YARDSTICKS, eligible, rank_candidates  # noqa: E402


@pytest.fixture(scope="module")
def cells() -> Cells:
    return Cells(np.random.default_rng(0).integers(0, 255, (5, 3, 224, 224), dtype=np.uint8))


@pytest.fixture(scope="module")
def deit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """DeiT-tiny's architecture with random weights, under timm's names."""
    torch.manual_seed(0)
    model = timm.create_model("deit_tiny_patch16_224", pretrained=False)
    for name, value in model.named_parameters():
        if name.endswith("bias") or name == "cls_token":
            torch.nn.init.normal_(value, std=0.1)
    file = tmp_path_factory.mktemp("deit") / "deit.safetensors"
    save_file({name: value.detach().clone() for name, value in model.state_dict().items()}, file)
    return file


RECIPE = Recipe(start="nothing", batch=2, steps=8, teachers="self", masked=0.8, predicted=0.1)


def test_a_stopped_training_takes_the_same_next_step(cells: Cells, tmp_path: Path) -> None:
    whole = Training(cells, RECIPE)
    for i in range(2):
        whole.step(i / 8)
    whole.save(tmp_path / "checkpoint.pt")
    going_on = Training(cells, RECIPE)
    going_on.load(tmp_path / "checkpoint.pt")
    assert going_on.step(2 / 8) == whole.step(2 / 8)
    with pytest.raises(SystemExit, match="another recipe"):
        Training(cells, Recipe(start="nothing", steps=8, batch=2)).load(tmp_path / "checkpoint.pt")


def test_exported_weights_load_and_give_the_encoders_tokens(cells: Cells, tmp_path: Path) -> None:
    training = Training(cells, RECIPE)
    training.step(0.5)
    export(training, tmp_path)
    backbone = load_backbone("tiny", tmp_path / "tiny.safetensors")
    batch = backbone.prepare([np.asarray(cells[torch.tensor([0])][0].permute(1, 2, 0))])
    everything = torch.arange(256)[None]
    with torch.no_grad():
        own, _ = training.learner.encode(batch, everything)
    torch.testing.assert_close(backbone(batch), own, atol=0.02, rtol=0.02)


def test_a_start_from_deit_computes_what_deit_does(deit: Path) -> None:
    theirs = timm.create_model("deit_tiny_patch16_224", pretrained=False, img_size=256, num_classes=0)
    timm.models.load_checkpoint(theirs, str(deit), strict=False, filter_fn=checkpoint_filter_fn)
    x = torch.randn(1, 3, 256, 256)
    with torch.no_grad():
        expected = theirs.eval().forward_intermediates(x, indices=[1], norm=False, intermediates_only=True)[0]
        found = deit_encoder(deit, 3).eval().forward_intermediates(x, indices=[1], norm=False, intermediates_only=True)
    torch.testing.assert_close(found[0], expected, atol=1e-4, rtol=1e-4)


def test_position_share_is_what_the_place_explains() -> None:
    rng = torch.Generator().manual_seed(0)
    places = torch.stack([torch.randperm(256, generator=rng)[:100] for _ in range(64)])
    content = torch.randn(64, 100, 8, generator=rng)
    by_place = torch.randn(256, 8, generator=rng)[places]
    assert abs(float(position_share(content, places))) < 0.02
    assert float(position_share(content + by_place, places)) == pytest.approx(0.5, abs=0.05)


def test_real_and_drawn_cells_are_one_set(tmp_path: Path) -> None:
    def images(shades: list[int]):
        return (Image.new("RGB", (40, 40), (shade, shade, shade)) for shade in shades)

    first = pack_images(images([10, 20]), ["a", "b"], tmp_path / "first.npy")
    second = pack_images(images([30]), ["c"], tmp_path / "second.npy")
    cells = Cells(first, second)
    assert len(cells) == 3
    assert cells[torch.tensor([2, 0, 1])][:, 0, 0, 0].tolist() == [30, 10, 20]
    again = pack_images(images([99, 99]), ["a", "b"], tmp_path / "first.npy")
    assert int(again[0, 0, 0, 0]) == 10, "packed once"
    other = pack_images(images([40, 50]), ["a", "d"], tmp_path / "first.npy")
    assert int(other[0, 0, 0, 0]) == 40, "other images are packed anew"


def test_the_rule_takes_the_smallest_mean_rank_among_what_can_be_bundled() -> None:
    good = dict.fromkeys(YARDSTICKS, 0.9) | {"position": 0.1, "colour": 0.1}
    poor = dict.fromkeys(YARDSTICKS, 0.5) | {"position": 0.3, "colour": 0.2}
    mixed = good | {"few": 0.6, "position": 0.2}
    rows = {
        "former": poor | {"megabytes": 5.4, "relative_speed": 1.0},
        "good": good | {"megabytes": 7.5, "relative_speed": 0.6},
        "mixed": mixed | {"megabytes": 7.5, "relative_speed": 0.6},
        "large": good | {"megabytes": 9.5, "relative_speed": 0.6},
        "slow": good | {"megabytes": 7.5, "relative_speed": 0.45},
    }
    values = pd.DataFrame(rows).T
    allowed = eligible(values)
    assert sorted(values.index[allowed]) == ["former", "good", "mixed"]
    ranks = rank_candidates(values[allowed])
    assert list(ranks.index) == ["good", "mixed", "former"]
    assert ranks.loc["good", "position"] == 1
    assert ranks.loc["former", "mean"] == 3
    assert ranks.loc["mixed", "attributes"] == 1.5

"""The published checkpoint format, read from the file that the authors' own code has written."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from cytosae.common.artifact import hash_file, read_artifact
from cytosae.common.errors import WeightsError
from cytosae.sae import ReluL1, load_sae
from cytosae.sae.exchange.published import backbone_of, import_published, load_published, read_published
from cytosae.sae.exchange.torch_archive import refuse

WEIGHTS = ("W_enc", "b_enc", "W_dec", "b_dec")


@pytest.fixture
def official(shared_reference):
    return shared_reference / "official_sae_small" / "official_checkpoint.pt"


@pytest.fixture
def expected(shared_reference):
    with np.load(shared_reference / "official_sae_small" / "expected.npz") as file:
        return dict(file)


def test_the_authors_file_gives_their_weights_and_a_plain_config(official, expected):
    config, weights = read_published(official)
    for name in WEIGHTS:
        np.testing.assert_array_equal(weights[name].numpy(), expected[f"final_{name}"])
    assert json.loads(json.dumps(config)) == config
    assert (config["d_in"], config["d_sae"], config["block_layer"], config["device"], config["dtype"]) == (
        48,
        384,
        -2,
        "cpu",
        "float32",
    )


def test_load_sae_computes_what_the_authors_code_computed(official, expected):
    sae = load_sae(official)
    x = torch.from_numpy(expected["x"])
    assert sae.sparsity == ReluL1(l1_coefficient=0.02)
    latents = sae.encode(x)
    np.testing.assert_allclose(latents.detach().numpy(), expected["latents"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(sae.decode(latents).detach().numpy(), expected["reconstruction"], rtol=1e-5, atol=1e-5)


def test_import_writes_safetensors_with_where_they_come_from(official, expected, tmp_path):
    out = import_published(official, tmp_path / "sae")
    record = read_artifact(out, "sae")
    assert record.inputs["published"] == hash_file(official)
    assert record.details["source"] == "official_checkpoint.pt"
    assert record.details["block"] == -2
    assert record.details["published_config"]["l1_coefficient"] == 0.02
    stored = load_file(out / "model.safetensors")
    for name in WEIGHTS:
        np.testing.assert_array_equal(stored[name].numpy(), expected[f"final_{name}"])
    torch.testing.assert_close(
        load_sae(out)(torch.from_numpy(expected["x"])), load_published(official)(torch.from_numpy(expected["x"]))
    )
    assert not [path for path in out.rglob("*") if path.suffix in (".pt", ".pkl", ".bin")]


@pytest.mark.parametrize(
    ("name", "width", "backbone"),
    [
        ("dinov2_vitb14", 768, "dinobloom-b"),
        ("dinov2_vits14", 384, "dinobloom-s"),
        ("DinoBloom-G", 1536, "dinobloom-g"),
        ("dinov2_vitb14", 48, None),
        ("openai/clip-vit-base-patch16", 768, None),
        (None, 768, None),
    ],
)
def test_the_backbone_is_named_where_the_config_tells_it(name, width, backbone):
    assert backbone_of({"model_name": name}, width) == backbone


def test_a_given_backbone_name_is_kept(official, tmp_path):
    out = import_published(official, tmp_path / "sae", backbone="tiny")
    assert read_artifact(out, "sae").details["backbone"] == "tiny"


@pytest.fixture
def stored(monkeypatch):
    """Lets a test say what the file is read as."""

    def store(config, **weights):
        whole = {"W_enc": torch.ones(2, 3), "b_enc": torch.ones(3), "W_dec": torch.ones(3, 2), "b_dec": torch.ones(2)}
        content = {name: w for name, w in (whole | weights).items() if w is not None}
        monkeypatch.setattr("cytosae.sae.exchange.published.read_torch_archive", lambda *_: (config, content))

    return store


@pytest.mark.parametrize(
    ("config", "weights", "word"),
    [
        ({}, {"b_dec": None}, "'b_dec'"),
        ({"gated_sae": True}, {}, "gated"),
        ({}, {"W_dec": torch.ones(2, 3)}, "W_dec"),
        ({}, {"W_enc": torch.ones(3)}, "W_enc"),
        ({}, {"b_enc": torch.tensor([1.0, float("nan"), 0.0])}, "b_enc"),
        ({"l1_coefficient": "much"}, {}, "l1_coefficient"),
        ({"l1_coefficient": -1.0}, {}, "l1_coefficient"),
    ],
)
def test_weights_that_are_no_sae_are_refused_by_name(stored, config, weights, word):
    stored(config, **weights)
    with pytest.raises(WeightsError, match="file.pt") as caught:
        load_published("file.pt")
    assert word in str(caught.value)


def test_half_precision_weights_become_float32(stored):
    stored({"l1_coefficient": 1}, W_enc=torch.ones(2, 3, dtype=torch.float16))
    sae = load_published("file.pt")
    assert sae.W_enc.dtype == torch.float32
    assert not sae.training


def test_a_refusal_names_the_file_and_the_way_out():
    with pytest.raises(WeightsError, match=r"^x.pt names 'os.system', so it was not read .* get the checkpoint again"):
        refuse(Path("x.pt"), "names 'os.system'")

"""The SAELens format: a directory written by the real sae-lens is read, and what is written says what it should.

Whether the real sae-lens reads what we write is for ``tests/interop``.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from cytosae.common.errors import InputError, WeightsError
from cytosae.sae.exchange.saelens import export_saelens, fold_normalisation, import_saelens
from cytosae.sae.model.autoencoder import SparseAutoencoder
from cytosae.sae.model.token_normalisation import MeanNorm, NoNormalisation, PositionMean, Whitening
from cytosae.sae.variants.batch_topk import BatchTopK
from cytosae.sae.variants.jump_relu import JumpRelu
from cytosae.sae.variants.matryoshka import Matryoshka
from cytosae.sae.variants.relu_l1 import ReluL1
from cytosae.sae.variants.topk import TopK

FIXTURE = Path(__file__).parent / "fixtures" / "saelens_topk"


def tokens(n=40, d=12, seed=1):
    generator = torch.Generator().manual_seed(seed)
    mixed = torch.randn(n, d, generator=generator) @ torch.randn(d, d, generator=generator)
    return mixed + 3 * torch.randn(d, generator=generator)


def random_sae(sparsity, normalisation=None, seed=0):
    sae = SparseAutoencoder(12, 48, sparsity=sparsity, normalisation=normalisation)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in (sae.W_enc, sae.b_enc, sae.W_dec, sae.b_dec):
            parameter.copy_(0.4 * torch.randn(parameter.shape, generator=generator))
        if isinstance(sparsity, JumpRelu):
            sae.state.log_threshold.copy_(torch.randn(48, generator=generator) - 1)
        if isinstance(sparsity, BatchTopK):
            sae.state.threshold.fill_(0.7)
    if normalisation is not None:
        sae.normaliser.fit(tokens(500, seed=2), torch.arange(500) % 10)
    return sae.eval()


VARIANTS = [ReluL1(), TopK(k=5), BatchTopK(k=5), Matryoshka(k=5, prefixes=(0.25, 0.5, 1.0)), JumpRelu()]
AFFINE = [NoNormalisation(), MeanNorm(), Whitening(position_mean=False)]


def test_a_file_of_the_real_sae_lens_gives_its_outputs():
    sae = import_saelens(FIXTURE)
    expected = np.load(FIXTURE / "expected.npz")
    latents = sae.encode(torch.from_numpy(expected["x"]))
    assert sae.sparsity == TopK(k=4)
    np.testing.assert_allclose(latents.detach().numpy(), expected["latents"], atol=1e-5, rtol=1e-5)
    np.testing.assert_allclose(sae.decode(latents).detach().numpy(), expected["reconstruction"], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("sparsity", VARIANTS, ids=lambda v: type(v).__name__)
@pytest.mark.parametrize("normalisation", AFFINE, ids=lambda v: type(v).__name__)
def test_export_and_import_keep_the_outputs(tmp_path, sparsity, normalisation):
    sae = random_sae(sparsity, normalisation)
    again = import_saelens(export_saelens(sae, tmp_path / "out"))
    x = tokens()
    torch.testing.assert_close(again.encode(x), sae.encode(x), atol=2e-5, rtol=2e-5)
    torch.testing.assert_close(again(x), sae(x), atol=5e-5, rtol=5e-5)


@pytest.mark.parametrize(
    ("sparsity", "architecture", "threshold"),
    [
        (ReluL1(), "standard", None),
        (TopK(k=5), "topk", None),
        (BatchTopK(k=5), "jumprelu", 0.7),
        (Matryoshka(k=5, prefixes=(0.5, 1.0)), "jumprelu", 0.7),
    ],
    ids=lambda v: type(v).__name__,
)
def test_each_variant_is_written_as_what_it_is_at_inference(tmp_path, sparsity, architecture, threshold):
    out = export_saelens(random_sae(sparsity), tmp_path / "out", model_name="dinobloom-b", hook_name="blocks.10")
    config = json.loads((out / "cfg.json").read_text())
    weights = load_file(out / "sae_weights.safetensors")
    assert config["architecture"] == architecture
    assert (config["d_in"], config["d_sae"], config["normalize_activations"]) == (12, 48, "none")
    assert (config["metadata"]["model_name"], config["metadata"]["hook_name"]) == ("dinobloom-b", "blocks.10")
    assert set(weights) == {"W_enc", "b_enc", "W_dec", "b_dec"} | ({"threshold"} if threshold else set())
    if threshold:
        torch.testing.assert_close(weights["threshold"], torch.full((48,), threshold))
    assert sorted(path.name for path in out.iterdir()) == ["cfg.json", "sae_weights.safetensors"]


def test_a_folded_whitening_equals_whitening_first_in_float64():
    sae = random_sae(ReluL1(), Whitening(position_mean=False))
    folded = fold_normalisation(sae)
    x = tokens().double()
    double = sae.double()
    scores = (double.normaliser(x) - double.b_dec) @ double.W_enc + double.b_enc
    torch.testing.assert_close((x - folded["b_dec"]) @ folded["W_enc"] + folded["b_enc"], scores, atol=1e-9, rtol=1e-9)
    latents = scores.relu()
    torch.testing.assert_close(
        latents @ folded["W_dec"] + folded["b_dec"], double.decode(latents), atol=1e-9, rtol=1e-9
    )


@pytest.mark.parametrize("normalisation", [PositionMean(), Whitening(position_mean=True)])
def test_a_normalisation_by_position_is_refused(tmp_path, normalisation):
    with pytest.raises(InputError, match="position"):
        export_saelens(random_sae(TopK(k=5), normalisation), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_an_unfitted_normalisation_is_refused(tmp_path):
    sae = SparseAutoencoder(12, 48, normalisation=MeanNorm())
    with pytest.raises(InputError, match="not been fitted"):
        export_saelens(sae, tmp_path / "out")


def test_an_export_never_overwrites(tmp_path):
    with pytest.raises(InputError, match="exists already"):
        export_saelens(random_sae(ReluL1()), tmp_path)


def changed(tmp_path, config=None, weights=None, drop=()):
    path = tmp_path / "copy"
    shutil.copytree(FIXTURE, path)
    data = json.loads((path / "cfg.json").read_text()) | (config or {})
    (path / "cfg.json").write_text(json.dumps({k: v for k, v in data.items() if k not in drop}))
    if weights is not None:
        save_file(weights(load_file(path / "sae_weights.safetensors")), path / "sae_weights.safetensors")
    return path


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"architecture": "gated"}, "gated"),
        ({"normalize_activations": "layer_norm"}, "layer_norm"),
        ({"normalize_activations": "covariance_whitening"}, "covariance_whitening"),
        ({"reshape_activations": "hook_z"}, "reshapes"),
        ({"k": 0}, "k 0"),
        ({"k": 65}, "k 65"),
        ({"k": True}, "k True"),
        ({"d_sae": 63}, "W_dec"),
        ({"d_in": "16"}, "d_in '16'"),
        ({"architecture": "jumprelu"}, "threshold missing"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(tmp_path, config, words):
    with pytest.raises(WeightsError, match="copy") as caught:
        import_saelens(changed(tmp_path, config))
    assert words in str(caught.value) or words == "W_dec"


@pytest.mark.parametrize(
    "change",
    [
        lambda w: {k: v for k, v in w.items() if k != "b_enc"},
        lambda w: w | {"W_dec": w["W_dec"].T.contiguous()},
        lambda w: w | {"b_dec": w["b_dec"] * float("nan")},
        lambda w: w | {"extra": w["b_dec"].clone()},
    ],
)
def test_missing_mis_shaped_or_infinite_weights_are_refused(tmp_path, change):
    with pytest.raises(WeightsError, match="get the directory again"):
        import_saelens(changed(tmp_path, weights=change))


def test_damaged_files_are_refused(tmp_path):
    path = changed(tmp_path)
    (path / "sae_weights.safetensors").write_bytes(b"\xff" * 100)
    with pytest.raises(WeightsError, match="cannot be read"):
        import_saelens(path)
    (path / "cfg.json").write_text("{")
    with pytest.raises(WeightsError, match="cannot be read"):
        import_saelens(path)
    with pytest.raises(WeightsError, match="cannot be read"):
        import_saelens(tmp_path / "absent")


@pytest.mark.parametrize("name", ["scaling_factor", "finetuning_scaling_factor"])
@pytest.mark.parametrize("named", [True, False])
def test_what_older_versions_stored_besides_is_folded_in(tmp_path, name, named):
    factor = torch.rand(64, generator=torch.Generator().manual_seed(0)) + 0.5
    more = {name: factor, "log_feature_sparsity": torch.full((64,), -float("inf"))}
    path = changed(tmp_path, {"finetuning_scaling_factor": named}, weights=lambda w: w | more)
    old, plain = import_saelens(path), import_saelens(FIXTURE)
    x = torch.from_numpy(np.load(FIXTURE / "expected.npz")["x"])
    torch.testing.assert_close(old.encode(x), plain.encode(x))
    torch.testing.assert_close(old(x), plain.decode(plain.encode(x) * factor))


def test_a_scaling_factor_that_is_named_but_not_there_or_of_another_size_is_refused(tmp_path):
    with pytest.raises(WeightsError, match="lacks the scaling factor"):
        import_saelens(changed(tmp_path, {"finetuning_scaling_factor": True}))
    shutil.rmtree(tmp_path / "copy")
    with pytest.raises(WeightsError, match=r"has scaling_factor \(3,\), where nothing is needed"):
        import_saelens(changed(tmp_path, weights=lambda w: w | {"scaling_factor": torch.ones(3)}))


def test_the_older_way_of_writing_topk_is_read(tmp_path):
    old = {"activation_fn_str": "topk", "activation_fn_kwargs": {"k": 4}, "architecture": "standard"}
    path = changed(tmp_path, old, drop=("k", "metadata", "rescale_acts_by_decoder_norm"))
    x = torch.from_numpy(np.load(FIXTURE / "expected.npz")["x"])
    torch.testing.assert_close(import_saelens(path).encode(x), import_saelens(FIXTURE).encode(x))

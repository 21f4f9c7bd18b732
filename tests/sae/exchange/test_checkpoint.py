"""SAE artifacts: round trips, readable by others, and refusals."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from cytosae.common.artifact import read_artifact, write_artifact
from cytosae.common.errors import ArtifactError, InputError, WeightsError
from cytosae.sae import (
    BatchTopK,
    FromData,
    JumpRelu,
    Matryoshka,
    MeanNorm,
    PositionMean,
    ReluL1,
    SparseAutoencoder,
    TopK,
    TrainConfig,
    Whitening,
    evaluate,
    load_sae,
    save_sae,
)
from cytosae.sae.exchange.checkpoint import read_sae_files

pytestmark = pytest.mark.usefixtures("one_thread")
D, M, T = 6, 20, 3
SAES = [
    (ReluL1(1e-3), None),
    (TopK(3), MeanNorm()),
    (BatchTopK(3), PositionMean()),
    (JumpRelu(), Whitening()),
    (Matryoshka(3, prefixes=(0.5, 1.0)), Whitening(position_mean=False)),
]


def fitted(sparsity, normalisation, make_tokens):
    sae = SparseAutoencoder(D, M, sparsity, normalisation, initialisation=FromData(), seed=4)
    sae.normaliser.fit(make_tokens(60, D), torch.arange(T).repeat(20))
    if hasattr(sparsity, "threshold_memory"):
        sae.state.threshold.fill_(0.3)
    return sae


@pytest.mark.parametrize(("sparsity", "normalisation"), SAES, ids=lambda v: type(v).__name__)
def test_saved_sae_loads_equal(sparsity, normalisation, make_tokens, tmp_path):
    sae = fitted(sparsity, normalisation, make_tokens)
    loaded = load_sae(save_sae(sae, tmp_path / "sae"))
    assert loaded.describe() == sae.describe()
    assert loaded.fingerprint == sae.fingerprint
    assert not loaded.training
    x = make_tokens(30, D, seed=1).view(10, T, D)
    torch.testing.assert_close(loaded.encode(x), sae.encode(x), rtol=0, atol=0)
    torch.testing.assert_close(loaded(x), sae(x), rtol=0, atol=0)
    assert loaded.W_enc.T.is_contiguous()


def test_artifact_is_readable_without_torch(make_tokens, tmp_path):
    sae = fitted(TopK(3), Whitening(), make_tokens)
    log = tmp_path / "metrics.csv"
    log.write_text("step\n1\n")
    x = make_tokens(60, D)
    metrics = evaluate(sae, [type("Batch", (), {"tokens": x, "positions": torch.arange(T).repeat(20)})])
    path = save_sae(
        sae,
        tmp_path / "sae",
        config=TrainConfig.paper(),
        inputs={"tokens": "abc"},
        metrics=metrics,
        details={"note": 1},
        files={"metrics.csv": log},
    )
    record = read_artifact(path, "sae")
    assert record.inputs == {"tokens": "abc"}
    assert record.details == {"fingerprint": sae.fingerprint, "note": 1}
    config = json.loads((path / "config.json").read_text())
    assert (config["d_in"], config["d_sae"], config["sparsity"]["k"]) == (D, M, 3)
    assert config["train"]["learning_rate"] == 4e-4
    assert config["metrics"]["l0"] == metrics.l0
    assert (path / "metrics.csv").read_text() == "step\n1\n"
    arrays = load_file(path / "model.safetensors")
    np.testing.assert_array_equal(arrays["W_enc"], sae.W_enc.detach().numpy())
    assert arrays["W_enc"].shape == (D, M)


def test_equal_weights_have_equal_fingerprints_and_others_do_not(make_tokens):
    sae, same = (SparseAutoencoder(D, M, TopK(3), seed=1) for _ in range(2))
    assert sae.fingerprint == same.fingerprint
    with torch.no_grad():
        same.b_dec[0] += 1e-6
    assert sae.fingerprint != same.fingerprint
    assert SparseAutoencoder(D, M, TopK(4), seed=1).fingerprint != sae.fingerprint


@pytest.fixture
def saved(tmp_path):
    return save_sae(SparseAutoencoder(D, M, TopK(3)), tmp_path / "sae")


def test_nothing_there_is_said(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        load_sae(tmp_path / "absent")


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path):
    (tmp_path / "sae.zip").write_bytes(b"x")
    with pytest.raises(InputError, match="is no SAE"):
        load_sae(tmp_path / "sae.zip")


def test_a_folder_that_is_no_artifact_is_refused(tmp_path):
    with pytest.raises(ArtifactError, match="no finished cytosae artifact"):
        load_sae(tmp_path)


def test_an_artifact_of_another_kind_is_refused(tmp_path):
    with write_artifact(tmp_path / "other", "tokens"):
        pass
    with pytest.raises(ArtifactError, match="'tokens', where 'sae' is needed"):
        load_sae(tmp_path / "other")


def test_damaged_weights_are_refused(saved):
    file = saved / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(bytes(data))
    with pytest.raises(ArtifactError, match="checksum"):
        load_sae(saved)


def rewrite(folder, **changes):
    data = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**data, **changes}))


@pytest.mark.parametrize(
    ("changes", "error", "sentence"),
    [
        ({"format_version": 99}, ArtifactError, "update cytosae"),
        ({"format": "something"}, ArtifactError, "does not read"),
        ({"sparsity": {"type": "Magic"}}, ArtifactError, "choose one of"),
        ({"sparsity": {"type": "TopK", "k": 99}}, ArtifactError, "more than the 20 latents"),
        ({"d_in": "six"}, ArtifactError, "d_in"),
        ({"d_sae": 21}, WeightsError, "does not fit config.json"),
        ({"normalisation": {"type": "MeanNorm"}}, WeightsError, "does not fit config.json"),
    ],
)
def test_descriptions_that_do_not_fit_are_refused(saved, changes, error, sentence):
    rewrite(saved, **changes)
    with pytest.raises(error, match=sentence) as caught:
        read_sae_files(saved)
    assert "\n" not in str(caught.value)


def test_weights_that_are_not_finite_are_refused(tmp_path):
    sae = SparseAutoencoder(D, M, TopK(3))
    with torch.no_grad():
        sae.W_dec[0, 0] = float("nan")
    with pytest.raises(WeightsError, match="not finite"):
        load_sae(save_sae(sae, tmp_path / "sae"))


def test_a_failed_writing_leaves_the_older_artifact(saved, tmp_path):
    before = load_sae(saved).fingerprint
    with pytest.raises(FileNotFoundError):
        save_sae(SparseAutoencoder(D, M, TopK(4)), saved, files={"x": tmp_path / "absent"})
    assert load_sae(saved).fingerprint == before
    assert [p.name for p in tmp_path.iterdir()] == ["sae"]

"""Equal outputs with the real sae-lens, in both directions (``make test-interop`` makes its environment)."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from cytosae.common.errors import WeightsError
from cytosae.sae.exchange.saelens import export_saelens, import_saelens
from cytosae.sae.model.autoencoder import SparseAutoencoder
from cytosae.sae.model.token_normalisation import MeanNorm, NoNormalisation, Whitening
from cytosae.sae.variants.batch_topk import BatchTopK
from cytosae.sae.variants.jump_relu import JumpRelu
from cytosae.sae.variants.matryoshka import Matryoshka
from cytosae.sae.variants.relu_l1 import ReluL1
from cytosae.sae.variants.topk import TopK

pytestmark = [pytest.mark.interop, pytest.mark.slow]
ROOT = Path(__file__).parents[2]
D, M = 24, 96


@pytest.fixture(scope="module")
def sae_lens():
    """Runs ``run_saelens.py`` with the interpreter that has sae-lens."""
    python = Path(os.environ.get("CYTOSAE_SAELENS_PYTHON", ROOT / ".venv-saelens" / "bin" / "python"))
    if not python.exists():
        pytest.skip(f"no environment with sae-lens at {python}; `make test-interop` makes it.")

    def run(*arguments):
        script = Path(__file__).with_name("run_saelens.py")
        done = subprocess.run([python, script, *map(str, arguments)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]

    return run


def random_sae(sparsity, normalisation):
    sae = SparseAutoencoder(D, M, sparsity=sparsity, normalisation=normalisation)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in (sae.W_enc, sae.b_enc, sae.W_dec, sae.b_dec):
            parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
        if isinstance(sparsity, JumpRelu):
            sae.state.log_threshold.copy_(torch.randn(M, generator=generator) - 1)
        if isinstance(sparsity, BatchTopK):
            sae.state.threshold.fill_(0.6)
    sae.normaliser.fit(torch.randn(800, D, generator=generator) * torch.linspace(0.2, 3, D) + 1)
    return sae.eval()


EXPORTS = {
    "relu_l1": (ReluL1(), NoNormalisation()),
    "topk": (TopK(k=6), NoNormalisation()),
    "batch_topk": (BatchTopK(k=6), NoNormalisation()),
    "matryoshka": (Matryoshka(k=6, prefixes=(0.25, 1.0)), NoNormalisation()),
    "jump_relu": (JumpRelu(), NoNormalisation()),
    "mean_norm": (TopK(k=6), MeanNorm()),
    "whitened": (ReluL1(), Whitening(position_mean=False)),
    "whitened_jump": (JumpRelu(), Whitening(position_mean=False)),
}


@pytest.fixture(scope="module")
def exported(sae_lens, tmp_path_factory):
    """name -> (our SAE, tokens, what the real sae-lens computed from its export)."""
    folder = tmp_path_factory.mktemp("exported")
    x = 2 * torch.randn(200, D, generator=torch.Generator().manual_seed(5))
    saes = {name: random_sae(*parts) for name, parts in EXPORTS.items()}
    for name, sae in saes.items():
        np.savez(export_saelens(sae, folder / name) / "x.npz", x=x.numpy())
    sae_lens("read", *(folder / name for name in saes))
    return {name: (sae, x, dict(np.load(folder / name / "out.npz"))) for name, sae in saes.items()}


@pytest.mark.parametrize("name", EXPORTS)
def test_sae_lens_computes_the_same_from_our_export(exported, name):
    sae, x, theirs = exported[name]
    with torch.no_grad():
        latents, reconstruction = sae.encode(x).numpy(), sae(x).numpy()
    assert 0 < np.count_nonzero(latents) < latents.size
    np.testing.assert_allclose(theirs["latents"], latents, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(theirs["reconstruction"], reconstruction, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(theirs["forward"], reconstruction, rtol=1e-5, atol=1e-5)


WRITTEN = ["standard", "standard_plain_input", "topk", "topk_rescaled", "jumprelu"]


@pytest.fixture(scope="module")
def written(sae_lens, tmp_path_factory):
    """Folder of directories that the real sae-lens has saved."""
    folder = tmp_path_factory.mktemp("written")
    sae_lens("write", folder, *WRITTEN, "layer_norm")
    return folder


@pytest.mark.parametrize("name", WRITTEN)
def test_we_compute_the_same_from_a_directory_of_sae_lens(written, name):
    expected = np.load(written / name / "expected.npz")
    sae = import_saelens(written / name)
    with torch.no_grad():
        latents = sae.encode(torch.from_numpy(expected["x"]))
        reconstruction = sae.decode(latents)
    np.testing.assert_allclose(latents.numpy(), expected["latents"], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(reconstruction.numpy(), expected["reconstruction"], rtol=1e-5, atol=1e-5)


def test_a_normalisation_of_single_tokens_is_refused(written):
    with pytest.raises(WeightsError, match="layer_norm"):
        import_saelens(written / "layer_norm")

"""Runs in the environment of the real sae-lens (no cytosae there): reads what we exported, writes what we import.

python run_saelens.py read DIRECTORY X.npz OUT.npz     encode and decode ``x`` with SAE.load_from_disk
python run_saelens.py write ARCHITECTURE DIRECTORY     save a small SAE and what it computes (expected.npz)
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import sae_lens
import torch
from sae_lens import SAE

D_IN, D_SAE, TOKENS = 16, 64, 40


def read(directory: Path) -> None:
    sae = SAE.load_from_disk(directory)
    x = torch.from_numpy(np.load(directory / "x.npz")["x"])
    with torch.no_grad():
        latents = sae.encode(x)
        reconstruction = sae.decode(latents)
    np.savez(
        directory / "out.npz",
        latents=latents.numpy(),
        reconstruction=reconstruction.numpy(),
        forward=sae(x).detach().numpy(),
        architecture=sae.cfg.architecture(),
        version=sae_lens.__version__,
    )


def write(architecture: str, directory: Path) -> None:
    from sae_lens.saes import JumpReLUSAE, JumpReLUSAEConfig, StandardSAE, StandardSAEConfig, TopKSAE, TopKSAEConfig

    generator = torch.Generator().manual_seed(7)
    size = {"d_in": D_IN, "d_sae": D_SAE}
    sae = {
        "standard": lambda: StandardSAE(StandardSAEConfig(**size)),
        "standard_plain_input": lambda: StandardSAE(StandardSAEConfig(**size, apply_b_dec_to_input=False)),
        "topk": lambda: TopKSAE(TopKSAEConfig(**size, k=4)),
        "topk_rescaled": lambda: TopKSAE(TopKSAEConfig(**size, k=4, rescale_acts_by_decoder_norm=True)),
        "jumprelu": lambda: JumpReLUSAE(JumpReLUSAEConfig(**size)),
        "layer_norm": lambda: StandardSAE(StandardSAEConfig(**size, normalize_activations="layer_norm")),
    }[architecture]()
    with torch.no_grad():
        for name, parameter in sorted(sae.named_parameters()):
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
            if name == "threshold":
                parameter.abs_()
    x = torch.randn(TOKENS, D_IN, generator=generator)
    sae.save_model(directory)
    with torch.no_grad():
        latents = sae.encode(x)
        reconstruction = sae.decode(latents)
    np.savez(directory / "expected.npz", x=x.numpy(), latents=latents.numpy(), reconstruction=reconstruction.numpy())


if __name__ == "__main__":
    command, first, *rest = sys.argv[1:]
    if command == "read":
        for path in (first, *rest):
            read(Path(path))
    else:
        for name in rest:
            write(name, Path(first) / name)

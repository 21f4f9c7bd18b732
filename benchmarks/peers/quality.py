"""Our measures of an SAE's quality beside those of visaebench, on the same tokens and the same autoencoder.

    python benchmarks/peers/quality.py

visaebench lives in the environment .venv-peers-quality, made on the first call (torch comes with it, some gigabytes).
Where another Python has it already, CYTOSAE_PEERS_PYTHON names it. Where the two define a measure differently, ours is
computed as theirs is: its variance is about one number for all dimensions (so tokens are centred before) and leaves the
square of the summed mean residual aside (a row without and one with it); a cell has the largest of its tokens'
activations where ours has the mean; embeddings are not centred (so they are before); patches that share a corner are
neighbours, too.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import torch
from compare import HERE, environment

from cytosae.evaluation.unit_meanings import monosemanticity, morans_i
from cytosae.sae import SparseAutoencoder, TopK, TrainConfig, Trainer

ENVIRONMENT = HERE.parents[1] / ".venv-peers-quality"
CELLS, SIDE, WIDTH, LATENTS, K = 96, 8, 24, 192, 4
FEWEST, MOST = 5, 0.9
"""Active patches of a map that visaebench looks at, and the share of the patches that may be active at most."""


def main() -> None:
    """Print a table."""
    tokens = smooth_tokens()
    sae = trained(tokens)
    embeddings = np.random.default_rng(1).normal(size=(CELLS, 12)).astype(np.float32)
    embeddings -= embeddings.mean(0)
    ours, theirs = by_us(sae, tokens, embeddings), by_visaebench(sae, tokens, embeddings)
    print("| measure | ours | visaebench 0.1.0 | difference |\n|---|---|---|---|")
    for name, value in ours.items():
        their = theirs[name.partition(",")[0]]
        print(f"| {name} | {value:.6f} | {their:.6f} | {value - their:.1e} |")


def smooth_tokens() -> torch.Tensor:
    """Tokens [CELLS, SIDE², WIDTH] of fields that are alike in neighbouring patches, with noise; their mean is 0."""
    rng = torch.Generator().manual_seed(0)
    coarse = torch.randn(CELLS, WIDTH, 3, 3, generator=rng)
    fields = torch.nn.functional.interpolate(coarse, size=(SIDE, SIDE), mode="bilinear", align_corners=True)
    tokens = fields.flatten(2).transpose(1, 2) + 0.3 * torch.randn(CELLS, SIDE**2, WIDTH, generator=rng)
    return tokens - tokens.mean((0, 1))


def trained(tokens: torch.Tensor) -> SparseAutoencoder:
    """An SAE that has learnt a little."""
    torch.manual_seed(0)
    sae = SparseAutoencoder(WIDTH, LATENTS, TopK(k=K))
    trainer = Trainer(sae, TrainConfig(steps=400, batch_tokens=512, learning_rate=3e-3))
    flat, rng = tokens.reshape(-1, WIDTH), torch.Generator().manual_seed(2)
    for _ in range(400):
        trainer.step(flat[torch.randint(len(flat), (512,), generator=rng)])
    return sae.eval()


@torch.no_grad()
def by_us(sae: SparseAutoencoder, tokens: torch.Tensor, embeddings: np.ndarray) -> dict[str, float]:
    flat = tokens.reshape(-1, WIDTH)
    codes = sae.encode_sparse(flat, torch.zeros(len(flat), dtype=torch.long)).to_dense()
    active = codes > 0
    error, spread = (flat - sae(flat)).double(), (flat - flat.mean(0)).double()
    total = spread.square().sum()
    maps = codes.reshape(CELLS, SIDE**2, LATENTS).numpy()
    counts = (maps > 0).sum(1)
    looked_at = (counts >= FEWEST) & (counts <= int(MOST * SIDE**2))
    found = morans_i(maps.transpose(0, 2, 1).reshape(CELLS, LATENTS, SIDE, SIDE).astype(float), corners=True)
    means = [found[looked_at[:, j], j].mean() for j in range(LATENTS) if looked_at[:, j].any()]
    return {
        "explained_variance": float(1 - error.square().sum() / total),
        "explained_variance, as theirs": float(1 - (error.square().sum() - error.sum() ** 2 / len(flat)) / total),
        "l0": float(active.sum(1).float().mean()),
        "dead_share": float((~active.any(0)).float().mean()),
        "monosemanticity": float(np.nanmean(monosemanticity(maps.max(1), embeddings))),
        "spatial_structure": float(np.mean(means)),
    }


def by_visaebench(sae: SparseAutoencoder, tokens: torch.Tensor, embeddings: np.ndarray) -> dict[str, float]:
    python = environment(ENVIRONMENT, HERE / "quality_requirements.txt")
    weights = {name: getattr(sae, name).detach().numpy() for name in ("W_enc", "b_enc", "W_dec", "b_dec")}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "given.npz"
        np.savez(file, **weights, k=np.array(K), tokens=tokens.numpy(), embeddings=embeddings)
        command = [str(python), str(HERE / "quality_worker.py"), str(file)]
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return json.loads(next(line for line in printed.splitlines() if line.startswith("@"))[1:])


if __name__ == "__main__":
    main()

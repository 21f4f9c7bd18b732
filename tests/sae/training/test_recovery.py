"""Each variant finds the atoms of a known sparse dictionary: 512 in 128 dimensions, 8 active in a token."""

from __future__ import annotations

import pytest
import torch
from torch import Generator, Tensor
from torch.nn.functional import embedding_bag

from cytosae.sae import (
    BatchTopK,
    JumpRelu,
    Matryoshka,
    ReluL1,
    SparseAutoencoder,
    Tied,
    TopK,
    TrainConfig,
    Trainer,
)

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]
ATOMS, WIDTH, ACTIVE, BATCH = 512, 128, 8, 512

SETTINGS = {  # sparsity, latents, steps
    "TopK": (TopK(k=8, aux_k=32), 768, 300),
    "BatchTopK": (BatchTopK(k=8, aux_k=32), 768, 300),
    "Matryoshka": (Matryoshka(k=8, aux_k=32, prefixes=(0.5, 1.0)), 768, 350),
    "JumpRelu": (JumpRelu(l0_coefficient=1e-3, bandwidth=0.2, initial_threshold=0.3), 768, 800),
    "ReluL1": (ReluL1(l1_coefficient=7e-4), 512, 900),
}


@pytest.fixture(scope="module")
def atoms() -> Tensor:
    atoms = torch.randn(ATOMS, WIDTH, generator=Generator().manual_seed(1234))
    return atoms / torch.linalg.vector_norm(atoms, dim=1, keepdim=True)


@pytest.fixture(scope="module")
def tokens(atoms) -> Tensor:
    """65,536 tokens, each the sum of 8 random atoms with coefficients uniform in [0.5, 1.5]."""
    generator, n = Generator().manual_seed(1), 128 * BATCH
    chosen = torch.rand(n, ATOMS, generator=generator).topk(ACTIVE, dim=1, sorted=False).indices
    coefficients = 0.5 + torch.rand(n, ACTIVE, generator=generator)
    return embedding_bag(chosen, atoms, mode="sum", per_sample_weights=coefficients)


PATHS = [
    *((name, "screened") for name in SETTINGS),
    *(("TopK", way) for way in ("dense", "blocks")),
]
"""All variants by the usual path, one by the others; that they train alike, tests/sae/screening/test_paths.py shows."""


@pytest.mark.parametrize(("name", "path"), PATHS)
def test_atoms_are_recovered(name, path, atoms, tokens):
    sparsity, latents, steps = SETTINGS[name]
    sae = SparseAutoencoder(WIDTH, latents, sparsity, initialisation=Tied(), seed=0)
    config = TrainConfig(
        learning_rate=1e-2, warmup_steps=20, steps=steps, batch_tokens=BATCH, dead_window=50, path=path
    )
    trainer = Trainer(sae, config)
    for step in range(steps):
        trainer.step(tokens[step % 128 * BATCH :][:BATCH])
    best = (atoms @ sae.W_dec.detach().T).max(dim=1).values
    assert float(best.mean()) > 0.9

"""A variant of one's own: one class and, so that files can name it, one member of the union."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Generator, nn

from cytosae.common.errors import InputError
from cytosae.sae import AnySparsity, SparseAutoencoder, TrainConfig, Trainer, load_sae, save_sae
from cytosae.sae.exchange import checkpoint
from cytosae.sae.exchange.saelens import export_saelens
from cytosae.sae.model.gradients import mean_square
from cytosae.sae.model.interface import Above
from cytosae.sae.variants.sparsity import Losses, Sparsity

D, M = 8, 24


@dataclass(frozen=True)
class Floor(Sparsity):
    """Scores above a floor of each latent; the floors are state of the variant."""

    height: float = 0.5

    def state(self, d_sae):
        return {"floor": nn.Parameter(torch.full((d_sae,), self.height))}

    def activations(self, sae, x):
        return sae.activate(x, Above(sae.state.floor.detach()))

    def losses(self, sae, x, dead):
        activations = self.activations(sae, x)
        reconstruction, none = sae.reconstruct(activations), x.new_zeros(())
        return Losses(mean_square(reconstruction - x), none, none, activations, reconstruction)


@pytest.fixture
def tokens():
    return torch.randn(200, D, generator=Generator().manual_seed(0))


def test_a_new_variant_trains_and_encodes(tokens):
    sae = SparseAutoencoder(D, M, Floor(), seed=1)
    trainer = Trainer(sae, TrainConfig(learning_rate=0.01, warmup_steps=1))
    losses = [trainer.step(tokens).mse for _ in range(30)]
    assert losses[-1] < 0.8 * losses[0]
    assert sae.encode_sparse(tokens).values().min() > 0.5


def test_a_new_variant_is_read_back_once_it_is_in_the_union(tokens, tmp_path, monkeypatch):
    sae = SparseAutoencoder(D, M, Floor(0.25), seed=1)
    save_sae(sae, tmp_path / "sae")
    monkeypatch.setattr(checkpoint, "AnySparsity", AnySparsity | Floor)
    again = load_sae(tmp_path / "sae")
    assert again.sparsity == Floor(0.25)
    assert torch.equal(again.encode(tokens), sae.encode(tokens))


def test_saelens_refuses_what_it_has_no_form_for(tmp_path):
    with pytest.raises(InputError, match="no form for Floor"):
        export_saelens(SparseAutoencoder(D, M, Floor()), tmp_path / "out")

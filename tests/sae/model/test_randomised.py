from __future__ import annotations

import torch

from cytosae.sae import SparseAutoencoder, TopK
from cytosae.sae.model.randomised import randomised


def test_a_random_sae_keeps_norms_and_sparsity_and_forgets_directions():
    sae = SparseAutoencoder(16, 64, TopK(k=4), seed=1)
    with torch.no_grad():
        sae.W_enc.mul_(torch.linspace(0.5, 2, 64))
    control = randomised(sae, seed=0)
    torch.testing.assert_close(control.W_enc.norm(dim=0), sae.W_enc.norm(dim=0))
    torch.testing.assert_close(control.W_dec.norm(dim=1), sae.W_dec.norm(dim=1))
    x = torch.randn(100, 16, generator=torch.Generator().manual_seed(2))
    assert (control.encode(x) > 0).sum(1).max() <= 4
    aligned = torch.cosine_similarity(control.W_dec, sae.W_dec, dim=1).abs()
    assert aligned.mean() < 0.4
    assert torch.equal(randomised(sae, seed=0).W_dec, control.W_dec)
    assert not torch.equal(randomised(sae, seed=1).W_dec, control.W_dec)

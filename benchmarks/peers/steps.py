"""One training step of each trainer on the same tokens: what a call of the returned function does.

Every step is whole: forward pass, loss, gradients, Adam, and what the trainer does to its decoder beside. Each function
takes tokens (N, d), the number of latents m, how many are to be active, and whether by TopK or by ReLU with an L1
penalty (then biases are lowered so that about so many are), and raises LookupError where the trainer has no such SAE.
Imports are inside, because each trainer is installed in an environment that need not have the others.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import torch
from torch import Tensor, nn

Step = Callable[[], float]
RATE = 1e-6
"""Small steps: what is measured should not drift from round to round."""


def ours(x: Tensor, m: int, k: int, kind: str) -> Step:
    from cytosae.evaluation import SpeedConfig
    from cytosae.evaluation.speed import tuned_sae
    from cytosae.sae import TrainConfig, Trainer

    config = SpeedConfig(d=x.shape[1], m=m, n=len(x), k=k, variant="TopK" if kind == "topk" else "ReluL1")
    sae = tuned_sae(config, x.cpu()).to(x.device)
    trainer = Trainer(sae, TrainConfig(batch_tokens=len(x), learning_rate=RATE, decoder_bias="keep"))
    return lambda: trainer.step(x).l0


def sparsify(x: Tensor, m: int, k: int, kind: str) -> Step:
    """eai-sparsify (EleutherAI)."""
    if kind != "topk":
        raise LookupError("eai-sparsify has no ReLU with L1")
    if not x.is_cuda:
        os.environ["SPARSIFY_DISABLE_TRITON"] = "1"  # its path for CPUs; the other one looks for a GPU
    from sparsify import SparseCoder, SparseCoderConfig

    sae = SparseCoder(x.shape[1], SparseCoderConfig(num_latents=m, k=k), device=x.device, dtype=torch.float32)
    optimizer = torch.optim.Adam(sae.parameters(), lr=RATE, fused=True)

    def step() -> float:
        sae.set_decoder_norm_to_unit_norm()
        out = sae(x)
        out.fvu.backward()
        sae.remove_gradient_parallel_to_decoder_directions()
        optimizer.step()
        optimizer.zero_grad()
        return float((out.latent_acts > 0).sum(1).float().mean())

    return step


def overcomplete(x: Tensor, m: int, k: int, kind: str) -> Step:
    """overcomplete (Kempner Institute), as its `train_sae` does a batch."""
    import matplotlib

    matplotlib.cm.get_cmap = matplotlib.colormaps.get_cmap  # which its figures import, and newer matplotlib has not
    from overcomplete.sae import SAE, TopKSAE

    where = str(x.device)
    topk = kind == "topk"
    sae = TopKSAE(x.shape[1], m, top_k=k, device=where) if topk else SAE(x.shape[1], m, device=where)
    sae.train()
    if kind != "topk":
        _lower_biases(sae, x, k)
    optimizer = torch.optim.Adam(sae.parameters(), lr=RATE, fused=True)

    def step() -> float:
        optimizer.zero_grad()
        _, z, reconstruction = sae(x)
        loss = (x - reconstruction).square().mean()
        if kind != "topk":
            loss = loss + 1e-4 * z.abs().mean()
        loss.backward()
        optimizer.step()
        return float((z > 0).sum(1).float().mean())

    return step


def saelens(x: Tensor, m: int, k: int, kind: str) -> Step:
    """sae-lens (Decode Research), as its `SAETrainer` does a batch."""
    from sae_lens.saes import StandardTrainingSAE, StandardTrainingSAEConfig, TopKTrainingSAE, TopKTrainingSAEConfig
    from sae_lens.saes.sae import TrainStepInput

    if kind == "topk":
        sae = TopKTrainingSAE(TopKTrainingSAEConfig(d_in=x.shape[1], d_sae=m, k=k))
    else:
        sae = StandardTrainingSAE(StandardTrainingSAEConfig(d_in=x.shape[1], d_sae=m, l1_coefficient=1e-4))
        with torch.no_grad():
            scores = (x[:64].cpu() @ sae.W_enc).flatten()
            sae.b_enc.sub_(torch.topk(scores, k * 64).values[-1])
    sae.to(x.device)
    optimizer = torch.optim.Adam(sae.parameters(), lr=RATE, fused=True)
    none = torch.zeros(m, dtype=torch.bool, device=x.device)

    def step() -> float:
        coefficients = {name: c.value for name, c in sae.get_coefficients().items()} if kind != "topk" else {}
        out = sae.training_forward_pass(
            TrainStepInput(
                sae_in=x, coefficients=coefficients, dead_neuron_mask=none, n_training_steps=1, is_logging_step=False
            )
        )
        out.loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        acts = out.feature_acts
        active = acts._nnz() if acts.is_sparse else int((acts > 0).sum())
        return active / len(x)

    return step


def published(x: Tensor, m: int, k: int, kind: str) -> Step:
    """The step of Dasdelen et al. 2025, written from its formulae: ReLU, L1, dense products; no ghost gradients here.

    loss = mean((x^ - x)^2 / ||x||) + l1 mean_i sum_j |a_ij|, the decoder's rows brought to unit norm before the step,
    the part of their gradient along them taken out, Adam.
    """
    if kind != "relu":
        raise LookupError("the published code has no TopK")
    d = x.shape[1]
    decoder = nn.functional.normalize(torch.randn(m, d, generator=torch.Generator().manual_seed(0)), dim=1).to(x.device)
    W_enc, W_dec = nn.Parameter(decoder.T.clone()), nn.Parameter(decoder.clone())
    b_enc, b_dec = nn.Parameter(x.new_zeros(m)), nn.Parameter(x.mean(0).clone())
    with torch.no_grad():
        scores = ((x[:64] - b_dec) @ W_enc).flatten()
        b_enc.sub_(torch.topk(scores, k * 64).values[-1])
    optimizer = torch.optim.Adam([W_enc, b_enc, W_dec, b_dec], lr=RATE)
    since_fired = x.new_zeros(m)

    def step() -> float:
        with torch.no_grad():
            W_dec.div_(torch.linalg.vector_norm(W_dec, dim=1, keepdim=True))
        acts = torch.relu((x - b_dec) @ W_enc + b_enc)
        reconstruction = acts @ W_dec + b_dec
        mse = ((reconstruction - x).square() / torch.linalg.vector_norm(x, dim=-1, keepdim=True)).mean()
        loss = mse + 8e-5 * acts.abs().sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        with torch.no_grad():
            assert W_dec.grad is not None
            W_dec.grad -= (W_dec.grad * W_dec).sum(1, keepdim=True) * W_dec
            fired = (acts > 0).sum(0) > 0
            since_fired.add_(1)[fired] = 0
        optimizer.step()
        return float((acts.detach() > 0).sum(1).float().mean())

    return step


def _lower_biases(sae: nn.Module, x: Tensor, k: int) -> None:
    """Lower the last bias of an encoder until about k latents of a token are active."""
    with torch.no_grad():
        codes, _ = sae.encode(x[:64])
        bias = [p for name, p in sae.named_parameters() if name.endswith("bias") and p.shape == codes.shape[1:]]
        if not bias:
            raise LookupError("this encoder has no bias to lower")
        bias[-1].sub_(torch.topk(codes.flatten(), k * 64).values[-1])


STEPS = {
    "cytosae": ours,
    "eai-sparsify": sparsify,
    "overcomplete": overcomplete,
    "sae-lens": saelens,
    "published CytoSAE step": published,
}

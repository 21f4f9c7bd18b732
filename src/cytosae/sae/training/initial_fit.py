"""What is set from a sample of tokens before the first step: normalisation, b_dec, weights from data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from cytosae.common.errors import TrainingError
from cytosae.sae.model.autoencoder import SparseAutoencoder
from cytosae.sae.training.config import TrainConfig
from cytosae.sae.training.median import geometric_median

if TYPE_CHECKING:
    from lightning_fabric import Fabric

MEDIAN_TOKENS = 16_384
"""Most tokens whose geometric median is taken one by one."""


@torch.no_grad()
def fit_to_sample(
    saes: Sequence[SparseAutoencoder], reader: Any, config: TrainConfig, fabric: Fabric | None = None
) -> None:
    """Fit normalisations, then b_dec and data-dependent weights in normalised units.

    The geometric median is that of whole images, as in the paper, if the reader has ``stores`` to draw them from (a
    `TokenReader`); of a reader without them, that of single tokens. Under several ranks rank 0's result counts.
    """
    sample = reader.sample(config.sample_tokens, config.seed)
    if not len(sample.tokens):
        raise TrainingError("There are no tokens to train on; extract tokens first.")
    for sae in saes:
        tokens, positions = sample.tokens.to(sae.device), sample.positions
        if "fitted" not in dict(sae.normaliser.named_buffers()) or not bool(sae.normaliser.fitted):
            sae.normaliser.fit(tokens, positions)
        x = sae.normaliser(tokens, positions)
        if config.decoder_bias != "keep":
            sae.b_dec.copy_(_decoder_bias(sae, x, reader, config))
        sae.initialise_from(x)
        if fabric is not None and fabric.world_size > 1:
            for tensor in sae.state_dict().values():
                torch.distributed.broadcast(tensor, 0)


def _decoder_bias(sae: SparseAutoencoder, x: Tensor, reader: Any, config: TrainConfig) -> Tensor:
    if config.decoder_bias == "zero":
        return torch.zeros_like(sae.b_dec)
    if config.decoder_bias == "mean":
        return x.mean(0)
    if not hasattr(reader, "stores"):
        return geometric_median(x[:MEDIAN_TOKENS, None])
    cells = _whole_images(reader.stores, config).to(x.device)
    positions = torch.arange(cells.shape[1], device=x.device).repeat(len(cells))
    return geometric_median(sae.normaliser(cells.flatten(0, 1), positions).view(cells.shape))


def _whole_images(stores: Sequence[Any], config: TrainConfig) -> Tensor:
    """As many random images as make a batch of tokens, (B, T, d), drawn from all stores together."""
    ends = torch.tensor([len(store) for store in stores]).cumsum(0)
    count = max(config.batch_tokens // stores[0].n_tokens, 1)
    generator = torch.Generator().manual_seed(config.seed)
    drawn = torch.randperm(int(ends[-1]), generator=generator)[:count].sort().values
    images = []
    for row in drawn.tolist():
        index = int(torch.searchsorted(ends, row, right=True))
        here = row - (int(ends[index - 1]) if index else 0)
        images.append(stores[index].read(here, here + 1))
    return torch.cat(images)

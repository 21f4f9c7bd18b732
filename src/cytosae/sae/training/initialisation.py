"""Where the encoder and the decoder start."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

from cytosae.common.errors import UsageError
from cytosae.sae.model.choices import FromData, Independent, Initialisation


def initial_weights(d_in: int, d_sae: int, kind: Initialisation, generator: Generator) -> tuple[Tensor, Tensor]:
    """Encoder and decoder before any token is seen (`FromData` starts as `Tied` until `weights_from_data`).

    Returns
    -------
    tuple of Tensor
        (m, d) encoder rows and (m, d) decoder rows of unit norm, float32.
    """
    if isinstance(kind, Independent):
        # kaiming_uniform_ with its defaults: bound sqrt(6 / fan_in), fan_in the second dimension of the weight
        encoder = _uniform((d_in, d_sae), math.sqrt(6 / d_sae), generator).T.contiguous()
        decoder = _uniform((d_sae, d_in), math.sqrt(6 / d_in), generator)
        return encoder, _unit(decoder)
    decoder = _unit(torch.randn(d_sae, d_in, generator=generator))
    return kind.scale * decoder, decoder


def weights_from_data(tokens: Tensor, d_sae: int, kind: FromData, generator: Generator) -> tuple[Tensor, Tensor]:
    """Encoder and decoder rows (m, d) from centred, normalised tokens (N, d); made on the CPU, wherever these are."""
    tokens = tokens.cpu()
    length = torch.linalg.vector_norm(tokens, dim=1)
    usable = tokens[length > 1e-6 * length.max()]
    if not len(usable):
        raise UsageError("initialisation from data needs tokens that differ from their centre; all of them are equal.")
    chosen = [torch.randperm(len(usable), generator=generator) for _ in range(math.ceil(d_sae / len(usable)))]
    directions = _unit(usable[torch.cat(chosen)[:d_sae]])
    noise = _unit(torch.randn(d_sae, tokens.shape[1], generator=generator))
    decoder = _unit(directions + kind.noise * noise)
    return kind.scale * decoder, decoder


def _uniform(shape: tuple[int, int], bound: float, generator: Generator) -> Tensor:
    return torch.empty(shape).uniform_(-bound, bound, generator=generator)


def _unit(rows: Tensor) -> Tensor:
    return rows / torch.linalg.vector_norm(rows, dim=1, keepdim=True).clamp_min(1e-12)

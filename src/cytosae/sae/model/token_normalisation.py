"""Token normalisation: an explicit, fitted, saved and invertible choice.

Tokens of a vision transformer have a few directions (position, massive activations) that carry most of their
variance; an SAE in their own units spends its latents on those. Each choice is a frozen dataclass; what it learns from
a sample of tokens lies in the buffers of its module and is saved with the autoencoder. Encoding takes raw tokens,
decoding gives raw tokens.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from cytosae.common.devices import to_double
from cytosae.common.errors import UsageError
from cytosae.sae.model.choices import MeanNorm, NoNormalisation, Normalisation, PositionMean, Whitening


class Normaliser(nn.Module):
    """What a normalisation has learned: x_n = (x - mean[position]) T, x = x_n T^-1 + mean[position].

    Buffers (where the choice needs them): ``mean`` (1 or P, d); ``scale`` () or ``forward_map`` and ``inverse_map``
    (d, d); ``fitted`` () bool. `NoNormalisation` has none, so that published weights load as they are.
    """

    config: Normalisation
    d_in: int

    mean: Tensor
    scale: Tensor
    forward_map: Tensor
    inverse_map: Tensor
    fitted: Tensor

    def __init__(self, config: Normalisation, d_in: int) -> None:
        super().__init__()
        self.config, self.d_in = config, d_in
        if isinstance(config, NoNormalisation):
            return
        self.register_buffer("fitted", torch.tensor(False))
        if not isinstance(config, MeanNorm):
            self.register_buffer("mean", torch.zeros(1, d_in))
        if isinstance(config, Whitening):
            self.register_buffer("forward_map", torch.eye(d_in))
            self.register_buffer("inverse_map", torch.eye(d_in))
        else:
            self.register_buffer("scale", torch.ones(()))
        self.register_load_state_dict_pre_hook(_take_positions)

    @property
    def by_position(self) -> bool:
        """Whether a token's position must be known."""
        config = self.config
        return isinstance(config, PositionMean) or (isinstance(config, Whitening) and config.position_mean)

    @torch.no_grad()
    def fit(self, tokens: Tensor, positions: Tensor | None = None) -> None:
        """Learn from a sample: tokens (N, d) float, positions (N,) int64 where the choice is by position.

        A position without a token in the sample (CLS, where only patches are trained on) gets the overall mean.

        Raises
        ------
        UsageError
            where positions are missing, or the sample has no variance at all.
        """
        if isinstance(self.config, NoNormalisation):
            return
        x = to_double(tokens)
        if not isinstance(self.config, MeanNorm):
            places = self._places(positions, x.device) if self.by_position else None
            mean = x.mean(0, keepdim=True) if places is None else _means_by_position(x, places)
            self.mean = mean.float().to(self.fitted.device)
            x = x - (mean if places is None else mean[places])
        if isinstance(self.config, Whitening):
            forward, inverse = _whitening(x, self.config.floor)
            self.forward_map.copy_(forward.float())
            self.inverse_map.copy_(inverse.float())
        else:
            norm = float(torch.linalg.vector_norm(x, dim=1).mean())
            if not norm > 0:
                raise UsageError("the sample of tokens has no variance; normalisation needs tokens that differ.")
            self.scale.fill_(math.sqrt(self.d_in) / norm)
        self.fitted.fill_(True)

    def forward(self, tokens: Tensor, positions: Tensor | None = None) -> Tensor:
        """Raw tokens (N, d) to normalised ones (N, d)."""
        if isinstance(self.config, NoNormalisation):
            return tokens
        self._require_fit()
        if not isinstance(self.config, MeanNorm):
            tokens = tokens - self._mean_of(positions)
        return tokens @ self.forward_map if isinstance(self.config, Whitening) else tokens * self.scale

    def inverse(self, tokens: Tensor, positions: Tensor | None = None) -> Tensor:
        """Normalised tokens (N, d) back to raw ones (N, d)."""
        if isinstance(self.config, NoNormalisation):
            return tokens
        self._require_fit()
        tokens = tokens @ self.inverse_map if isinstance(self.config, Whitening) else tokens / self.scale
        if isinstance(self.config, MeanNorm):
            return tokens
        return tokens + self._mean_of(positions)

    def _mean_of(self, positions: Tensor | None) -> Tensor:
        """(N, d) the mean at each token's position, or (1, d)."""
        if not self.by_position:
            return self.mean
        places = self._places(positions, self.mean.device)
        if len(places) and int(places.max()) >= len(self.mean):
            raise UsageError(
                f"position {int(places.max())} is beyond the {len(self.mean)} that the normalisation was fitted on; "
                "use tokens of the same backbone."
            )
        return self.mean[places]

    def _places(self, positions: Tensor | None, device: torch.device) -> Tensor:
        if positions is None:
            raise UsageError(
                f"{type(self.config).__name__} works by position: give positions [N] with tokens of the shape [N, d], "
                "or whole images as [B, T, d]."
            )
        return positions.to(device)

    def _require_fit(self) -> None:
        if not bool(self.fitted):
            raise UsageError(
                f"{type(self.config).__name__} has not been fitted; call Trainer.fit, or "
                "sae.normaliser.fit(tokens, positions)."
            )


def _take_positions(module: nn.Module, state_dict: dict[str, Tensor], prefix: str, *_: Any) -> None:
    """The number of positions is known only after fitting: take the shape of what is loaded."""
    saved, mean = state_dict.get(prefix + "mean"), dict(module.named_buffers()).get("mean")
    if saved is not None and mean is not None and saved.ndim == 2 and saved.shape[1] == mean.shape[1]:
        module.register_buffer("mean", mean.new_zeros(saved.shape))


def _means_by_position(x: Tensor, positions: Tensor) -> Tensor:
    """(P, d) the mean of each position's tokens x (N, d), of all where a position has none."""
    counts = torch.bincount(positions)[:, None]
    sums = x.new_zeros(len(counts), x.shape[1]).index_add_(0, positions, x)
    return torch.where(counts > 0, sums / counts.clamp_min(1), x.mean(0))


def _whitening(x: Tensor, floor: float) -> tuple[Tensor, Tensor]:
    """(C + floor)^(-1/2) and its inverse for centred x (N, d) in float64."""
    values, vectors = torch.linalg.eigh(x.T @ x / max(len(x) - 1, 1))
    mean = values.mean()
    if not mean > 0:
        raise UsageError("the sample of tokens has no variance; whitening needs tokens that differ.")
    deviation = (values.clamp_min(0) + floor * mean).sqrt()
    return vectors / deviation @ vectors.T, vectors * deviation @ vectors.T

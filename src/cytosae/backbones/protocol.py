"""What the rest of the house asks of a backbone, whatever computes it (torch, onnxruntime, somebody's package)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, Self

import torch
from torch import Tensor


class AnyBackbone(Protocol):
    """Images to tokens. `Backbone` (torch) and `OnnxBackbone` are two; an object with these members is another.

    Attributes
    ----------
    name : str
        As given to `load_backbone`.
    weights_hash : str
        sha256 of the weights, hexadecimal.
    block : int
        Number of the block after which tokens are taken, 1 for the first.
    width, n_tokens : int
        D, and T = 1 + rows x columns.
    grid : tuple of int
        Rows and columns of the patches.
    device : device
        Where it computes.
    """

    name: str
    weights_hash: str
    block: int

    @property
    def width(self) -> int: ...  # noqa: D102
    @property
    def n_tokens(self) -> int: ...  # noqa: D102
    @property
    def grid(self) -> tuple[int, int]: ...  # noqa: D102
    @property
    def device(self) -> torch.device: ...  # noqa: D102

    @property
    def prepare(self) -> Callable[[Sequence[Any]], Tensor]:
        """PIL images or uint8 arrays [H, W, 3] to a batch float32 [B, 3, H, W]; a value that workers can be sent."""
        ...

    def __call__(self, batch: Tensor, /) -> Tensor:
        """A prepared batch to tokens [B, T, D] float32, CLS first, then patches row by row."""
        ...

    def describe(self) -> dict[str, Any]:
        """Everything that decides the tokens, as JSON-able values."""
        ...

    def to(self, device: Any, /) -> Self:
        """Compute on another device, or stay where that is not possible; itself."""
        ...


MEMBERS = ("name", "weights_hash", "block", "width", "n_tokens", "grid", "device", "prepare", "describe", "to")
"""What an object that somebody's package gives is asked for before it is taken for a backbone."""

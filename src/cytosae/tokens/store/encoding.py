"""How tokens are stored: float16, bfloat16, or 8 bits with a scale and an offset for each token."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from cytosae.common.errors import UsageError

Planes = dict[str, torch.Tensor]
"""Stored tensors by name: ``tokens`` [..., D] and, for 8 bits, ``scale`` and ``offset`` [...]."""

Memory = dict[str, memoryview]
"""The bytes of stored tensors by name."""


class Encoding(Protocol):
    """One way of storing float32 tokens [..., D]."""

    @property
    def limit(self) -> float:
        """Largest magnitude that can be stored."""
        ...

    def encode(self, tokens: torch.Tensor) -> Planes:
        """Stored tensors of float32 ``tokens`` [..., D]; their values must be finite and within `limit`."""
        ...

    def decode(self, planes: Mapping[str, torch.Tensor], out: torch.Tensor) -> torch.Tensor:
        """Write float32 tokens [..., D] into ``out`` and return it."""
        ...

    def layout(self, width: int) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
        """Name -> type and shape of what is stored for one token of ``width`` numbers."""
        ...


@dataclass(frozen=True)
class Floating:
    """Tokens rounded to a shorter floating-point type.

    Attributes
    ----------
    dtype : dtype
        Type in the file.
    """

    dtype: torch.dtype

    @property
    def limit(self) -> float:
        """Largest magnitude that can be stored."""
        return torch.finfo(self.dtype).max

    def encode(self, tokens: torch.Tensor) -> Planes:
        """``tokens`` [..., D] rounded."""
        return {"tokens": tokens.to(self.dtype)}

    def decode(self, planes: Mapping[str, torch.Tensor], out: torch.Tensor) -> torch.Tensor:
        """Write float32 tokens [..., D], exactly as stored, into ``out`` and return it."""
        return out.copy_(planes["tokens"])

    def layout(self, width: int) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
        """One number for each of a token."""
        return {"tokens": (self.dtype, (width,))}


@dataclass(frozen=True)
class EightBit:
    """Tokens as ``offset + scale * q``, q in 0..255, offset (minimum) and scale (range / 255) being the token's."""

    @property
    def limit(self) -> float:
        """Largest magnitude that can be stored."""
        # The range of a token, up to twice its largest magnitude, must be a finite float32.
        return torch.finfo(torch.float32).max / 4

    def encode(self, tokens: torch.Tensor) -> Planes:
        """``tokens`` [..., D] as numbers 0..255, with their scales and offsets [...]."""
        low, high = tokens.aminmax(dim=-1)
        scale = (high - low) / 255
        # A token of equal numbers has no range: it is its offset, whatever the scale.
        divisor = torch.where(scale > 0, scale, torch.ones_like(scale))
        q = ((tokens - low.unsqueeze(-1)) / divisor.unsqueeze(-1)).round_().clamp_(0, 255).to(torch.uint8)
        return {"tokens": q, "scale": scale, "offset": low}

    def decode(self, planes: Mapping[str, torch.Tensor], out: torch.Tensor) -> torch.Tensor:
        """Write float32 tokens [..., D], each within half a scale of what it was, into ``out`` and return it."""
        return out.copy_(planes["tokens"]).mul_(planes["scale"].unsqueeze(-1)).add_(planes["offset"].unsqueeze(-1))

    def layout(self, width: int) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
        """One byte for each number of a token, and two float32."""
        return {"tokens": (torch.uint8, (width,)), "scale": (torch.float32, ()), "offset": (torch.float32, ())}


_ENCODINGS: dict[str, Encoding] = {
    "float16": Floating(torch.float16),
    "bfloat16": Floating(torch.bfloat16),
    "uint8": EightBit(),
}


def encoding_of(dtype: str) -> Encoding:
    """The encoding with this name in the manifest."""
    if dtype not in _ENCODINGS:
        raise UsageError(f"Tokens cannot be stored as {dtype!r}; choose one of: {', '.join(_ENCODINGS)}.")
    return _ENCODINGS[dtype]


def allocate(encoding: Encoding, shape: tuple[int, ...], width: int) -> Planes:
    """Uninitialised stored tensors for tokens of ``shape`` + (width,)."""
    return {name: torch.empty(shape + tail, dtype=kind) for name, (kind, tail) in encoding.layout(width).items()}


def memory_of(planes: Planes) -> Memory:
    """The memory of contiguous stored tensors, to read into without making a tensor for each piece."""
    return {name: plane.view(-1).view(torch.uint8).numpy().data for name, plane in planes.items()}


def bytes_per_token(encoding: Encoding, width: int) -> int:
    """Bytes that one token of ``width`` numbers takes in a shard."""
    return sum(kind.itemsize * (tail[0] if tail else 1) for kind, tail in encoding.layout(width).values())


def decoded(encoding: Encoding, planes: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Float32 tokens [..., D] of stored tensors, in new memory."""
    return encoding.decode(planes, torch.empty(planes["tokens"].shape))


def decode_serially(encoding: Encoding, planes: Mapping[str, torch.Tensor], out: torch.Tensor) -> None:
    """Decode tokens [M, D] into ``out`` on this thread, in pieces too small for torch to share them among several.

    It is a fifth of the work of `gather`; waiting for all threads takes many times longer where one of them is busy.
    """
    rows = max(1, ((1 << 15) - 1) // out.shape[1])
    pieces = zip(*(plane.split(rows) for plane in planes.values()), strict=True)
    for piece, into in zip(pieces, out.split(rows), strict=True):
        encoding.decode(dict(zip(planes, piece, strict=True)), into)


def gather(planes: Planes, rows: torch.Tensor) -> Planes:
    """Rows of stored tensors [M, ...]; ``rows`` [n] int64.

    Whole rows are moved as 8-byte words where they are such, which takes a quarter of the time of torch's indexing.
    """
    taken = {}
    for name, plane in planes.items():
        words = plane.view(torch.int64) if plane.ndim == 2 and plane.stride(0) * plane.itemsize % 8 == 0 else plane
        words = words.view(torch.int16) if words.dtype == torch.bfloat16 else words
        out = torch.empty((len(rows), *words.shape[1:]), dtype=words.dtype)
        np.take(words.numpy(), rows.numpy(), axis=0, out=out.numpy(), mode="clip")
        taken[name] = out.view(plane.dtype)
    return taken


def largest_magnitude(tokens: torch.Tensor) -> torch.Tensor:
    """Largest absolute value of each cell in ``tokens`` [b, T, D]: [b], NaN where any value is NaN."""
    low, high = tokens.flatten(1).aminmax(dim=1)
    return torch.maximum(high, -low)

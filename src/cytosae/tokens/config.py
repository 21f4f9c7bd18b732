"""How tokens are made, stored and read; nothing here computes, so that the command line reads it quickly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cytosae.cells.stain import Stain
from cytosae.common.errors import UsageError

StoredType = Literal["float16", "bfloat16", "uint8"]
Which = Literal["all", "patches", "cls"]
Focus = Literal["all", "cell", "nucleus"]
"""Which tokens count: all, those of the cell in the middle, those of its nucleus."""


@dataclass(frozen=True)
class ExtractConfig:
    """How tokens are made and stored.

    Attributes
    ----------
    dtype : {"float16", "bfloat16", "uint8"}
        float16, bfloat16 (larger range, coarser), or uint8 (half the disk, one scale for each token).
    precision : {"float32", "bfloat16"}
        Of the forward pass.
    batch_size : int
        Images in a forward pass; changes nothing but rounding.
    compile : bool
        Hand the forward pass to torch.compile: faster after up to a minute of compiling, needs a C++ compiler; tokens
        agree to a relative 1e-5.
    workers : int
        Processes that decode images, 0 for none.
    shard_cells : int
        Cells of a shard, the most that an interruption loses.
    stain : {"none", "reinhard", "macenko"}
        Stain normalisation of each image by itself before anything else: none, reinhard or macenko.
    """

    dtype: StoredType = "float16"
    precision: Literal["float32", "bfloat16"] = "float32"
    batch_size: int = 32
    compile: bool = False
    workers: int = 2
    shard_cells: int = 512
    stain: Stain = "none"

    def __post_init__(self) -> None:
        for name, least in (("batch_size", 1), ("workers", 0), ("shard_cells", 1)):
            if getattr(self, name) < least:
                raise UsageError(f"extract.{name} is {getattr(self, name)}; it must be at least {least}.")


@dataclass(frozen=True)
class ReaderConfig:
    """How tokens are read for training.

    Attributes
    ----------
    batch_tokens : int
        Tokens of a batch (of each rank).
    which : {"all", "patches", "cls"}
        All tokens, patches only, or CLS only.
    seed : int
        Of the order.
    memory_bytes : int
        Stores up to this size, as stored, are held in memory and shuffled as a whole.
    buffer_tokens : int
        Larger ones are shuffled in pools of this many tokens, two of them in memory.
    run_tokens : int
        Neighbouring tokens that such a pool reads together; fewer mix better and read slower.
    """

    batch_tokens: int = 4096
    which: Which = "all"
    seed: int = 0
    memory_bytes: int = 2 << 30
    buffer_tokens: int = 1 << 19
    run_tokens: int = 32

    def __post_init__(self) -> None:
        for name, least in (("batch_tokens", 1), ("memory_bytes", 0), ("run_tokens", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise UsageError(f"reader.{name} is {getattr(self, name)}; it must be at least {least}.")
        if self.buffer_tokens < self.batch_tokens:
            raise UsageError(
                f"reader.buffer_tokens is {self.buffer_tokens}, less than batch_tokens, {self.batch_tokens}; raise it."
            )

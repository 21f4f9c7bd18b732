"""Kinds of sparsity, one file each. A new one is a file here and a member of `AnySparsity`.

The command line, ``study.toml`` and checkpoints know the members of that union; importing them needs no torch.
"""

from __future__ import annotations

from typing import get_args

from cytosae.sae.variants.batch_topk import BatchTopK
from cytosae.sae.variants.jump_relu import JumpRelu
from cytosae.sae.variants.matryoshka import Matryoshka
from cytosae.sae.variants.relu_l1 import ReluL1
from cytosae.sae.variants.topk import TopK

__all__ = ["VARIANTS", "AnySparsity", "BatchTopK", "JumpRelu", "Matryoshka", "ReluL1", "TopK"]

AnySparsity = ReluL1 | TopK | BatchTopK | JumpRelu | Matryoshka
VARIANTS: dict[str, type[AnySparsity]] = {kind.__name__: kind for kind in get_args(AnySparsity)}

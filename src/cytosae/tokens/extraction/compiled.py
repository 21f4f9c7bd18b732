"""The forward pass through torch.compile."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

from cytosae.common.errors import UsageError


def compiled_forward(backbone: object, batch_size: int) -> Callable[[torch.Tensor], torch.Tensor]:
    """``backbone`` as a function that is compiled at its first call.

    Smaller batches than ``batch_size`` are filled up to it: code is compiled for one shape, and only once.

    Raises
    ------
    UsageError
        for a backbone that torch does not compute; at the first call, where nothing can be compiled.
    """
    if not isinstance(backbone, nn.Module):
        raise UsageError("extract.compile is for backbones that torch computes; leave it out.")

    def forward(images: torch.Tensor) -> torch.Tensor:
        n = len(images)
        try:
            return compiled(functional.pad(images, (0,) * 7 + (max(0, batch_size - n),)))[:n]
        except Exception as problem:
            backbone(images)  # what is wrong with the images or the backbone is said by itself
            raise _refusal(problem) from problem

    try:
        compiled = torch.compile(backbone, dynamic=False)
    except RuntimeError as problem:  # a Python or a platform that torch does not compile for
        raise _refusal(problem) from problem
    return forward


def _refusal(problem: Exception) -> UsageError:
    words = " ".join(str(problem).split())[:200]
    return UsageError(
        f"extract.compile is asked for, but torch cannot compile here ({words}); install a C++ compiler (the variable "
        "CXX names one that is not g++) or leave extract.compile out."
    )

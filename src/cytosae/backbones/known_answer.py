"""A known answer: what weights must give for one image, so that the right file in a wrong computation is noticed.

The checksum says that the weights are the ones meant; the known answer, that timm, Pillow and this machine's kernels
still make of them what they did when they were published. None of DinoBloom is known to be published, so there is
one for the weights that come with cytosae alone, computed on a CPU in float32 (scripts/known_answers.py).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor

from cytosae.backbones.protocol import AnyBackbone
from cytosae.common.errors import WeightsError

ON_THE_CPU, ELSEWHERE = 2e-5, 5e-3
"""Relative distances to the known answer that are rounding, in float32; GPUs may multiply with fewer bits.

With one, two or four threads of a CPU it was 1e-6. Another epsilon of the layer norm (1e-5) makes 2.4e-5, the
approximate GELU 1e-3, bfloat16 8e-3, other constants of the colours 2e-2, another interpolation 9e-2.
"""


def draw_known_cell() -> np.ndarray:
    """A cell of the known answers: a lilac disc with a nucleus of two lobes on a pale ground.

    Returns
    -------
    ndarray of uint8, shape (96, 112, 3)
        Made of integers alone, so that it is the same on every machine, and of another size than any backbone takes.
    """
    y, x = np.mgrid[:96, :112]
    image = np.empty((96, 112, 3), np.uint8)
    image[...] = np.stack([236 - y // 12, 226 - x // 14, 228 + (x + y) // 24], axis=-1)
    image[(y - 50) ** 2 + (x - 58) ** 2 < 38**2] = (188, 168, 214)
    for row, column, radius in ((42, 48, 15), (56, 68, 17)):
        image[(y - row) ** 2 + (x - column) ** 2 < radius**2] = (96, 52, 132)
    return image


def summarise(backbone: AnyBackbone) -> Tensor:
    """What is compared: the mean of the known cell's tokens, weighted by their number, so that their order counts.

    Returns
    -------
    Tensor, shape (D,), float64
        On the CPU; of the block after which the backbone's tokens are taken.
    """
    tokens = backbone(backbone.prepare([draw_known_cell()]))[0].cpu().double()
    weights = torch.arange(1, len(tokens) + 1, dtype=tokens.dtype)
    return weights @ tokens / weights.sum()


def known_answer(backbone: AnyBackbone) -> Sequence[float] | None:
    """What `summarise` must give for these weights after this block; None where nobody has said."""
    return _answers().get(backbone.weights_hash, {}).get(str(backbone.block))


def verify_answer(backbone: AnyBackbone) -> float | None:
    """Compute the known answer anew, on the device where the backbone is.

    Parameters
    ----------
    backbone : AnyBackbone
        Whose weights are looked up by their SHA-256.

    Returns
    -------
    float or None
        Relative distance to the known answer; None where there is none for these weights and this block.

    Raises
    ------
    WeightsError
        where it is larger than rounding makes it.
    """
    known = known_answer(backbone)
    if known is None:
        return None
    expected = torch.tensor(known, dtype=torch.float64)
    distance = float((summarise(backbone) - expected).norm() / expected.norm())
    most = ON_THE_CPU if backbone.device.type == "cpu" else ELSEWHERE
    if not distance <= most:  # NaN is no answer, either
        raise WeightsError(
            f"{backbone.name} on {backbone.device} does not give its known answer (relative distance {distance:.2g}, "
            f"at most {most}): the weights are right, so timm, Pillow or the device computes otherwise; install the "
            "versions of constraints.txt (pip install -c), or compute elsewhere (--runtime.device cpu)."
        )
    return distance


@cache
def _answers() -> Mapping[str, Mapping[str, Sequence[float]]]:
    """SHA-256 of weights -> number of the block -> what `summarise` gave."""
    file = resources.files("cytosae.backbones") / "weights" / "known_answers.json"
    return MappingProxyType(json.loads(file.read_text(encoding="utf-8")))

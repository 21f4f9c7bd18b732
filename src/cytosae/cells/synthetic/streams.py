"""Where a drawing takes its chance from: one stream for all parts, or one for each so that parts change alone."""

from __future__ import annotations

import zlib
from collections.abc import Callable

import numpy as np
from numpy.random import Generator

Stream = Callable[[str], Generator]
"""From the name of a part, such as "chromatin", to the generator that it draws from."""


def one_stream(rng: Generator) -> Stream:
    """All parts draw from one generator, one after the other: a change of one changes all that come after it."""
    return lambda part: rng


def own_streams(*seed: int) -> Stream:
    """Each part draws from a generator of its own, made from ``seed`` and its name: a change of one leaves the rest."""
    made: dict[str, Generator] = {}

    def stream(part: str) -> Generator:
        if part not in made:
            made[part] = np.random.default_rng([*seed, zlib.crc32(part.encode())])
        return made[part]

    return stream

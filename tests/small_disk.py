"""A disk that takes little, for tests."""

from __future__ import annotations

import gc
import resource
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def small_disk(size: int = 10_000) -> Iterator[None]:
    """No file can become larger than ``size`` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        gc.collect()

"""A lock that several processes hold together, on a file that others lock for themselves alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None


@contextmanager
def shared_lock(path: Path) -> Iterator[None]:
    """Hold ``path`` with others that do the same; `filelock.FileLock` on it waits for all of them, and they for it.

    Where the system knows no shared locks, one process holds it at a time.

    Raises
    ------
    BlockingIOError
        A process holds it alone.
    """
    if fcntl is None:
        try:
            with FileLock(path, timeout=0):
                yield
        except Timeout as problem:
            raise BlockingIOError(str(problem)) from problem
        return
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        yield
    finally:
        os.close(file)

"""Memory that was freed, handed back to the system."""

from __future__ import annotations

import ctypes
import platform
from functools import cache
from typing import Any


def give_back() -> None:
    """Hand freed memory back to the system where the C library keeps it in pieces.

    glibc does so with blocks of many sizes, and a pass over millions of cells would grow by them. Where another library
    is in use, nothing is done.
    """
    trim = _trim()
    if trim is not None:
        trim(0)


@cache
def _trim() -> Any:
    return ctypes.CDLL(None).malloc_trim if platform.libc_ver()[0] == "glibc" else None

"""Cores for each answer: all of them for one that is made alone, one for each where several are made at once."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Cores:
    """Shares torch's threads out among the pages that are being made.

    Each page is made by a thread of its own. If each of these computed on all cores, threads would outnumber cores and
    wait for each other: under load the encoding of one cell takes several times as long.

    Parameters
    ----------
    most : int
        Threads in all, 0 for those that torch takes by itself.
    """

    def __init__(self, most: int = 0) -> None:
        self._lock, self._at_work, self._all = threading.Lock(), 0, most

    @contextmanager
    def share(self) -> Iterator[int]:
        """While a page is made: the threads that torch takes in this thread of the server, 0 where it is not needed."""
        with self._lock:
            self._at_work += 1
            at_work = self._at_work
        try:
            yield self._take(at_work)
        finally:
            with self._lock:
                self._at_work -= 1

    def _take(self, at_work: int) -> int:
        torch = sys.modules.get("torch")  # whoever computes has imported it; the first one takes all cores
        if torch is None or not hasattr(torch, "set_num_threads"):
            return 0
        with self._lock:
            self._all = self._all or torch.get_num_threads()
        share = max(1, self._all // at_work)
        if torch.get_num_threads() != share:
            torch.set_num_threads(share)  # of the thread that asks
        return share

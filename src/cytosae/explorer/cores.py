"""Turns and cores for each answer: as many at a time as there are cores, which they share."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

PATIENCE = 0.25
"""Seconds that a page waits for its turn: behind one that takes long it begins all the same."""
MOST = 4
"""Pages that are made at a time at most, on any number of cores: Python's own work is done by one thread at a time."""


class Cores:
    """Makes a few pages at a time, one after the other, and shares torch's threads out among these.

    Each page is made by a thread of its own. Where all computed at once, each in little pieces, all would be done late;
    and if each of them took all cores, threads would outnumber cores and wait for each other.

    Parameters
    ----------
    most : int
        Threads in all, 0 for those that torch takes by itself.
    turns : int
        Pages at a time; by default one for each core, from 2 to `MOST`.
    """

    def __init__(self, most: int = 0, turns: int = 0) -> None:
        self._lock, self._at_work, self._all = threading.Lock(), 0, most
        self._turns = threading.Semaphore(turns or min(MOST, max(2, os.cpu_count() or 1)))

    @contextmanager
    def share(self) -> Iterator[int]:
        """While a page is made: the threads that torch takes in this thread of the server, 0 where it is not needed."""
        in_turn = self._turns.acquire(timeout=PATIENCE)
        with self._lock:
            self._at_work += 1
            at_work = self._at_work
        try:
            yield self._take(at_work)
        finally:
            with self._lock:
                self._at_work -= 1
            if in_turn:
                self._turns.release()

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

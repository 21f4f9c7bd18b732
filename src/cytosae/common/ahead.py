"""Two steps of a stream at the same time: one item is made while the next is fetched and the one before used."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")


def one_ahead(make: Callable[[Item], Made], items: Iterable[Item]) -> Iterator[Made]:
    """``map(make, items)`` in a thread of its own, while the caller fetches the next item and uses what the last gave.

    ``make`` is called for one item at a time, in their order; ``items`` runs in the caller's thread. What ``make``
    raises is raised where its item's turn comes, and nothing is made after it; a caller who stops early waits for the
    item that is being made.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="one-ahead") as thread:
        coming = None
        for item in items:
            ready = () if coming is None else (coming.result(),)
            coming = thread.submit(make, item)
            yield from ready
        if coming is not None:
            yield coming.result()

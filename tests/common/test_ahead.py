from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from cytosae.common.ahead import one_ahead


def test_what_is_made_comes_in_order_and_the_next_item_is_fetched_meanwhile():
    fetched = [threading.Event() for _ in range(5)]
    here = threading.get_ident()

    def items() -> Iterator[int]:
        for item in range(5):
            assert threading.get_ident() == here
            fetched[item].set()
            yield item

    def make(item: int) -> int:
        assert threading.get_ident() != here
        assert item == 4 or fetched[item + 1].wait(30)
        return item * item

    assert list(one_ahead(make, items())) == [0, 1, 4, 9, 16]
    assert list(one_ahead(make, [])) == []


def test_an_error_is_raised_where_its_turn_comes_and_nothing_after_it_is_made():
    made = []

    def make(item: int) -> float:
        made.append(item)
        return 1 / item

    results = one_ahead(make, [2, 1, 0, 3, 4])
    assert [next(results), next(results)] == [0.5, 1.0]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert made == [2, 1, 0]


def test_a_caller_who_stops_leaves_no_thread():
    before = threading.active_count()
    results = one_ahead(str, range(100))
    assert next(results) == "0"
    results.close()
    assert threading.active_count() == before

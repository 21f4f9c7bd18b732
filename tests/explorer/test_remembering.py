"""What takes long is computed once, whoever asks, and anew where what is kept is damaged."""

from __future__ import annotations

import threading
import time

import pytest

from cytosae.common.cache import cache_folder
from cytosae.explorer.remembering import HELD, Remembered
from cytosae.views.concepts.concept_map_view import Layout

LAYOUT = Layout((1, 2), (0.5, 1.0), (0.0, 0.25))


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CYTOSAE_CACHE", str(tmp_path))


def never():
    raise AssertionError("computed again")


def test_it_is_kept_for_other_servers_and_told_apart_by_what_it_is_made_from():
    assert Remembered().get(Layout, "a" * 64, "x", lambda: LAYOUT) == LAYOUT
    assert Remembered().get(Layout, "a" * 64, "x", never) == LAYOUT
    assert Remembered().peek(Layout, "b" * 64, "x") is None
    assert Remembered().peek(Layout, "a" * 64, "y") is None


def test_pages_that_need_the_same_wait_for_one_computation():
    remembered, made = Remembered(), []

    def slow() -> Layout:
        made.append(1)
        time.sleep(0.05)
        return LAYOUT

    pages = [threading.Thread(target=remembered.get, args=(Layout, "a" * 64, "x", slow)) for _ in range(5)]
    for page in pages:
        page.start()
    for page in pages:
        page.join()
    assert made == [1]


@pytest.mark.parametrize("content", ["", "{", '{"type": "Layout"}', '{"latents": "x"}', "[1]"])
def test_what_is_damaged_is_computed_anew(content):
    Remembered().get(Layout, "a" * 64, "x", lambda: Layout((), (), ()))
    (file,) = cache_folder().rglob("*.json")
    file.write_text(content)
    assert Remembered().get(Layout, "a" * 64, "x", lambda: LAYOUT) == LAYOUT


def test_memory_holds_only_the_latest():
    remembered = Remembered()
    for i in range(HELD + 5):
        remembered.get(Layout, "a" * 64, str(i), lambda: LAYOUT)
    assert len(remembered._held) == HELD

"""Pages that are made at once share the cores; one alone has them all."""

from __future__ import annotations

import threading

import torch

from cytosae.explorer import cores as module
from cytosae.explorer.cores import Cores


def test_one_page_alone_takes_all_threads_and_pages_at_once_share_them():
    cores, inside, leave, shares = Cores(4, turns=3), threading.Barrier(4), threading.Event(), []

    def page() -> None:
        with cores.share() as share:
            shares.append((share, torch.get_num_threads()))
            inside.wait()
            leave.wait()

    before = torch.get_num_threads()
    pages = [threading.Thread(target=page) for _ in range(3)]
    for one in pages:
        one.start()
    inside.wait()
    leave.set()
    for one in pages:
        one.join()
    assert sorted(shares) == [(1, 1), (2, 2), (4, 4)]
    assert torch.get_num_threads() == before
    alone: list[int] = []

    def last() -> None:
        with cores.share() as share:
            alone.append(share)

    thread = threading.Thread(target=last)
    thread.start()
    thread.join()
    assert alone == [4]


def test_a_page_waits_for_its_turn_but_not_for_long(monkeypatch):
    monkeypatch.setattr(module, "PATIENCE", 30)
    cores, order = Cores(2, turns=1), []

    def page(name: str) -> None:
        with cores.share():
            order.append(name)

    def begun(name: str) -> threading.Thread:
        thread = threading.Thread(target=page, args=(name,))
        thread.start()
        return thread

    with cores.share():
        waiting = begun("second")
        waiting.join(0.2)
        order.append("first")
    waiting.join()
    assert order == ["first", "second"]
    monkeypatch.setattr(module, "PATIENCE", 0.01)
    with cores.share():  # one that takes long
        begun("third").join()
        order.append("fourth")
    begun("fifth").join()
    assert order[2:] == ["third", "fourth", "fifth"]


def test_a_page_that_fails_gives_its_cores_back():
    cores, shares = Cores(2), []

    def page(*, fail: bool) -> None:
        try:
            with cores.share() as share:
                shares.append(share)
                if fail:
                    raise ValueError
        except ValueError:
            pass

    for fail in (True, False):
        thread = threading.Thread(target=page, kwargs={"fail": fail})
        thread.start()
        thread.join()
    assert shares == [2, 2]


def test_every_page_and_its_twin_share(explorer, monkeypatch):
    shared = []
    original = explorer.app.state.cores.share

    def share():
        shared.append(1)
        return original()

    monkeypatch.setattr(explorer.app.state.cores, "share", share)
    assert explorer.get("/concepts").status_code == explorer.get("/api/concepts").status_code == 200
    assert len(shared) == 2

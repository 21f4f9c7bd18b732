"""Freed memory goes back to the system, where the C library would keep it."""

from __future__ import annotations

import platform
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.sparse as sp

from cytosae.atlas.stored import atlas_file
from cytosae.common import memory


def anonymous() -> int:
    """kB of this process that belong to no file."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library gives memory back by itself")
def test_what_lies_freed_between_what_is_held_goes_back():
    blocks = [bytes(100_000) for _ in range(2_000)]  # below the size at which glibc asks the system for each
    held, full = blocks[::20], anonymous()
    del blocks
    memory.give_back()
    assert len(held) == 100
    assert full - anonymous() > 100_000


def test_where_there_is_another_c_library_nothing_is_done(monkeypatch):
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    memory._trim.cache_clear()
    memory.give_back()
    assert memory._trim() is None
    memory._trim.cache_clear()


def test_a_long_pass_gives_back_again_and_again(tmp_path, monkeypatch):
    times = []
    monkeypatch.setattr(atlas_file, "give_back", lambda: times.append(1))
    monkeypatch.setattr(atlas_file, "KEPT", 100)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        writer = atlas_file.CsrWriter(file.create_group("X"), 10, np.float32)
        for _ in range(10):
            writer.append(sp.csr_array(np.ones((3, 10), np.float32)))
    assert len(times) == 2

"""Every reader either reads a damaged file rightly or refuses it in one sentence, in bounded memory and time."""

from __future__ import annotations

import resource
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest
from fuzz.readers import READERS, Reader

from cytosae.common.errors import CytosaeError

FEWEST = 20
"""Damaged files of each kind, however little time there is."""
SECONDS_EACH, GIGABYTES_MORE = 20, 1.0


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
def test_a_damaged_file_is_read_or_refused_in_a_sentence(reader: Reader, tmp_path: Path, pytestconfig) -> None:
    reader.make(tmp_path)
    file = tmp_path / reader.file
    whole = file.read_bytes()
    reader.read(tmp_path)
    end, number = time.monotonic() + pytestconfig.getoption("fuzz_seconds") / len(READERS), 0
    while number < FEWEST or time.monotonic() < end:
        file.write_bytes(reader.damage(Random(f"{reader.name} {number}"), whole))
        said = "It is whole."
        try:
            with bounded():
                reader.read(tmp_path)
        except CytosaeError as refusal:
            said = str(refusal)
        except BaseException as problem:
            pytest.fail(f"{reader.name}, file {number} ended in {type(problem).__name__}: {problem}")
        assert is_sentence(said), f"{reader.name}, file {number}"
        number += 1


def is_sentence(text: str) -> bool:
    return text.endswith((".", "?")) and "\n" not in text and len(text) < 2000


@contextmanager
def bounded() -> Iterator[None]:
    """Whoever takes longer, or more memory than a small file can need, is stuck."""

    def stop(*_: object) -> None:
        raise TimeoutError(f"more than {SECONDS_EACH} seconds")

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    handler = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS_EACH)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, handler)
        more = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**20
        if more > GIGABYTES_MORE:
            raise MemoryError(f"{more:.1f} GB more than before")

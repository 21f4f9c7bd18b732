"""Extraction that is killed: whatever the moment, the next start finishes it to the same bytes."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import socket
import time
from collections.abc import Callable
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest
from tokens.token_stubs import StubBackbone, content

from cytosae.cells import CellTable
from cytosae.common.errors import ArtifactError
from cytosae.common.runtime import RuntimeConfig, make_fabric
from cytosae.tokens import ExtractConfig, TokenStore, extract
from cytosae.tokens.extraction import work

pytestmark = pytest.mark.slow

# A server that has imported torch but computed nothing: its children start at once and may be killed at will.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["cytosae.cells", "cytosae.common.runtime", "cytosae.tokens"])


def start(target: Callable, *arguments) -> ForkServerProcess:
    process = CONTEXT.Process(target=target, args=arguments)
    process.start()
    return process


def wait_for(process: ForkServerProcess, happened: Callable[[], bool]) -> None:
    while not happened():
        assert process.is_alive(), "the process ended too early"
        time.sleep(0.005)


def slowly(cells: CellTable, out: Path, config: ExtractConfig) -> None:
    extract(cells, StubBackbone(delay=0.02), out, config=config)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def until_written(cells: CellTable, out: Path, config: ExtractConfig, point: str) -> None:
    """Extract and die at ``point`` in writing shard 1, or in publishing."""
    original_write, original_note = work.write_durably, work.write_json

    def write_durably(file: Path, content: bytes) -> None:
        if point == "half of the shard" and file.name == "shard-00001.safetensors":
            (file.parent / f".{file.name}.0.partial").write_bytes(content[: len(content) // 2])
            die()
        original_write(file, content)

    def write_json(file: Path, value) -> None:
        if point == "shard without note" and file.name == "shard-00001.json":
            die()
        if point == "half of the note" and file.name == "shard-00001.json":
            file.write_text('{"key": "')
            die()
        original_note(file, value)

    def publish_directory(*arguments, **named) -> None:
        if point == "before the rename":
            die()
        raise AssertionError("the process should be dead")

    work.write_durably, work.write_json = write_durably, write_json
    if point == "before the rename":
        work.publish_directory = publish_directory
    extract(cells, StubBackbone(), out, config=config)


@pytest.mark.parametrize("point", ["half of the shard", "shard without note", "half of the note", "before the rename"])
def test_killed_inside_writing(cells: CellTable, store: TokenStore, small, tmp_path: Path, point: str) -> None:
    process = start(until_written, cells, tmp_path / "t", small, point)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert not (tmp_path / "t").exists()
    backbone = StubBackbone()
    finished = extract(cells, backbone, tmp_path / "t", config=small)
    assert content(finished.path) == content(store.path)
    # At most the shard in progress (and one that was computed while it was written) is lost.
    assert sum(backbone.seen) == {"before the rename": 0}.get(point, 14)
    assert {file.name for file in tmp_path.iterdir()} <= {"t", ".t.lock"}


def test_killed_at_twenty_random_moments(cells: CellTable, store: TokenStore, small, tmp_path: Path) -> None:
    rng = random.Random(0)
    killed = 0
    for trial in range(20):
        out = tmp_path / str(trial) / "t"
        process = start(slowly, cells, out, small)
        wait_for(process, lambda: (out.parent / ".t.lock").exists())  # noqa: B023
        time.sleep(rng.uniform(0.0, 0.25))
        process.kill()
        process.join()
        killed += not out.exists()
        finished = extract(cells, StubBackbone(), out, config=small)
        assert content(finished.path) == content(store.path)
        assert {file.name for file in out.parent.iterdir()} <= {"t", ".t.lock"}
    assert killed >= 10


def test_killed_with_its_decoding_workers(cells: CellTable, store: TokenStore, small, tmp_path: Path) -> None:
    config = ExtractConfig(batch_size=4, workers=2, shard_cells=6)
    process = start(slowly, cells, tmp_path / "t", config)
    wait_for(process, lambda: bool(list(tmp_path.rglob("notes/shard-*.json"))))
    process.kill()
    process.join()
    backbone = StubBackbone()
    finished = extract(cells, backbone, tmp_path / "t", config=small)
    assert content(finished.path) == content(store.path)
    assert sum(backbone.seen) < 20


def test_a_living_process_refuses_another(cells: CellTable, small, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(work, "LOCK_SECONDS", 0.05)
    process = start(slowly, cells, tmp_path / "t", small)
    wait_for(process, (tmp_path / ".t.partial").exists)
    try:
        with pytest.raises(ArtifactError, match=r"Another process is writing .*\.t\.lock"):
            extract(cells, StubBackbone(), tmp_path / "t", config=small)
    finally:
        process.join()
    assert process.exitcode == 0
    assert (tmp_path / "t").exists()


def one_of_two(rank: int, port: int, cells: CellTable, out: Path, config: ExtractConfig, last: int | None) -> None:
    """A rank as torchrun starts it; rank 1 dies where it would write shard ``last``."""
    # What torchrun sets, so that Fabric finds the ranks as it does there.
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "GROUP_RANK": "0",
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_RUN_ID": "test",
    }
    original = work.Work.write

    def write(self, shard, planes) -> None:
        if rank == 1 and shard.index == last:
            die()
        original(self, shard, planes)

    work.Work.write = write
    fabric = make_fabric(RuntimeConfig(device="cpu", threads=1))
    assert fabric.world_size == 2
    extract(cells, StubBackbone(), out, config=config, fabric=fabric)


def two_ranks(cells: CellTable, out: Path, config: ExtractConfig, *, last: int | None = None) -> list[int | None]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ranks = [start(one_of_two, rank, port, cells, out, config, last) for rank in range(2)]
    ranks[1].join()
    if last is not None:
        # torchrun ends the others when one has died; give rank 0 the time for its own shards first.
        wait_for(ranks[0], lambda: len(list(out.parent.rglob("notes/*.json"))) >= 2)
        ranks[0].kill()
    ranks[0].join()
    return [rank.exitcode for rank in ranks]


def test_two_ranks_make_the_same_bytes(cells: CellTable, store: TokenStore, small, tmp_path: Path) -> None:
    assert two_ranks(cells, tmp_path / "t", small) == [0, 0]
    assert content(tmp_path / "t") == content(store.path)


def test_what_a_dead_rank_left_is_done_by_the_next_start(cells, store: TokenStore, small, tmp_path: Path) -> None:
    assert two_ranks(cells, tmp_path / "t", small, last=1) == [-signal.SIGKILL, -signal.SIGKILL]
    assert not (tmp_path / "t").exists()
    assert two_ranks(cells, tmp_path / "t", small) == [0, 0]
    assert content(tmp_path / "t") == content(store.path)

"""Two processes, started by Fabric itself or by torchrun: one of them speaks, both leave their group at the end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cytosae.common.ranks import is_first

LAUNCHERS = {
    "fabric": [sys.executable],
    "torchrun": [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"],
}


@pytest.mark.slow
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_one_of_two_processes_speaks_and_both_leave_their_group(launcher: str, tmp_path: Path) -> None:
    script = Path(__file__).with_name("run_ranks.py")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [*LAUNCHERS[launcher], script, tmp_path],
        env=environment, capture_output=True, text=True, check=False, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stdout.count("before they have met") == 1
    assert done.stdout.count("after they have met") == 1
    assert done.stderr.count("Working: 1 of 1 things") == 1
    left = {file.name: file.read_text() for file in tmp_path.iterdir()}
    assert left == {"rank-0-of-2": "out", "rank-1-of-2": "out"}


@pytest.mark.parametrize(
    ("environment", "first"),
    [
        ({}, True),
        ({"RANK": "0", "LOCAL_RANK": "0"}, True),
        ({"RANK": "2", "LOCAL_RANK": "0"}, False),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "4"}, True),
        ({"SLURM_PROCID": "3", "SLURM_NTASKS": "4"}, False),
        ({"LOCAL_RANK": "0", "NODE_RANK": "0", "WORLD_SIZE": "2"}, True),
        ({"LOCAL_RANK": "1", "NODE_RANK": "0", "WORLD_SIZE": "2"}, False),
        ({"LOCAL_RANK": "0", "NODE_RANK": "1", "WORLD_SIZE": "4"}, False),
    ],
)
def test_the_first_process_is_known_from_the_environment(environment, first, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert is_first() == first

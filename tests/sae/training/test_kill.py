"""``kill -9`` at random moments and resumption change nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.parametrize(("path", "kills"), [("dense", 20), ("blocks", 8), ("screened", 8)])
def test_training_killed_at_random_moments_ends_bitwise_the_same(tmp_path, path, kills):
    driver = Path(__file__).with_name("kill_driver.py")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(driver.parents[2])}
    command = [sys.executable, str(driver), str(tmp_path), str(kills), "0", path]
    run = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=280, check=False)
    assert run.returncode == 0, run.stderr
    result = json.loads(run.stdout)
    assert result["kills"] == kills
    assert result["equal"]
    assert result["logs_equal"]

"""``kill -9`` at random moments and resumption change nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_training_killed_at_twenty_random_moments_ends_bitwise_the_same(tmp_path):
    driver = Path(__file__).with_name("kill_driver.py")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(driver), str(tmp_path), "20", "0"]
    run = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=280, check=False)
    assert run.returncode == 0, run.stderr
    result = json.loads(run.stdout)
    assert result["kills"] == 20
    assert result["equal"]
    assert result["logs_equal"]

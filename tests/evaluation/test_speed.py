"""Measurements: what they hold, not how fast this machine is."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from cytosae.common.errors import InputError, UsageError
from cytosae.evaluation import SpeedConfig, describe_machine, markdown, measure_speed, random_tokens
from cytosae.evaluation.speed import WALL, in_turns, tuned_sae

SMALL = SpeedConfig(d=24, m=600, n=64, k=6, threads=1, rounds=2)


@pytest.mark.parametrize("variant", ["TopK", "BatchTopK", "Matryoshka", "JumpRelu", "ReluL1"])
def test_every_variant_is_measured_with_about_k_active_latents(variant: str) -> None:
    config = SpeedConfig(**{**SMALL.__dict__, "variant": variant})
    before = torch.get_num_threads()
    speed = measure_speed(config)
    assert torch.get_num_threads() == before
    tf32 = ["TF32 product"] if speed.config.device == "cuda" else []
    names = [WALL, *tf32, "bfloat16 product", "copy of the encoder"]
    names += [f"{what}, {path}" for path in config.paths for what in ("step", "encode")]
    assert [lap.name for lap in speed.laps] == names
    assert all(len(lap.seconds) == len(lap.ratios) == 2 and min(lap.seconds) > 0 for lap in speed.laps)
    assert speed.lap(WALL).ratio == (1, 1, 1)
    assert 3 <= speed.l0 <= 9
    assert set(speed.candidates) <= {"screened", "blocks"}
    assert speed.overruns.keys() == speed.candidates.keys()


def test_a_ratio_is_the_walls_time_over_its_own_of_the_same_round() -> None:
    speed = measure_speed(SMALL)
    for lap in speed.laps:
        expected = [wall / own for wall, own in zip(speed.laps[0].seconds, lap.seconds, strict=True)]
        assert list(lap.ratios) == pytest.approx(expected)
        middle, least, most = lap.ratio
        assert least <= middle <= most


def test_given_tokens_and_sae_are_measured_and_left_alone() -> None:
    x = random_tokens(40, 24, seed=3)
    sae = tuned_sae(SMALL, x)
    before = sae.fingerprint
    speed = measure_speed(SMALL, tokens=x, sae=sae)
    assert (speed.config.n, speed.config.d) == (40, 24)
    assert sae.fingerprint == before


def test_work_takes_turns_and_each_round_begins_with_another() -> None:
    done: list[str] = []
    in_turns({name: lambda name=name: done.append(name) for name in "abc"}, 3)
    assert "".join(done) == "abc" + "abc" + "bca" + "cab"


def test_the_table_has_a_row_for_everything_and_the_targets() -> None:
    speed = measure_speed(SMALL)
    lines = markdown(speed, {"step, screened": 1.5}).splitlines()
    assert len(lines) == 4 + len(speed.laps)
    assert len({line.count("|") for line in lines[2:]}) == 1
    assert [line.split("|")[-2].strip() for line in lines if line.startswith("| step, screened")] == ["1.5"]


def test_the_machine_says_what_it_is() -> None:
    machine = describe_machine()
    assert machine.cores >= 1
    assert torch.__version__ in str(machine)


@pytest.mark.parametrize(("name", "value"), [("d", 0), ("rounds", 0), ("threads", -1), ("k", 601)])
def test_impossible_sizes_are_refused(name: str, value: int) -> None:
    with pytest.raises(UsageError, match=name):
        SpeedConfig(**{**SMALL.__dict__, name: value})


@pytest.mark.skipif(torch.cuda.is_available(), reason="asks for a GPU where there is none")
def test_a_gpu_that_is_not_there_is_refused() -> None:
    with pytest.raises(UsageError, match="no CUDA device is usable here"):
        measure_speed(SpeedConfig(**{**SMALL.__dict__, "device": "cuda"}))


@pytest.mark.cuda
def test_a_gpu_is_measured_where_there_is_one() -> None:
    speed = measure_speed(SMALL)
    assert speed.config.device == "cuda"
    assert {"TF32 product", "step, screened", "encode, dense"} <= {lap.name for lap in speed.laps}


def test_tokens_that_cannot_be_used_are_refused() -> None:
    with pytest.raises(InputError, match=r"\[N, d\]"):
        measure_speed(SMALL, tokens=torch.zeros(2, 3, 4))
    with pytest.raises(InputError, match="not finite"):
        measure_speed(SMALL, tokens=torch.full((4, 24), torch.nan))


@pytest.mark.slow
def test_training_needs_little_more_memory_than_its_weights_and_moments() -> None:
    """At d = 768, m = 8,192, N = 1,024: gradients and scores of that size would not fit beside."""
    script = Path(__file__).parents[2] / "benchmarks" / "memory.py"
    run = subprocess.run(
        [sys.executable, str(script), "768", "8192", "1024", "32"],
        capture_output=True,
        text=True,
        timeout=200,
        check=True,
    )
    result = json.loads(run.stdout.splitlines()[-1])
    assert result["used"] > 0.5 * result["needed"]
    assert result["beside"] < 300e6

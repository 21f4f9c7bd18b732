"""``cytosae bench`` as people and programs call it."""

from __future__ import annotations

import json

import numpy as np
import pytest

from cytosae.cli import main

SMALL = ["bench", "--d", "16", "--m", "400", "--n", "48", "--k", "4", "--threads", "1", "--rounds", "2"]


def test_a_document_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SMALL, "--variant", "ReluL1", "--paths", "screened", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["config"]["m"] == 400
    assert document["machine"]["threads"] == 1
    laps = {lap["name"]: lap for lap in document["laps"]}
    assert laps["float32 product"]["ratio"] == {"median": 1, "min": 1, "max": 1}
    assert len(laps["step, screened"]["seconds"]) == 2
    assert "step, dense" not in laps
    assert document["candidates"]["screened"] > 0


def test_tables_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SMALL, "--paths", "dense"]) == 0
    assert "encode, dense" in capsys.readouterr().out
    assert main([*SMALL, "--paths", "dense", "--markdown"]) == 0
    assert "| step, dense |" in capsys.readouterr().out


def test_own_tokens_are_measured(tmp_path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).standard_normal((30, 12)).astype(np.float16))
    assert main([*SMALL, "--paths", "dense", "--tokens", str(tmp_path / "x.npy"), "--json"]) == 0
    config = json.loads(capsys.readouterr().out)["config"]
    assert (config["n"], config["d"]) == (30, 12)


def test_what_cannot_be_measured_is_one_sentence(tmp_path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "x.npy", np.zeros((2, 3, 4)))
    assert main([*SMALL, "--tokens", str(tmp_path / "x.npy")]) == 1
    assert "[N, d]" in capsys.readouterr().err
    (tmp_path / "y.npy").write_text("no array")
    assert main([*SMALL, "--tokens", str(tmp_path / "y.npy")]) == 1
    assert "numpy.save" in capsys.readouterr().err
    assert main(["bench", "--m", "400", "--k", "500"]) == 2
    assert "k <= m" in capsys.readouterr().err

"""A study remembers the runs that made it."""

from __future__ import annotations

import json
import shutil

import pytest

from cytosae.common.errors import ArtifactError
from cytosae.pipeline import Study, index
from cytosae.pipeline.run_record import read_runs


@pytest.fixture
def study(study_of_smear, tmp_path):
    return shutil.copytree(study_of_smear, tmp_path / "study")


def test_a_study_tells_how_it_was_made(study):
    told = json.loads((study / "runs.json").read_text())
    [run] = told["runs"]
    steps = ["cells smear", "tokens smear", "sae", "atlas smear", "random latents smear", "localisation", "report"]
    assert [step["step"] for step in run["steps"]] == steps
    assert run["versions"]["torch"]
    assert run["machine"]["processor"]
    assert run["began"] <= run["ended"]
    assert told["seeds"]["sae.train.seed"] == 0
    assert {a["path"]: a["fingerprint"] for a in told["artifacts"]} == {
        h.path.as_posix(): h.fingerprint for h in index(study)
    }
    atlas = next(a for a in told["artifacts"] if a["kind"] == "atlas")
    assert atlas["inputs"]["sae"] == Study(study).fingerprint("sae")


def test_a_run_that_makes_nothing_is_not_remembered_and_one_that_does_is(study):
    before = (study / "runs.json").read_bytes()
    Study(study).run()
    assert (study / "runs.json").read_bytes() == before
    Study.open(study, (), [{"report": {"concepts": 3}}]).run()
    runs = read_runs(study)
    assert len(runs) == 2
    assert [step["step"] for step in runs[-1]["steps"] if not step["skipped"]] == ["report"]


def test_what_ended_a_run_is_remembered(study):
    work = Study(study)
    with pytest.raises(ArtifactError), work.alone():
        work.config = Study.open(study, (), [{"report": {"concepts": 3}}]).config
        work.write_report()
        raise ArtifactError("The sky fell.")
    assert read_runs(study)[-1]["problem"] == "The sky fell."


def test_a_damaged_record_of_runs_is_begun_anew(study):
    (study / "runs.json").write_text("{")
    Study.open(study, (), [{"report": {"concepts": 3}}]).run()
    assert len(read_runs(study)) == 1

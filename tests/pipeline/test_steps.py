"""Steps as values: what they declare is all that their work sees, and everything that follows from it."""

from __future__ import annotations

import shutil
import tomllib
from dataclasses import replace

import pytest
import torch
from conftest import SMALL
from filelock import FileLock

from cytosae.cli import main
from cytosae.cohort.config import AttentionConfig
from cytosae.common.artifact import read_artifact, write_artifact
from cytosae.common.errors import ArtifactError, UsageError
from cytosae.pipeline import Study, index
from cytosae.pipeline.cohort_steps import ranking_step
from cytosae.pipeline.cohort_work import CohortWork
from cytosae.pipeline.context import Context
from cytosae.pipeline.dataset_steps import all_steps
from cytosae.pipeline.places import Place
from cytosae.pipeline.step import Job, Source, Step

AS_BEFORE = {
    "cells smear": ({"path", "layout", "max_unusable"}, {"files"}),
    "tokens smear": (
        {"batch_size", "compile", "dtype", "precision", "shard_cells", "stain", "type", "workers"},
        {"cells", "backbone"},
    ),
    "sae": ({"recipe", "reading"}, {"tokens/smear"}),
    "atlas smear": ({"type", "reference_cells", "tau"}, {"sae", "tokens", "cells"}),
    "localisation": (None, {"tokens/smear", "cells/smear", "sae"}),
}
"""Step -> options and inputs that version 0.1.0 wrote down; its studies stay up to date while these are the same."""


@pytest.fixture
def copied_study(study_of_smear, tmp_path):
    return shutil.copytree(study_of_smear, tmp_path / "study")


@pytest.fixture
def context(tmp_path):
    return Context(tmp_path / "study", Study.open(tmp_path / "study").config.runtime)


def write(job: Job) -> None:
    with write_artifact(job.path, "sweep", details={"n": job.asked["n"]}, **job.record) as folder:
        (folder / "file.txt").write_text(str(job.asked["n"]))


def test_a_step_is_made_once_and_again_when_its_slice_or_its_sources_change(context):
    def step(n: int, print_: str = "a") -> Step:
        return Step(Place("sweep"), write, {"n": n}, sources={"files": Source(None, print_)})

    results = [context.run(step(*arguments)) for arguments in [(1,), (1,), (2,), (2, "b")]]
    assert [result.skipped for result in results] == [False, True, False, False]
    assert [result.why for result in results] == ["", "", "n changed", "files changed"]
    assert [result.facts["n"] for result in results] == [1, 1, 2, 2]


def test_work_that_reads_what_it_did_not_declare_fails(context):
    def greedy(job: Job) -> None:
        job.tokens("cells")

    with pytest.raises(LookupError, match="the step 'sweep' opens 'tokens cells' without declaring it"):
        context.run(Step(Place("sweep"), greedy))


def test_studies_of_the_version_before_stay_up_to_date(study_of_smear):
    study = Study(study_of_smear)
    for step in all_steps(study.config, study.context):
        if step.at.title in AS_BEFORE:
            options, inputs = AS_BEFORE[step.at.title]
            artifact = read_artifact(step.at.below(study.path), step.at.kind)
            assert options is None or set(artifact.config) == options, step.at.title
            assert set(artifact.inputs) == inputs, step.at.title


def test_models_are_placed_on_the_device_of_the_context(study_of_smear, monkeypatch):
    study = Study(study_of_smear)
    monkeypatch.setattr(Context, "device", torch.device("meta"))
    assert {p.device.type for p in study.sae().parameters()} == {"meta"}
    assert {p.device.type for p in study.backbone.parameters()} == {"meta"}


def test_a_model_is_loaded_once_until_its_file_changes(copied_study):
    study = Study(copied_study)
    first = study.sae()
    assert study.sae() is first
    changed = Study.open(copied_study, changes=[{"sae": {"train": {"steps": 61}}}])
    changed.train()
    assert study.sae() is not first


def test_a_ranking_of_cells_follows_every_option_that_it_reads(study_of_cohort, tmp_path):
    study = Study(shutil.copytree(study_of_cohort, tmp_path / "study"))
    work = CohortWork(study)
    work.make_barcodes()
    (a, b), *_ = work.comparisons
    asked = work.config.classification
    changes = {"confidence": 0.9, "seed": 1, "folds": 3, "attention": AttentionConfig(hidden=8), "kind": "mean"}
    steps = [ranking_step(work, a, b)]
    for name, value in changes.items():
        changed = replace(work.config, classification=replace(asked, **{name: value}))
        steps.append(ranking_step(CohortWork(study, changed), a, b))
    recipes = {Job(step, study.context, {}).recipe for step in steps}
    assert len(recipes) == 1 + len(changes)


def test_options_that_do_not_fit_are_refused_before_they_are_written_down(copied_study, capsys):
    before = (copied_study / "study.toml").read_bytes()
    assert main(["train", "--study", str(copied_study), "--sae.sparsity.k", "999999"]) == 2
    assert "999999" in capsys.readouterr().err
    assert main(["cohort", "--study", str(copied_study), "--compare", "no", "such"]) == 2
    assert main(["atlas", "--study", str(copied_study), "--atlas.tau", "-1"]) == 2
    assert main(["report", "--study", str(copied_study), "--report.concepts", "0"]) == 2
    assert (copied_study / "study.toml").read_bytes() == before
    assert main(["run", "--study", str(copied_study)]) == 0


def test_a_study_in_use_keeps_its_options(copied_study, capsys):
    before = (copied_study / "study.toml").read_bytes()
    with FileLock(copied_study / ".lock"):
        for command in ("train", "atlas", "report", "run"):
            assert (
                main(
                    [command, "--study", str(copied_study), "--runtime.threads", "1"][: 3 if command == "report" else 5]
                )
                == 1
            )
            assert "Another process works on" in capsys.readouterr().err
    assert (copied_study / "study.toml").read_bytes() == before


def test_a_study_that_may_not_be_written_to_can_be_looked_at(copied_study, monkeypatch, tmp_path, capsys):
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(copied_study))

    monkeypatch.setattr("pathlib.Path.write_text", refuse)
    monkeypatch.setattr("pathlib.Path.rename", refuse)
    monkeypatch.setattr("pathlib.Path.replace", refuse)
    monkeypatch.setattr("pathlib.Path.unlink", refuse)
    monkeypatch.setattr(FileLock, "acquire", refuse)
    results = Study(copied_study).run()
    assert all(result.skipped for result in results)
    assert main(["report", "--study", str(copied_study)]) == 0
    image = Study(copied_study).cells("smear").image_path(0)
    monkeypatch.undo()
    monkeypatch.setattr(FileLock, "acquire", refuse)
    assert main(["explain", str(image), "--study", str(copied_study), "--out", str(tmp_path / "page.html")]) == 0
    assert (tmp_path / "page.html").is_file()


def test_a_file_is_no_study(tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("no study")
    for command in ("report", "doctor", "config"):
        assert main([command, "--study", str(tmp_path / "notes.txt")]) == 2
        assert "notes.txt is a file; a study is a folder" in capsys.readouterr().err
    with pytest.raises(UsageError, match="is a file"):
        Study(tmp_path / "notes.txt")


@pytest.mark.slow
def test_the_doctor_finds_damage_in_every_artifact(copied_cohort):
    holdings = index(copied_cohort, verify=True)
    assert not [holding.problem for holding in holdings if holding.problem]
    kinds = {holding.kind for holding in holdings}
    assert {
        "cells",
        "tokens",
        "sae",
        "atlas",
        "cohort",
        "colours",
        "classification",
        "classifier",
        "contrasts",
    } <= kinds
    for holding in holdings:
        path = copied_cohort / holding.path
        for file in [path] if path.is_file() else [p for p in sorted(path.iterdir()) if p.name != "artifact.json"][:1]:
            if file.is_file():
                whole = file.read_bytes()
                file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
                (found,) = [h for h in index(copied_cohort, verify=True) if h.path == holding.path]
                assert "differs from its recorded checksum" in found.problem, holding.path
                file.write_bytes(whole)


def test_what_lost_its_record_is_named(copied_study):
    (copied_study / "atlas" / "smear.h5ad.artifact.json").unlink()
    assert main(["doctor", "--study", str(copied_study)]) == 1
    (problem,) = [holding.problem for holding in index(copied_study) if holding.problem]
    assert "smear.h5ad is no finished cytosae artifact" in problem


@pytest.fixture
def copied_cohort(study_of_cohort, tmp_path):
    """The small cohort with all of its steps done, and a folder of its own."""
    path = shutil.copytree(study_of_cohort, tmp_path / "study")
    quick = {"folds": 2, "inner_folds": 2, "repeats": 1, "slow_repeats": 1, "shuffles": 0, "bootstrap": 20}
    asked = {
        "retest_cells": 0,
        "painted_cells": 24,
        "stability": 0,
        "pages": 1,
        "concepts": 2,
        "classification": {**quick, "strengths": [1.0]},
    }
    study = Study.open(path, changes=[SMALL, {"cohort": asked}])
    CohortWork(study).run()
    assert tomllib.loads((path / "study.toml").read_text())["cohort"]["pages"] == 1
    return path


def test_an_artifact_of_a_newer_version_is_not_replaced(copied_study):
    record = copied_study / "sae" / "artifact.json"
    record.write_text(record.read_text().replace('"schema": 1', '"schema": 99'))
    with pytest.raises(ArtifactError, match="newer than this version reads"):
        Study(copied_study).run()

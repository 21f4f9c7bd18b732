"""What a run would do is told before, and is what it then does."""

from __future__ import annotations

import json
import shutil

import pytest
from conftest import SMALL

from cytosae.cli import main
from cytosae.common.errors import InputError
from cytosae.pipeline import Study
from cytosae.tokens import open_tokens


def test_a_plan_names_the_steps_of_the_run_and_the_size_of_its_tokens_and_writes_nothing(
    smear, study_of_smear, tmp_path
):
    plan = Study.open(tmp_path / "study", [smear], [SMALL]).plan()
    assert not (tmp_path / "study").exists()
    assert [step.step for step in plan.steps] == [
        "cells smear",
        "tokens smear",
        "sae",
        "atlas smear",
        "random latents smear",
        "report",
    ]
    assert not any(step.current for step in plan.steps)
    costs = {step.step: step for step in plan.steps}
    store = study_of_smear / "tokens" / "smear"
    assert costs["tokens smear"].disk == 60 * 257 * 192 * 2
    assert sum(file.stat().st_size for file in store.glob("*.safetensors")) == pytest.approx(
        60 * 257 * 192 * 2, rel=0.01
    )
    assert len(open_tokens(store)) == 60
    assert costs["sae"].disk == pytest.approx((study_of_smear / "sae" / "model.safetensors").stat().st_size, rel=0.01)
    assert all((costs[name].seconds or 0) > 0 for name in list(costs)[:-1])
    assert plan.seconds == pytest.approx(sum(step.seconds or 0 for step in plan.steps))


def test_a_plan_of_a_finished_study_has_nothing_to_do_and_a_changed_option_redoes_what_hangs_on_it(
    study_of_smear, tmp_path
):
    study = shutil.copytree(study_of_smear, tmp_path / "study")
    before = {path: path.stat().st_mtime_ns for path in study.rglob("*")}
    assert all(step.current for step in Study.open(study).plan().steps)
    changed = Study.open(study, (), [{"sae": {"train": {"steps": 70}}}]).plan()
    assert [step.step for step in changed.steps if step.current] == ["cells smear", "tokens smear"]
    assert next(step for step in changed.steps if step.step == "sae").why == "recipe.train.steps changed"
    assert {path: path.stat().st_mtime_ns for path in study.rglob("*")} == before


def test_images_of_which_none_can_be_decoded_cannot_be_planned_with(tmp_path):
    (tmp_path / "cells").mkdir()
    (tmp_path / "cells" / "x.png").write_bytes(b"no image")
    with pytest.raises(InputError, match="None of the images can be decoded"):
        Study.open(tmp_path / "study", [tmp_path / "cells"], [SMALL]).plan()


def test_the_command_line_plans_without_a_trace(smear, tmp_path, capfd):
    options = ["--sae.expansion", "2", "--sae.sparsity.k", "8", "--sae.train.batch-tokens", "512"]
    assert main(["run", str(smear), "--study", str(tmp_path / "s"), "--dry-run", "--json", *options]) == 0
    plan = json.loads(capfd.readouterr().out)
    assert plan["steps"][1]["disk"] == 60 * 257 * 192 * 2
    assert plan["free"] > 0
    assert not (tmp_path / "s").exists()

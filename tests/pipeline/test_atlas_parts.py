"""Parts of an atlas are made side by side, by jobs or ranks, kept over a kill, and joined."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from filelock import FileLock, Timeout

from cytosae.atlas.config import Part
from cytosae.cli import main
from cytosae.common.errors import ArtifactError
from cytosae.common.shared_lock import shared_lock
from cytosae.pipeline import Study, atlas_parts, dataset_steps


@pytest.fixture
def study(study_of_smear: Path, tmp_path: Path) -> Study:
    """The study of the smear without its atlas."""
    path = tmp_path / "study"
    shutil.copytree(study_of_smear, path)
    shutil.rmtree(path / "atlas")
    return Study(path)


def assert_like(study: Study, whole: Path) -> None:
    """Atlas and random latents as those of one pass."""
    ours, theirs = study.atlas("smear"), Study(whole).atlas("smear")
    np.testing.assert_array_equal(ours.X.toarray(), theirs.X.toarray())
    np.testing.assert_array_equal(ours.layers["tokens_above"].toarray(), theirs.layers["tokens_above"].toarray())
    pd.testing.assert_frame_equal(ours.var, theirs.var, check_exact=True)
    random = Study(whole).random_latents("smear")
    pd.testing.assert_frame_equal(study.random_latents("smear"), random, rtol=1e-12)
    assert [file.name for file in (study.path / "atlas").iterdir() if "parts" in file.name] == []


def test_jobs_make_parts_that_the_command_joins(study, study_of_smear, capsys):
    for part in ("2/2", "1/2"):
        assert main(["atlas", "--study", str(study.path), "--part", part]) == 0
    made = study.path / "atlas" / "smear.parts" / "1-of-2.h5ad"
    written = made.stat().st_mtime_ns
    assert main(["atlas", "--study", str(study.path), "--part", "1/2"]) == 0
    assert "up to date" in capsys.readouterr().out
    assert made.stat().st_mtime_ns == written
    assert main(["atlas", "--study", str(study.path)]) == 0
    assert_like(study, study_of_smear)


def test_of_what_is_there_as_a_whole_no_part_is_made(study, study_of_smear):
    for name in ("smear-random.parquet", "smear-random.parquet.artifact.json"):
        (study.path / "atlas").mkdir(exist_ok=True)
        shutil.copyfile(study_of_smear / "atlas" / name, study.path / "atlas" / name)
    atlas, random = study.build_part("smear", Part(1, 2))
    assert (atlas.skipped, random.skipped) == (False, True)
    assert [file.name for file in (study.path / "atlas" / "smear.parts").glob("*random*")] == []
    study.build_atlas("smear")
    assert not (study.path / "atlas" / "smear.parts").exists()


def test_what_jobs_have_left_undone_is_done_and_parts_of_another_recipe_do_not_count(study, study_of_smear):
    study.build_part("smear", Part(2, 2))
    left = study.path / "atlas" / "smear.parts"
    (left / "2-of-2.h5ad").rename(left / "1-of-1.h5ad")  # in the wrong place, so of another recipe
    (left / "2-of-2.h5ad.artifact.json").rename(left / "1-of-1.h5ad.artifact.json")
    study.build_atlas("smear")
    study.describe_random("smear")
    assert_like(study, study_of_smear)


def test_each_rank_makes_its_parts_and_the_first_joins(study, study_of_smear, monkeypatch):
    class Ranks:
        world_size, global_rank, device = 2, 1, study.context.fabric.device
        is_global_zero = property(lambda self: self.global_rank == 0)

        def broadcast(self, value, src):
            return value

        def barrier(self): ...

    ranks = Ranks()
    monkeypatch.setattr(study.context, "_fabric", ranks)
    job = study.context.job(dataset_steps.atlas_step(study.config, "smear", study.context))
    job.step.make(job)
    folder = study.path / "atlas" / "smear.parts"
    assert [path.name for path in sorted(folder.glob("*.h5ad"))] == ["2-of-2.h5ad"]
    ranks.global_rank = 0
    made = []
    monkeypatch.setattr(
        atlas_parts, "MAKERS", {"atlas_part": lambda *what: (made.append(what[2]), atlas_parts._make_atlas_part(*what))}
    )
    job.step.make(job)
    assert made == [Part(1, 2)]
    monkeypatch.undo()
    study.describe_random("smear")
    assert_like(study, study_of_smear)


def test_parts_are_made_beside_parts_but_never_beside_other_work(study):
    with study.beside_others():
        with Study(study.path).beside_others():
            pass
        with pytest.raises(ArtifactError, match="Another process"), Study(study.path).alone():
            pass
    with study.alone(), pytest.raises(ArtifactError, match="alone"), Study(study.path).beside_others():
        pass


def test_a_shared_lock_goes_with_the_process(tmp_path):
    path = tmp_path / ".lock"
    words = "from pathlib import Path\nfrom cytosae.common.shared_lock import shared_lock\n"
    words += f"with shared_lock(Path({str(path)!r})): print('held', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", words], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with shared_lock(path):
            pass
        with pytest.raises(Timeout):
            FileLock(path, timeout=0).acquire()
        holder.kill()
    with FileLock(path, timeout=0), pytest.raises(BlockingIOError), shared_lock(path):
        pass

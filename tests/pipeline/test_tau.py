from __future__ import annotations

import shutil

import pytest

from cytosae.common.artifact import read_artifact, record_path, write_json
from cytosae.pipeline import Study


def test_tau_is_kept_with_the_sae_and_used_by_every_atlas(study_of_smear):
    study = Study(study_of_smear)
    known = read_artifact(study_of_smear / "sae", "sae").details["tau"]
    assert known > 0
    assert study.tau() == known
    assert study.atlas(study.datasets[0]).uns["provenance"]["tau"] == known


def test_tau_of_an_older_sae_is_measured_as_it_would_have_been(study_of_smear, tmp_path):
    path = tmp_path / "study"
    shutil.copytree(study_of_smear, path)
    artifact = read_artifact(path / "sae", "sae")
    details = {name: value for name, value in artifact.details.items() if name != "tau"}
    kept = ("kind", "schema", "package", "config", "inputs", "files", "created")
    write_json(record_path(path / "sae"), {**{name: getattr(artifact, name) for name in kept}, "details": details})
    assert Study(path).tau() == pytest.approx(artifact.details["tau"])


def test_tau_of_the_configuration_comes_first(study_of_smear):
    assert Study.open(study_of_smear, changes=[{"atlas": {"tau": 1.25}}]).tau() == 1.25

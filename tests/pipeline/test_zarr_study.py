"""A study whose atlas is a folder in zarr: everything that opens its atlas finds the same there as in a file."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from conftest import SMALL
from fastapi.testclient import TestClient

from cytosae.atlas import open_atlas
from cytosae.cli import main
from cytosae.common.artifact import read_artifact
from cytosae.explorer import ExplorerSettings, create_app
from cytosae.pipeline import Study, index
from cytosae.pipeline.places import atlases_below


@pytest.fixture(scope="module")
def in_zarr(study_of_smear, tmp_path_factory):
    """A finished study, done again with the other format; and what its steps said."""
    path = shutil.copytree(study_of_smear, tmp_path_factory.mktemp("zarr") / "study")
    study = Study.open(path, changes=[SMALL, {"atlas": {"format": "zarr"}}])
    return study, {result.step: result for result in study.run()}


def names(study):
    return sorted(path.name for path in (study.path / "atlas").iterdir())


def test_another_format_makes_the_atlas_anew_and_leaves_one(in_zarr, study_of_smear):
    study, results = in_zarr
    done = {step: result.why for step, result in results.items() if not result.skipped}
    assert done["atlas smear"] == "format changed"
    assert set(done) == {"atlas smear", "report"}
    assert names(study) == ["smear-random.parquet", "smear-random.parquet.artifact.json", "smear.zarr"]
    assert atlases_below(study.path) == [study.path / "atlas" / "smear.zarr"] == [study.place("atlas", "smear")]
    ours, theirs = study.atlas("smear", backed="r"), open_atlas(study_of_smear / "atlas" / "smear.h5ad")
    np.testing.assert_array_equal(ours.to_memory().X.toarray(), theirs.X.toarray())
    before = read_artifact(study_of_smear / "atlas" / "smear.h5ad")
    assert read_artifact(study.place("atlas", "smear")).recipe == before.recipe
    assert all(result.skipped for result in study.run())


def test_a_study_knows_a_damaged_folder(in_zarr, tmp_path):
    study, _ = in_zarr
    held = {holding.path.as_posix(): holding for holding in index(study.path, verify=True)}
    assert held["atlas/smear.zarr"].kind == "atlas"
    assert not [holding.problem for holding in held.values() if holding.problem]
    copy = shutil.copytree(study.path, tmp_path / "study")
    (copy / "atlas" / "smear.zarr" / "artifact.json").unlink()
    assert [one.path.name for one in index(copy) if one.problem] == ["smear.zarr"]


def test_what_opens_a_study_finds_its_atlas(in_zarr, study_of_smear, tmp_path, monkeypatch, capsys):
    study, _ = in_zarr
    monkeypatch.setenv("CYTOSAE_CACHE", str(tmp_path / "cache"))
    latent = study.atlas("smear").var["cells_active"].astype(int).argmax()
    assert main(["search", f"has {latent}", "--study", str(study.path), "--json"]) == 0
    here = capsys.readouterr().out
    assert main(["search", f"has {latent}", "--study", str(study_of_smear), "--json"]) == 0
    assert capsys.readouterr().out == here
    assert main(["compare", str(study.path), str(study_of_smear), "--json"]) == 0
    atlas = str(study.place("atlas", "smear"))
    assert main(["atlas", "drift", atlas, "--against", atlas]) == 0
    settings = ExplorerSettings(study=study.path, beside=(study_of_smear, study.path))
    client = TestClient(create_app(settings), base_url="http://127.0.0.1:8765")
    assert client.get(f"/concepts/{latent}").status_code == 200
    cell = study.cells("smear").frame["cell_id"].iloc[0]
    assert client.get(f"/cells/{cell}").status_code == 200
    assert client.get(f"/search?like={cell}").status_code == 200


def test_parts_are_joined_into_the_asked_format_and_back(in_zarr, tmp_path):
    path = shutil.copytree(in_zarr[0].path, tmp_path / "study")
    call = ["atlas", "--study", str(path), "--atlas.format", "h5ad"]
    assert main([*call, "--part", "1/2"]) == 0
    assert main(call) == 0
    assert atlases_below(path) == [path / "atlas" / "smear.h5ad"]

"""Two data sets, two SAEs and two patients side by side in the explorer."""

from __future__ import annotations

import numpy as np
import pytest
from fastapi.testclient import TestClient

from cytosae.atlas import save_atlas
from cytosae.cohort import open_cohort
from cytosae.common.errors import UsageError
from cytosae.explorer import ExplorerSettings, create_app
from cytosae.pipeline import Study


def test_two_data_sets_are_compared_as_the_report_does(explorer_of_two):
    page = explorer_of_two.get("/compare?a=here&b=there")
    assert page.status_code == 200
    assert 'id="latents"' in page.text
    assert " style=" not in page.text
    twin = explorer_of_two.get("/api/compare?a=here&b=there").json()
    assert twin["comparison"]["a"] == "here"
    assert twin["comparison"]["head"]["verdict"] in page.text.replace("&#39;", "'")
    assert ".report {" in explorer_of_two.get("/report.css").text


def test_what_cannot_be_compared_is_said(explorer_of_two, explorer):
    assert explorer_of_two.get("/compare?a=here&b=here").status_code == 400
    assert explorer_of_two.get("/compare?a=here&b=nowhere").status_code == 404
    assert "here" in explorer_of_two.get("/compare").text
    assert "one data set" in explorer.get("/compare").text


def test_another_model_on_the_same_cells_is_matched_latent_by_latent(study_of_smear, tmp_path, cache):
    atlas = Study(study_of_smear).atlas("smear")
    live = np.flatnonzero(atlas.var["cells_active"].to_numpy() > 0) if "cells_active" in atlas.var else None
    order = np.random.default_rng(0).permutation(atlas.n_vars)
    other = atlas[:, order].copy()
    other.var_names = [str(k) for k in range(atlas.n_vars)]
    other.uns["reference_cells"] = {
        name: np.asarray(values)[order] if name != "cell_ids" else values
        for name, values in atlas.uns["reference_cells"].items()
    }
    other.uns["provenance"] = {**atlas.uns["provenance"], "sae": "another"}
    save_atlas(other, tmp_path / "other.h5ad")
    settings = ExplorerSettings(study=study_of_smear, beside=(tmp_path / "other.h5ad",))
    client = TestClient(create_app(settings), base_url="http://127.0.0.1:8765")
    name = "smear in other"
    found = client.get("/api/compare", params={"a": "smear", "b": name}).json()
    assert name in found["datasets"]
    assert "paired" in found["comparison"]["head"]["verdict"]
    assert found["pairs"]
    for pair in found["pairs"]:
        assert order[pair["b"]["latent"]] == pair["a"]["latent"]
        assert pair["likeness"] == pytest.approx(1, abs=1e-4)
    assert live is None or {pair["a"]["latent"] for pair in found["pairs"]} <= set(live.tolist())
    page = client.get("/compare", params={"a": "smear", "b": name})
    assert "Pairs most alike" in page.text
    assert str(tmp_path) not in page.text
    with pytest.raises(UsageError, match="--beside"):
        create_app(ExplorerSettings(study=study_of_smear, beside=(tmp_path / "nothing.h5ad",)))


def test_two_patients_differ_by_what_their_barcodes_say(explorer_of_patients, study_of_patients):
    barcodes = open_cohort(study_of_patients / "cohort" / "patients.h5ad")
    a, b = (str(name) for name in barcodes.obs_names[:2])
    page = explorer_of_patients.get("/api/compare", params={"a": a, "b": b}).json()
    kind = explorer_of_patients.app.state.library.patients().classifier().kind
    values = np.asarray(barcodes.layers[kind])
    two = page["two"]
    for differing in two["concepts"]:
        latent = differing["concept"]["latent"]
        assert [differing["a"], differing["b"]] == pytest.approx(values[:2, latent], rel=1e-5)
        pairs = [abs(values[i, latent] - values[j, latent]) for i in range(12) for j in range(i)]
        gap = abs(values[0, latent] - values[1, latent])
        assert differing["as_much"] == pytest.approx(np.mean([pair >= gap - 1e-9 for pair in pairs]), abs=1e-6)
    centred = values - values.mean(axis=0)
    assert two["likeness"] == pytest.approx(np.corrcoef(centred)[0, 1], abs=1e-5)
    others = [np.corrcoef(centred)[i, j] for i in range(12) for j in range(i) if {i, j} != {0, 1}]
    assert two["others"]["value"] == pytest.approx(np.median(others), abs=1e-5)
    decisions = [side["decision"] for side in (two["a"], two["b"])]
    patients = [explorer_of_patients.get(f"/api/patients/{name}").json()["value"] for name in (a, b)]
    assert decisions == pytest.approx(patients, abs=1e-6)
    assert explorer_of_patients.get("/compare", params={"a": a, "b": b}).status_code == 200
    assert explorer_of_patients.get("/compare", params={"a": a, "b": "nobody"}).status_code == 404

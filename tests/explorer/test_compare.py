"""Two data sets side by side in the explorer."""

from __future__ import annotations

import pytest
from conftest import SMALL
from fastapi.testclient import TestClient

from cytosae.cells.synthetic import synthesize
from cytosae.explorer import ExplorerSettings, create_app
from cytosae.pipeline import Study


@pytest.fixture(scope="module")
def client(tmp_path_factory, cache):
    folder = tmp_path_factory.mktemp("two")
    images = [synthesize(folder / name, patients=2, cells=10, seed=seed) for seed, name in enumerate(("here", "there"))]
    Study.open(folder / "study", images, [SMALL]).run()
    return TestClient(create_app(ExplorerSettings(study=folder / "study")), base_url="http://127.0.0.1:8765")


def test_two_data_sets_are_compared_as_the_report_does(client):
    page = client.get("/compare?a=here&b=there")
    assert page.status_code == 200
    assert 'id="latents"' in page.text
    assert " style=" not in page.text
    twin = client.get("/api/compare?a=here&b=there").json()
    assert twin["comparison"]["a"] == "here"
    assert twin["comparison"]["head"]["verdict"] in page.text.replace("&#39;", "'")
    assert ".report {" in client.get("/report.css").text


def test_what_cannot_be_compared_is_said(client, explorer):
    assert client.get("/compare?a=here&b=here").status_code == 400
    assert client.get("/compare?a=here&b=nowhere").status_code == 404
    assert "here" in client.get("/compare").text
    assert "one data set" in explorer.get("/compare").text

"""Search in the browser and on the command line."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from cytosae.atlas import cell_neighbours
from cytosae.cli import main
from cytosae.explorer import ExplorerSettings, create_app
from cytosae.explorer.library import Library
from cytosae.pipeline import Study
from cytosae.views import OpenedAtlas
from cytosae.views.concept_names import name_of
from cytosae.views.search_view import view_of_search

columns_of_nothing: Any = None


@pytest.fixture(scope="module")
def atlas(study_of_smear):
    return Study(study_of_smear).atlas("smear")


def test_cells_with_some_concepts_and_not_others_are_found(explorer, atlas, study_of_smear, capfd):
    counts = (atlas.X.toarray() > 0).sum(axis=0)
    a, b = (int(k) for k in np.argsort(np.abs(counts - 25), kind="stable")[:2])
    dense = atlas.X.toarray()
    wanted = set(atlas.obs_names[(dense[:, a] > 0) & (dense[:, b] == 0)])
    found = explorer.get("/api/search", params={"q": f"has {a}, not {b}"}).json()
    assert {cell["cell"] for cell in found["cells"]} == wanted
    assert found["total"] == len(wanted)
    assert all(cell["because"][0].startswith(f"{a}: ") for cell in found["cells"])
    assert main(["search", f"has {a}, not {b}", "--study", str(study_of_smear), "--json", "--limit", "100"]) == 0
    told = json.loads(capfd.readouterr().out)
    assert [cell["cell"] for cell in told["cells"]] == [cell["cell"] for cell in found["cells"]]


def test_concepts_of_a_class_are_found(explorer, atlas, study_of_smear, capfd):
    name = str(atlas.var["top_class"].dropna().iloc[0])
    found = explorer.get("/api/search", params={"q": name.upper(), "background": True}).json()
    of_class = set(atlas.var.query("cells_active > 0").query("top_class == @name").index.astype(int))
    everything = {card["latent"] for card in found["concepts"]}
    assert found["concepts_total"] >= len(of_class)
    assert everything & of_class or not of_class
    shown = explorer.get("/api/search", params={"q": name}).json()
    beside = {int(k) for k in atlas.var.query("lives_in == 'background'").index}
    assert not {card["latent"] for card in shown["concepts"]} & beside
    assert shown["set_aside"] == found["concepts_total"] - shown["concepts_total"]
    assert main(["search", name, "--study", str(study_of_smear)]) == 0
    said = capfd.readouterr().out
    assert f"of {shown['concepts_total']} concepts" in said
    assert ("--background" in said) == (shown["set_aside"] > 0)


def test_concepts_are_found_by_their_names(study_of_smear):
    study = Study(study_of_smear)
    opened = OpenedAtlas(study.atlas("smear"), study.cells("smear"), accepted={7: "Auer rods"})
    opened.atlas.var["lives_in"] = "nucleus"
    opened.atlas.var.loc["7", "lives_in"] = "background"
    drafted = next(k for k in opened.live.index if k != 7)
    found = view_of_search(opened, columns_of_nothing, q="auer ROD", background=True)
    assert [card.latent for card in found.concepts] == [7]
    found = view_of_search(opened, columns_of_nothing, q="auer rod")
    assert (found.concepts, found.set_aside) == ((), 1)
    words = name_of(opened, drafted)
    assert drafted in {card.latent for card in view_of_search(opened, columns_of_nothing, q=words).concepts}


def test_cells_like_a_cell_have_the_nearest_mean_tokens(explorer, atlas):
    cell = str(atlas.obs_names[7])
    means = np.asarray(atlas.obsm["X_backbone"], np.float64)
    centred = means - means.mean(axis=0)
    unit = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    cosine = unit @ unit[7]
    cosine[7] = -1
    found = explorer.get("/api/search", params={"like": cell}).json()
    assert found["cells"][0]["cell"] == atlas.obs_names[int(cosine.argmax())]
    assert found["cells"][0]["score"] == pytest.approx(cosine.max(), abs=1e-3)


def test_of_many_cells_those_alike_are_found_through_an_index_and_that_is_said(study_of_smear, tmp_path, monkeypatch):
    monkeypatch.setenv("CYTOSAE_CACHE", str(tmp_path))
    monkeypatch.setattr(cell_neighbours, "INDEXED", 0)
    settings = ExplorerSettings(study=study_of_smear)
    client = TestClient(create_app(settings), base_url="http://127.0.0.1:8765")
    cell = str(Study(study_of_smear).cells("smear").frame["cell_id"][7])
    before = client.get("/api/search", params={"like": cell}).json()
    assert "index" not in before["understood"]
    Library(settings).prepare()
    found = client.get("/api/search", params={"like": cell}).json()
    assert "Found through an index of many cells, which may miss one of the nearest" in found["understood"]
    assert found["cells"][:10] == before["cells"][:10]
    assert "Found through an index" in client.get(f"/cells/{cell}").text


def test_what_is_not_understood_is_said_where_it_was_asked(explorer, study_of_smear, capfd):
    page = explorer.get("/search", params={"q": "12 plus 13"})
    assert page.status_code == 200
    assert "is not understood" in page.text
    assert main(["search", "12 plus 13", "--study", str(study_of_smear)]) == 2
    assert "is not understood" in capfd.readouterr().err

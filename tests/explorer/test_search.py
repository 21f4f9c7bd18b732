"""Search in the browser and on the command line."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient

from cytosae.atlas.finding import cell_neighbours
from cytosae.cli import main
from cytosae.explorer import ExplorerSettings, create_app
from cytosae.explorer.library import Library
from cytosae.pipeline import Study
from cytosae.views import OpenedAtlas
from cytosae.views.cells.search_view import Likeness, Searched, view_of_search
from cytosae.views.concepts.concept_names import name_of


def by_name(atlas: OpenedAtlas) -> Searched:
    """A data set in which no cell is looked for."""
    columns: Any = None
    return Searched((atlas,), columns)


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
    found = view_of_search(by_name(opened), q="auer ROD", background=True)
    assert [card.latent for card in found.concepts] == [7]
    found = view_of_search(by_name(opened), q="auer rod")
    assert (found.concepts, found.set_aside) == ((), 1)
    words = name_of(opened, drafted)
    assert drafted in {card.latent for card in view_of_search(by_name(opened), q=words).concepts}


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


def test_cells_that_have_what_is_active_on_patches_are_found(explorer, atlas, study_of_smear, capfd):
    study = Study(study_of_smear)
    cell = str(atlas.obs_names[7])
    store, patches = study.tokens("smear"), [100, 101]
    codes = study.sae().encode(store.read(7, 8)[0].float(), positions=torch.arange(store.n_tokens)).detach().numpy()
    frequency = atlas.var["activation_frequency"].to_numpy()
    surprise = codes[[1 + patch for patch in patches]].mean(axis=0) * -np.log(np.clip(frequency, 0.5 / 60, 1))
    eight = [k for k in np.argsort(-surprise, kind="stable")[:8] if surprise[k] > 0]
    dense = atlas.X.toarray()
    shares = dense[:, eight] / dense[:, eight].max(axis=0)
    score = shares @ surprise[eight] / surprise[eight].sum()
    score[7] = 0
    best = np.argsort(-score, kind="stable")[: np.count_nonzero(score)]

    found = explorer.get("/api/search", params={"like": cell, "patches": "100,101"}).json()
    assert found["patches"] == patches
    assert found["total"] == len(best)
    assert [one["cell"] for one in found["cells"]] == [str(atlas.obs_names[row]) for row in best[:48]]
    assert found["cells"][0]["score"] == pytest.approx(score[best[0]], rel=1e-4)
    assert found["cells"][0]["because"][0].startswith(f"{found['cells'][0]['latent']}: ")
    assert [card["latent"] for card in found["concepts"]] == eight
    page = explorer.get("/search", params={"like": cell, "patches": "100,101"}).text
    assert f'href="/cells/{cell}?patches=100,101"' in page
    rows, columns = found["grid"]
    for patch in patches:  # marked on the picture of the cell
        assert f'<rect x="{patch % columns}" y="{patch // columns}" width="1" height="1" class="chosen"/>' in page
    assert rows * columns == store.n_tokens - 1
    assert all(f">{card['name']}</a> ({card['latent']})" in page for card in found["concepts"])
    assert f"/search?like={cell}&amp;patches=100,101" in explorer.get(f"/cells/{cell}?patches=100,101").text

    cells = study.cells("smear")
    row = list(cells.frame["cell_id"]).index(cell)
    asked = ["search", "--study", str(study_of_smear), "--patches", "101,100", "--json", "--limit", "5", "--like"]
    told = []
    for named in (cell[:12], str(cells.frame["image"].iat[row]), str(cells.image_path(row))):
        assert main([*asked, named]) == 0
        told.append([one["cell"] for one in json.loads(capfd.readouterr().out)["cells"]])
    assert told[0] == told[1] == [one["cell"] for one in found["cells"][:5]]
    assert [one for one in told[2] if one != cell][:4] == told[0][:4]  # an image by itself is not known to be this cell


def test_cells_like_one_are_found_on_the_command_line(explorer, atlas, study_of_smear, capfd):
    cell = str(atlas.obs_names[7])
    found = explorer.get("/api/search", params={"like": cell}).json()
    assert main(["search", "--study", str(study_of_smear), "--like", cell[:10], "--json", "--limit", "9"]) == 0
    assert json.loads(capfd.readouterr().out)["cells"] == found["cells"][:9]


def test_several_data_sets_are_searched_as_one(explorer_of_two, study_of_two, capfd):
    study = Study(study_of_two)
    atlases = [study.atlas(name) for name in ("there", "here")]
    dense = np.concatenate([one.X.toarray() for one in atlases])
    ids = np.concatenate([one.obs_names for one in atlases])
    a, b = (int(k) for k in np.argsort(np.abs((dense > 0).sum(axis=0) - 15), kind="stable")[:2])
    shares = dense[:, [a, b]] / dense[:, [a, b]].max(axis=0)
    score = np.where((shares > 0).all(axis=1), shares.mean(axis=1), 0)
    best = np.argsort(-score, kind="stable")[: np.count_nonzero(score)]
    asked = {"q": f"has {a} and {b}", "dataset": "there", "everywhere": True}
    found = explorer_of_two.get("/api/search", params=asked).json()
    assert found["datasets"] == ["there", "here"]
    assert [cell["cell"] for cell in found["cells"]] == list(ids[best])
    assert {cell["dataset"] for cell in found["cells"]} == {"there", "here"}
    page = explorer_of_two.get("/search", params=asked).text
    assert "Search all data sets" in page
    assert "/search/keep" not in page
    kept = explorer_of_two.post(
        "/search/keep", params=asked, data={"title": "both"}, headers={"origin": "http://127.0.0.1:8765"}
    )
    assert (kept.status_code, "A list is of one data set" in kept.text) == (400, True)
    words = ["search", f"has {a} and {b}", "--study", str(study_of_two), "--dataset", "there", "--everywhere"]
    assert main([*words, "--json"]) == 0
    assert [cell["cell"] for cell in json.loads(capfd.readouterr().out)["cells"]] == list(ids[best])[:20]
    assert main(words) == 0
    assert "data set" in capfd.readouterr().out


def test_cells_of_all_data_sets_like_one_are_by_the_mean_of_all(explorer_of_two, study_of_two):
    study = Study(study_of_two)
    atlases = [study.atlas(name) for name in ("here", "there")]
    means = np.concatenate([np.asarray(one.obsm["X_backbone"], np.float64) for one in atlases])
    ids = np.concatenate([one.obs_names for one in atlases])
    centred = means - means.mean(axis=0)
    unit = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    cosine = unit @ unit[7]
    cosine[7] = -2
    best = np.argsort(-cosine)
    found = explorer_of_two.get("/api/search", params={"like": ids[7], "everywhere": True}).json()["cells"]
    assert [cell["cell"] for cell in found] == list(ids[best][: len(found)])
    assert found[0]["score"] == pytest.approx(cosine.max(), abs=1e-3)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["--like", "nothing.png"], "'nothing.png' is neither a cell of smear, nor one of its images, nor an image"),
        (["--like", "CELL", "--patches", "100000"], "patch 100000 is not on the grid; they are 0 to "),
        (["--like", "CELL", "--patches", "3;4"], "'3;4' are no numbers of patches; write e.g.: 119,120."),
        (["has 3", "--like", "CELL"], "Ask for one thing"),
        (["has 3", "--patches", "4"], "--patches are those of a cell; name it with --like."),
        ([], "Ask for one thing"),
    ],
)
def test_what_cannot_be_looked_for_is_said(atlas, study_of_smear, capfd, asked, said):
    words = [str(atlas.obs_names[0]) if word == "CELL" else word for word in asked]
    assert main(["search", *words, "--study", str(study_of_smear)]) == 2
    assert said in capfd.readouterr().err


def test_patches_without_a_concept_are_said(atlas):
    opened = OpenedAtlas(atlas, SimpleNamespace(name="smear"))
    nothing = Likeness(np.zeros(3, np.float32), patches=(3,))
    assert "No concept is active on this patch" in view_of_search(by_name(opened), like=nothing).problem


def test_what_is_not_understood_is_said_where_it_was_asked(explorer, study_of_smear, capfd):
    page = explorer.get("/search", params={"q": "12 plus 13"})
    assert page.status_code == 200
    assert "is not understood" in page.text
    assert main(["search", "12 plus 13", "--study", str(study_of_smear)]) == 2
    assert "is not understood" in capfd.readouterr().err

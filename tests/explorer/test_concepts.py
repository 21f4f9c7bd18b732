"""The gallery shows what is asked for, and a concept's page what the atlas says."""

from __future__ import annotations

import io
import shutil

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from cytosae.cells import CellTable
from cytosae.explorer import ExplorerSettings, create_app
from cytosae.pipeline import Study
from cytosae.views.concepts.concept_page_view import profile_of, wilson


@pytest.fixture(scope="module")
def atlas(study_of_smear):
    return Study(study_of_smear).atlas("smear")


def test_filters_and_order_are_those_of_the_address(explorer, atlas):
    name = str(atlas.var["top_class"].dropna().iloc[0])
    found = explorer.get("/api/concepts", params={"class": name, "sort": "rarity", "size": 120}).json()
    expected = atlas.var.query("cells_active > 0 and top_class == @name").sort_values("activation_frequency")
    assert found["total"] == len(expected)
    shown = [card["latent"] for card in found["cards"]]
    frequency = atlas.var["activation_frequency"].to_numpy()
    assert sorted(shown) == sorted(expected.index.astype(int))
    assert (np.diff(frequency[shown]) >= 0).all()


def test_pages_of_the_gallery_follow_one_another_and_end(explorer, atlas):
    first = explorer.get("/api/concepts?sort=number&size=10").json()
    second = explorer.get("/api/concepts?sort=number&size=10&page=2").json()
    live = atlas.var.query("cells_active > 0").index.astype(int).tolist()
    assert [card["latent"] for page in (first, second) for card in page["cards"]] == live[:20]
    assert explorer.get("/api/concepts?page=99999").json()["cards"] == []
    assert "No concept matches" in explorer.get("/concepts?page=99999").text


def test_bounds_and_numbers_choose_concepts(explorer, atlas):
    found = explorer.get("/api/concepts?low_frequency=0.1&high_frequency=0.3&size=120").json()
    frequency = atlas.var["activation_frequency"].to_numpy()
    assert found["total"] == ((frequency >= 0.1) & (frequency <= 0.3)).sum() > 0
    assert sum(found["density"]["matching"]) == found["total"]
    live = atlas.var.query("cells_active > 0").index.astype(int).tolist()
    two = explorer.get("/api/concepts", params={"q": f"{live[3]}, {live[5]}"}).json()
    assert {card["latent"] for card in two["cards"]} == {live[3], live[5]}


@pytest.mark.parametrize(
    "query",
    [
        "sort=beauty",
        "page=0",
        "size=100000",
        "place=moon",
        "verdict=x",
        "low_frequency=nan",
        "page=x",
        f"q={'a' * 300}",
    ],
)
def test_what_is_not_understood_is_a_sentence_and_no_failure(explorer, query):
    for path in ("/concepts", "/api/concepts"):
        answer = explorer.get(f"{path}?{query}")
        assert answer.status_code == 422
        assert "is not understood" in answer.text


def test_a_concept_page_has_the_numbers_of_the_atlas(explorer, atlas):
    latent = int(np.argmax(atlas.var["cells_active"].to_numpy()))
    page = explorer.get(f"/api/concepts/{latent}").json()
    column = atlas.X[:, [latent]].toarray().ravel()
    assert sum(page["histogram"]) == (column > 0).sum()
    assert sum(band["cells"] for band in page["bands"]) == (column > 0).sum()
    for band in page["bands"]:
        for example in band["examples"]:
            row = atlas.obs_names.get_loc(example["cell"])
            assert example["value"] == pytest.approx(column[row])
            assert band["low"] - 1e-9 <= example["value"] <= band["high"] + 1e-9
    classes = next(profile for profile in page["profiles"] if profile["column"] == "label")
    for bar in classes["bars"]:
        own = column[(atlas.obs["label"] == bar["name"]).to_numpy()]
        assert bar["cells"] == len(own)
        assert bar["mean"] == pytest.approx(own.mean(), rel=1e-3)
        assert bar["share"]["value"] == pytest.approx((own > 0).mean())
    assert explorer.get(f"/concepts/{latent}").text.count("data-map") >= 10


def test_the_nearest_concepts_are_the_nearest_directions(explorer, study_of_smear, atlas):
    page = explorer.get("/api/concepts/5").json()
    weights = Study(study_of_smear).sae().W_dec.detach().numpy()
    unit = weights / np.linalg.norm(weights, axis=1, keepdims=True)
    cosine = unit @ unit[5]
    cosine[5] = -1
    cosine[atlas.var["cells_active"].to_numpy() == 0] = -1
    assert page["alike"][0]["latent"] == int(np.argmax(cosine))
    assert page["alike"][0]["nearness"] == pytest.approx(cosine.max(), rel=1e-2)


@pytest.mark.parametrize(("latent", "status"), [("999999", 404), ("-1", 404), ("x", 422), ("1e9", 422)])
def test_a_latent_that_is_not_there_is_said(explorer, latent, status):
    for path in (f"/concepts/{latent}", f"/api/concepts/{latent}"):
        assert explorer.get(path).status_code == status


def test_a_profile_counts_cells_and_shares_with_their_interval():
    values, codes = np.array([1, 3, 0, 5], np.float32), np.array([0, 1, 1, -1])
    bars = profile_of(values, codes, np.array([2, 2, 0]), ["a", "b", "c"])
    assert [(bar.name, bar.cells, bar.mean) for bar in bars] == [("a", 2, 0.5), ("b", 2, 1.5)]
    share = wilson(81, 263)  # Newcombe 1998, table I: 0.3080, 0.2553 to 0.3662
    assert (share.value, share.low, share.high) == pytest.approx((0.3080, 0.2553, 0.3662), abs=1e-4)


def test_a_map_lies_over_its_picture_and_is_refused_where_there_is_none(explorer, atlas):
    cell, latent = str(atlas.obs_names[0]), int(atlas.X[[0]].toarray().argmax())
    found = explorer.get(f"/maps/{cell}/{latent}.webp?size=64&scale=cividis")
    assert found.headers["content-type"] == "image/webp"
    assert explorer.get(f"/maps/{cell}/999999.webp").status_code == 404
    assert explorer.get(f"/maps/{'0' * 64}/1.webp").status_code == 404
    assert explorer.get(f"/maps/{cell}/1.webp?scale=rainbow").status_code == 422


def test_concepts_that_reviewers_have_named_can_be_asked_for(study_of_smear, cache):
    client = TestClient(create_app(ExplorerSettings(study=study_of_smear)), base_url="http://127.0.0.1:8765")
    alive = client.get("/api/concepts").json()["total"]
    client.app.state.library.accepted[5] = "Ring-shaped"
    named = client.get("/api/concepts?verdict=named").json()
    assert [card["latent"] for card in named["cards"]] == [5]
    assert named["cards"][0]["name"].startswith("Ring-shaped")
    assert client.get("/api/concepts?verdict=unnamed").json()["total"] == alive - 1


def test_an_atlas_by_itself_is_shown_with_its_pictures_and_says_what_it_lacks(study_of_smear, smear, tmp_path, cache):
    file = shutil.copyfile(study_of_smear / "atlas" / "smear.h5ad", tmp_path / "smear.h5ad")
    shutil.copyfile(study_of_smear / "atlas" / "smear.h5ad.artifact.json", tmp_path / "smear.h5ad.artifact.json")
    shutil.copytree(study_of_smear / "cells" / "smear", tmp_path / "smear.cells")
    settings = ExplorerSettings(atlas=file, images=smear)
    client = TestClient(create_app(settings), base_url="http://127.0.0.1:8765")
    card = client.get("/api/concepts").json()["cards"][0]
    page = client.get(f"/concepts/{card['latent']}")
    assert "Maps cannot be shown" in page.text
    assert 'href="/patients"' not in page.text
    assert "data-map" not in page.text
    picture = client.get(f"/pictures/{card['references'][0]}.webp?size=64")
    pixels = np.asarray(Image.open(io.BytesIO(picture.content)))
    assert pixels.std() > 10  # not the grey of an absent image
    assert client.get(f"/maps/{card['references'][0]}/{card['latent']}.webp").status_code == 404
    assert client.get("/try").status_code == 200
    assert client.get("/patients").status_code == 404


def test_absent_images_are_counted_and_cards_begin_with_those_that_are_there(study_of_smear, smear, tmp_path, cache):
    file = shutil.copyfile(study_of_smear / "atlas" / "smear.h5ad", tmp_path / "smear.h5ad")
    shutil.copyfile(study_of_smear / "atlas" / "smear.h5ad.artifact.json", tmp_path / "smear.h5ad.artifact.json")
    cells = CellTable.load(study_of_smear / "cells" / "smear")
    few = cells.subset(range(0, len(cells), 3))
    few.save(tmp_path / "smear.cells")
    client = TestClient(create_app(ExplorerSettings(atlas=file, images=smear)), base_url="http://127.0.0.1:8765")
    sentence = "20 of the 60 images of smear are here; the others are grey squares."
    gallery = client.get("/api/concepts").json()
    there = [[cell in set(few.frame["cell_id"]) for cell in card["references"]] for card in gallery["cards"]]
    assert all(row == sorted(row, reverse=True) for row in there)
    assert any(0 < sum(row) < len(row) for row in there)
    pages = ["/", "/concepts", f"/concepts/{gallery['cards'][0]['latent']}"]
    assert all(sentence in client.get(page).text for page in pages)


def test_a_concept_says_where_it_looks(explorer, atlas):
    latent = int(atlas.var["cells_active"].to_numpy().argmax())
    page = explorer.get(f"/concepts/{latent}")
    assert f'href="/concepts/{latent}/gaze?dataset=smear"' in page.text
    found = explorer.get(f"/api/concepts/{latent}/gaze").json()
    assert 1 <= len(found["cells"]) <= 4
    for cell in found["cells"]:
        assert cell["patches"] >= 1
        assert cell["random"]["low"] <= cell["random"]["value"] <= cell["random"]["high"]
        assert cell["without"].startswith("data:image/webp;base64,")
    shown = explorer.get(f"/concepts/{latent}/gaze")
    assert shown.status_code == 200
    assert found["verdict"] in shown.text
    assert explorer.get("/api/concepts/99999/gaze").status_code == 404


def test_the_heat_map_shows_for_each_class_what_is_most_selective_of_all_that_match(explorer, atlas, study_of_smear):
    names, n = atlas.uns["classes"].tolist(), atlas.obs["label"].value_counts()
    heat = explorer.get("/api/concepts?page=2").json()["heat"]
    assert heat == explorer.get("/api/concepts").json()["heat"]
    assert [(one["name"], one["cells"]) for one in heat["classes"]] == [(name, n[name]) for name in names if name in n]
    var = atlas.var.query("cells_active > 0 and top_class == top_class")
    score = var["class_selectivity"] * (var["cells_active"] / 20).clip(upper=1)
    of_class = var["top_class"].astype(str)
    best = [score[of_class == name].sort_values(ascending=False, kind="stable")[: heat["each"]] for name in names]
    assert [row["latent"] for row in heat["rows"]] == [int(latent) for top in best for latent in top.index]
    assert heat["each"] == 48 // of_class.nunique()
    for row in heat["rows"]:
        column = atlas.X[:, [row["latent"]]].toarray().ravel()
        means = np.array([column[(atlas.obs["label"] == one["name"]).to_numpy()].mean() for one in heat["classes"]])
        assert row["shares"] == pytest.approx(means / means.max(), abs=2e-3)
        assert heat["classes"][means.argmax()]["name"] == row["top_class"]
        assert row["cells"] == (column > 0).sum()
    random = Study(study_of_smear).random_latents("smear")
    score = random["class_selectivity"] * (random["cells_active"] / 20).clip(upper=1)
    alike = random["class_selectivity"][score.sort_values(ascending=False).index[: len(heat["rows"])]]
    assert heat["random"]["high"] == pytest.approx(alike.max())
    assert heat["random"]["value"] == pytest.approx(alike.median(), rel=1e-3)


def test_the_heat_map_follows_what_is_asked_and_its_rows_are_links(explorer, atlas):
    name = str(atlas.var["top_class"].dropna().iloc[0])
    asked = {"class": name, "low_frequency": 0.2}
    heat = explorer.get("/api/concepts", params=asked).json()["heat"]
    assert {row["top_class"] for row in heat["rows"]} == {name}
    frequency = atlas.var["activation_frequency"].to_numpy()
    assert all(frequency[row["latent"]] >= 0.2 for row in heat["rows"])
    page = explorer.get("/concepts", params=asked).text.partition('id="heat"')[2]
    for row in heat["rows"]:
        assert f'href="/concepts/{row["latent"]}?dataset=smear"' in page
    assert "".join(f"<td>{one['cells']}</td>" for one in heat["classes"]) in page
    assert 'id="heat"' not in explorer.get("/concepts?q=999999").text

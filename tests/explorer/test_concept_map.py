"""The map shows every live concept, and those of a region as cards."""

from __future__ import annotations

import numpy as np
import pytest

from cytosae.atlas.finding import concept_layout
from cytosae.pipeline import Study


@pytest.fixture(scope="module", autouse=True)
def quick():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(concept_layout, "LANDMARKS", 60)
        yield


def test_every_live_concept_is_a_point_with_its_group(explorer, study_of_smear):
    var = Study(study_of_smear).atlas("smear").var
    found = explorer.get("/api/concepts/map").json()
    live = var.query("cells_active > 0")
    assert found["layout"]["latents"] == live.index.astype(int).tolist()
    assert 0 <= min(found["layout"]["xs"]) < max(found["layout"]["xs"]) <= 1
    names = [group["name"] for group in found["groups"]]
    for code, own in zip(found["of_group"], live["top_class"].astype(str), strict=True):
        assert names[code] == (own if own in names else "others")
    assert sum(group["concepts"] for group in found["groups"]) == len(live)
    page = explorer.get("/concepts/map")
    assert "concept_map.js" in page.text
    assert 'href="/concepts/map?dataset=smear"' in explorer.get("/concepts").text


def test_a_region_and_a_group_bound_what_is_shown(explorer):
    whole = explorer.get("/api/concepts/map").json()
    xs, ys = np.array(whole["layout"]["xs"]), np.array(whole["layout"]["ys"])
    inside = (xs <= 0.5) & (ys >= 0.25) & (ys <= 0.75)
    name = whole["groups"][0]["name"]
    of_group = np.array(whole["of_group"]) == 0
    asked = {"left": 0, "right": 0.5, "bottom": 0.25, "top": 0.75}
    assert explorer.get("/api/concepts/map", params=asked).json()["inside"] == inside.sum()
    found = explorer.get("/api/concepts/map", params={**asked, "group": name}).json()
    assert found["inside"] == (inside & of_group).sum()
    chosen = set(np.array(whole["layout"]["latents"])[inside & of_group].tolist())
    assert {card["latent"] for card in found["cards"]} <= chosen


@pytest.mark.parametrize("query", ["left=2", "left=nan", "by=magic", "colour=red", "group=" + "a" * 300])
def test_what_the_map_does_not_understand_is_a_sentence(explorer, query):
    answer = explorer.get(f"/concepts/map?{query}")
    assert answer.status_code == 422
    assert "is not understood" in answer.text


def test_a_group_that_is_not_there_is_empty(explorer):
    assert explorer.get("/api/concepts/map", params={"group": "<b>no</b>"}).json()["inside"] == 0
    assert "<b>no</b>" not in explorer.get("/concepts/map", params={"group": "<b>no</b>"}).text

"""One cell in the explorer, and an image that is dropped in."""

from __future__ import annotations

import numpy as np
import pytest

from cytosae.atlas.encoding.token_activations import encode_cells
from cytosae.explorer import ExplorerSettings, create_app
from cytosae.pipeline import Study
from cytosae.views.cells.cell_page_view import find_places

OWN = {"origin": "http://127.0.0.1:8765"}


@pytest.fixture(scope="module")
def study(study_of_smear):
    return Study(study_of_smear)


def test_a_patch_shows_the_concepts_that_are_strongest_there(explorer, study):
    store, sae, atlas = study.tokens("smear"), study.sae(), study.atlas("smear")
    cell = store.cell_ids[3]
    codes = encode_cells(sae, store.read(3, 4).float()).toarray()
    rarity = -np.log(np.clip(atlas.var["activation_frequency"].to_numpy(), 0.5 / len(atlas), 1))
    page = explorer.get(f"/api/cells/{cell}?patches=100,101").json()
    at = codes[[101, 102]].mean(axis=0)
    best = page["at_patches"][0]
    assert best["latent"] == int(np.argmax(at * rarity))
    assert best["activation"] == pytest.approx(at.max(where=np.arange(len(at)) == best["latent"], initial=0), rel=1e-4)
    np.testing.assert_allclose(best["values"], codes[1:, best["latent"]], rtol=5e-3, atol=1e-6)
    place = best["elsewhere"][0]
    grid = study_map(study, place["cell"], best["latent"])
    assert grid[place["row"], place["column"]] == grid.max()
    whole = page["concepts"][0]
    assert whole["latent"] == int(np.argmax(codes.mean(axis=0) * rarity))


def study_map(study, cell, latent):
    store = study.tokens("smear")
    row = store.cell_ids.index(cell)
    return encode_cells(study.sae(), store.read(row, row + 1).float()).toarray()[1:, latent].reshape(16, 16)


def test_the_page_of_a_cell_names_no_patch_that_is_not_there(explorer, study):
    cell = study.tokens("smear").cell_ids[0]
    assert explorer.get(f"/cells/{cell}").status_code == 200
    for asked in ("patches=256", "patches=1,,2", "patches=x", "latent=999999", "patches=-1"):
        assert explorer.get(f"/cells/{cell}?{asked}").status_code in (400, 404, 422)
    assert explorer.get("/cells/" + "0" * 64).status_code == 404


def test_an_image_that_is_dropped_in_has_the_concepts_of_the_same_cell(explorer, study, smear):
    table = study.cells("smear")
    path, cell = table.image_path(5), str(table.frame["cell_id"][5])
    answer = explorer.post("/api/try", files={"image": (path.name, path.read_bytes())}, headers=OWN)
    known = explorer.get(f"/api/cells/{cell}").json()
    told = answer.json()
    activations = [{c["latent"]: c["activation"] for c in found["concepts"]} for found in (told, known)]
    both = activations[0].keys() & activations[1].keys()
    assert len(both) >= 10  # stored tokens are rounded to 16 bits
    pairs = np.array([[found[k] for found in activations] for k in sorted(both)])
    assert np.corrcoef(pairs.T)[0, 1] > 0.99
    assert told["alike"][0]["cell"] == cell
    assert told["picture"].startswith("data:image/webp")
    page = explorer.post("/try", files={"image": (path.name, path.read_bytes())}, headers=OWN)
    assert page.status_code == 200
    assert "it is not kept" in page.text
    assert "No connection" not in explorer.get("/try").text


def test_places_that_are_found_ahead_are_those_a_page_would_find(study_of_smear, monkeypatch):
    library = create_app(ExplorerSettings(study=study_of_smear)).state.library
    dataset = library.dataset()
    monkeypatch.setattr("cytosae.explorer.library.PREPARED", 1e-6)
    library.prepare_places()
    ahead = dict(dataset.strongest_patches)
    best = dataset.live["usefulness"].sort_values(ascending=False).index.tolist()
    assert list(ahead) == best[:4]
    dataset.strongest_patches.clear()
    find_places(dataset, best[:6])
    assert {latent: dataset.strongest_patches[latent] for latent in ahead} == ahead
    assert len(dataset.strongest_patches) == 6

"""A backbone of 7 x 14 patches goes the whole way: what lies at the upper right is found at the upper right.

Images are higher than wide, patches wider than high in them: who takes rows for columns finds the spot elsewhere.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import timm
import torch
from conftest import SMALL
from explorer.browsing import chromium, needs_chromium, served
from fastapi.testclient import TestClient
from PIL import Image

from cytosae.atlas import concept_map, reference_maps
from cytosae.atlas.encoding.token_activations import encode_cells
from cytosae.atlas.explaining.image_explanation import explain_cell
from cytosae.atlas.stored.latent_columns import write_columns
from cytosae.backbones import load_backbone
from cytosae.backbones.onnx_backbone import export_onnx
from cytosae.cells import load_image
from cytosae.cells.decoding.masks import CYTOPLASM, NUCLEUS
from cytosae.cells.focus.patch_grid import grid_of
from cytosae.common.errors import InputError
from cytosae.evaluation.dictionary_quality import _structure
from cytosae.evaluation.unit_meanings import morans_i
from cytosae.explorer import ExplorerSettings, create_app
from cytosae.explorer.picturing import coloured
from cytosae.pipeline import Study
from cytosae.report.pictures import overlay, patch_crop
from cytosae.reviews.panels import Design, make_panels
from cytosae.tokens import FocusedStore, find_tokens_in_focus
from cytosae.views.parts.opened_dataset import map_views

ROWS, COLUMNS = GRID = (7, 14)
ROW, COLUMN = SPOT = (1, 11)
PATCH = ROW * COLUMNS + COLUMN
HIGH, WIDE = 10, 4
"""Pixels of a patch in an image."""
CELLS = 24


def spotted(rng: np.random.Generator) -> np.ndarray:
    image = rng.integers(90, 130, (ROWS * HIGH, COLUMNS * WIDE, 3), dtype=np.uint8)
    image[ROW * HIGH : (ROW + 1) * HIGH, COLUMN * WIDE : (COLUMN + 1) * WIDE] = (255, 250, 90)
    return image


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A vision transformer of random weights with four registers, in timm's format."""
    folder = tmp_path_factory.mktemp("oblong") / "vit"
    made = {"img_size": (112, 224), "reg_tokens": 4, "no_embed_class": True, "init_values": 1e-3}
    torch.manual_seed(0)
    timm.models.save_for_hf(timm.create_model("test_vit", num_classes=0, **made), folder, model_args=made)
    return f"timm:local-dir:{folder}"


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images with a spot, and as many without; the spot is their nucleus."""
    folder, rng = tmp_path_factory.mktemp("oblong"), np.random.default_rng(0)
    rows = []
    for i in range(CELLS):
        image, spot = spotted(rng), i % 2 == 0
        if not spot:
            image = rng.integers(90, 130, image.shape, dtype=np.uint8)
        mask = np.where((image == (255, 250, 90)).all(2), NUCLEUS, CYTOPLASM).astype(np.uint8)
        mask[-HIGH:, :WIDE] = 0
        Image.fromarray(image).save(folder / f"{i}.png")
        Image.fromarray(mask).save(folder / f"{i}_mask.png")
        rows.append({"image": f"{i}.png", "label": "spot" if spot else "plain", "mask": f"{i}_mask.png"})
    pd.DataFrame(rows).to_csv(folder / "manifest.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def study(model: str, images: Path, tmp_path_factory: pytest.TempPathFactory) -> Study:
    path = tmp_path_factory.mktemp("oblong") / "study"
    made = Study.open(path, [images], [SMALL, {"backbone": {"name": model}}])
    made.run()
    return made


@pytest.fixture(scope="module")
def name(study: Study) -> str:
    return study.datasets[0]


@pytest.fixture(scope="module")
def cell(study: Study, name: str) -> str:
    """A cell with a spot."""
    return next(str(cell) for cell, label in study.atlas(name).obs["label"].items() if label == "spot")


@pytest.fixture(scope="module")
def latent(study: Study, name: str) -> int:
    """The concept that tells cells with the spot from the others; chosen without any map."""
    store, labels = study.tokens(name), study.atlas(name).obs["label"]
    spot = (labels.loc[store.cell_ids] == "spot").to_numpy()
    peaks = encode_cells(study.sae(), store.read(0, len(store))).toarray().reshape(len(store), 99, -1).max(1)
    return int((peaks[spot].min(0) - peaks[~spot].max(0)).argmax())


@pytest.fixture(scope="module")
def client(study: Study, tmp_path_factory: pytest.TempPathFactory) -> TestClient:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CYTOSAE_CACHE", str(tmp_path_factory.mktemp("cache")))
        return TestClient(create_app(ExplorerSettings(study=study.path)), base_url="http://127.0.0.1:8765")


def strongest(values: np.ndarray) -> tuple[int, ...]:
    return tuple(int(at) for at in np.unravel_index(np.argmax(values), values.shape))


def middle_of_spot(picture: np.ndarray) -> tuple[float, float]:
    """Row and column, in patches, of the strongest of a picture (H, W)."""
    rows, columns = np.nonzero(picture > 0.9 * picture.max())
    return rows.mean() * ROWS / picture.shape[0], columns.mean() * COLUMNS / picture.shape[1]


def test_artifacts_say_the_grid_and_are_read_again(study: Study, name: str) -> None:
    store, atlas = study.tokens(name), study.atlas(name)
    assert (store.grid, store.n_tokens, store.manifest["side"]) == (GRID, 99, [7, 14])
    assert grid_of(atlas.uns["provenance"]["side"]) == GRID
    assert study.sae().level["side"] == [7, 14]
    assert all(step.skipped for step in study.run())


def test_maps_of_stored_tokens_and_of_images_show_the_spot(
    study: Study, name: str, cell: str, latent: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, sae = study.tokens(name), study.sae()
    row = store.cell_ids.index(cell)
    assert strongest(reference_maps(store, [(row, latent)], sae=sae)[row, latent]) == SPOT
    image = spotted(np.random.default_rng(5))
    assert strongest(concept_map(image, latent, sae=sae, backbone=study.backbone)) == SPOT
    assert strongest(concept_map(store.read(row, row + 1)[0], latent, sae=sae)) == SPOT
    monkeypatch.setattr(sae, "level", None)
    with pytest.raises(InputError, match="99 tokens are not CLS and a square grid"):
        concept_map(store.read(row, row + 1)[0], latent, sae=sae)
    with pytest.raises(InputError, match="99 tokens are not CLS and 7 x 12 patches"):
        concept_map(store.read(row, row + 1)[0], latent, sae=sae, grid=(7, 12))


def test_an_image_is_explained(study: Study, name: str, images: Path, latent: int) -> None:
    tokens, _ = study.see(load_image(images / "0.png"))
    found = explain_cell(tokens, study.sae(), study.atlas(name), concepts=200)
    assert strongest(found.maps[found.concepts.index.get_loc(latent)]) == SPOT


def test_focus_locations_and_masks_lie_where_the_spot_is(study: Study, name: str, cell: str, latent: int) -> None:
    cells, store, var = study.cells(name), study.tokens(name), study.atlas(name).var
    found = find_tokens_in_focus(cells, "nucleus", store.grid)
    assert found.table.loc[cell, "tokens"].tolist() == [1 + PATCH]
    focused = FocusedStore(store, found)
    row = store.cell_ids.index(cell)
    shown = reference_maps(focused, [(row, latent)], sae=study.sae())[row, latent]
    assert [tuple(at) for at in np.argwhere(shown)] == [SPOT]
    assert var.loc[str(latent), "nucleus_share"] > 0.1  # of which the areas have 0.005


def test_what_the_map_marks_is_what_is_painted_out(study: Study, name: str, latent: int) -> None:
    for gaze in study.where_it_looks(latent, name, cells=1).values():
        spot = gaze.without[ROW * HIGH : (ROW + 1) * HIGH, COLUMN * WIDE : (COLUMN + 1) * WIDE]
        assert spot[..., 2].mean() > 95  # glass and grey, no yellow is left
        assert gaze.marked > gaze.random.mean()


def test_pictures_show_the_spot(study: Study, name: str, cell: str, latent: int) -> None:
    store = study.tokens(name)
    row = store.cell_ids.index(cell)
    grid = reference_maps(store, [(row, latent)], sae=study.sae())[row, latent]
    only = np.where(grid == grid.max(), grid, 0)
    (shown,) = map_views([only])
    grey = np.full((140, 140, 3), 120, np.uint8)
    empty = overlay(grey, map_views([0 * only])[0])
    coloured_in = np.abs(overlay(grey, shown).astype(float) - empty).sum(2)
    for picture in (coloured_in, coloured(only, 140, None, "viridis")[..., 3].astype(float)):
        assert middle_of_spot(picture) == pytest.approx((ROW + 0.5, COLUMN + 0.5), abs=0.4)
    crop = patch_crop(spotted(np.random.default_rng(1)), ROW, COLUMN, GRID)
    assert crop[48, 48, 2] < 130 < crop[48, 48, 0]  # yellow amid grey
    assert crop[48, 20, 0] < 200
    assert "7 × 14" in study.place("report").read_text()


def test_the_explorer_points_at_patches(client: TestClient, study: Study, name: str, cell: str) -> None:
    page = client.get(f"/api/cells/{cell}?patches={PATCH}").json()
    assert (page["grid"], page["patches"]) == ([7, 14], [PATCH])
    store, concept = study.tokens(name), page["concepts"][0]

    def map_on(one: str) -> np.ndarray:
        row = store.cell_ids.index(one)
        return reference_maps(store, [(row, concept["latent"])], sae=study.sae())[row, concept["latent"]]

    found = map_on(cell)
    np.testing.assert_allclose(np.reshape(concept["values"], GRID), found, rtol=1e-2, atol=1e-6)
    at = int(found.argmax())
    there = client.get(f"/api/cells/{cell}?patches={at}").json()["at_patches"]
    shown = next(one for one in there if one["latent"] == concept["latent"])
    assert shown["activation"] == pytest.approx(found.max(), rel=1e-3)
    for place in shown["elsewhere"]:
        assert map_on(place["cell"])[place["row"], place["column"]] == map_on(place["cell"]).max()
    html = client.get(f"/cells/{cell}?patches={PATCH}").text
    assert 'viewBox="0 0 14 7" preserveAspectRatio="none"' in html
    assert f'<rect x="{COLUMN}" y="{ROW}"' in html
    assert re.search(r'<canvas id="map" class="map" width="14" height="7">', html)
    assert client.get(f"/cells/{cell}?patches=98").status_code == 400
    for (row, column), status in {(1, 11): 200, (6, 13): 200, (7, 0): 404, (0, 14): 404}.items():
        assert client.get(f"/patches/{cell}/{row}/{column}.webp").status_code == status


@needs_chromium
def test_a_click_chooses_the_patch_under_it_and_the_canvas_has_the_map(client: TestClient, cell: str) -> None:
    with served(client.app) as address, chromium() as browser:
        page = browser.new_page()
        page.goto(f"{address}/cells/{cell}")
        page.locator("#grid").click(position={"x": 512 * 11.5 / 14, "y": 512 * 1.5 / 7})
        page.wait_for_url("**patches=**")
        assert f"patches={PATCH}" in page.url
        values = page.locator(".show-map[aria-pressed=true]").first.get_attribute("data-values")
        shares = np.array(values.split(","), float) / max(map(float, values.split(",")))
        drawn = "document.getElementById('map').getContext('2d').getImageData(0, 0, 14, 7).data"
        opacity = np.array(page.evaluate(f"[...{drawn}].filter((_, i) => i % 4 == 3)")) / 255
        np.testing.assert_allclose(opacity, shares**0.6, atol=0.01)
        page.locator("#grid").focus()
        for _ in range(20):
            page.keyboard.press("ArrowRight")
        page.keyboard.press("Enter")
        page.wait_for_url(lambda url: f"patches={PATCH}" not in url)
        assert int(page.url.split("patches=")[1].split("&")[0]) % COLUMNS == COLUMNS - 1


def test_panels_of_a_review_keep_the_grid(study: Study, name: str, tmp_path: Path) -> None:
    design = Design(concepts=1, controls=1, repeats=0, stratum="none", references=2, spread=0)
    columns = write_columns(study.atlas(name).X, tmp_path / "columns")
    panels = make_panels(study.atlas(name), columns, study.tokens(name), study.sae(), design)
    assert {panel.kind for panel in panels} >= {"learned", "neuron"}
    assert all(grid_of(panel.side) == GRID for panel in panels)


def test_an_onnx_file_of_it_makes_the_same_tokens(study: Study, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    served = load_backbone("onnx:oblong", export_onnx(study.backbone, tmp_path / "oblong.onnx"))
    batch = served.prepare([spotted(np.random.default_rng(2))])
    assert (served.grid, tuple(batch.shape)) == (GRID, (1, 3, 112, 224))
    torch.testing.assert_close(served(batch), study.backbone(batch), rtol=1e-4, atol=1e-4)


def test_neighbours_on_an_oblong_grid_are_those_that_share_an_edge() -> None:
    values = np.random.default_rng(0).random((3, 5))
    z = values - values.mean()
    pairs = [(a, b) for a in np.ndindex(3, 5) for b in np.ndindex(3, 5) if abs(a[0] - b[0]) + abs(a[1] - b[1]) == 1]
    expected = 15 / len(pairs) * sum(z[a] * z[b] for a, b in pairs) / (z**2).sum()
    assert morans_i(values[None])[0] == pytest.approx(expected)
    stripes = np.tile([0.0, 0, 1, 1, 1], 3)[:, None]  # upright on rows of five, torn on rows of three
    of = [_structure(stripes, grid, np.random.default_rng(0), sparse=False) for grid in ((3, 5), (5, 3))]
    assert of[0] > of[1] + 0.2

from __future__ import annotations

import base64
import io
import xml.etree.ElementTree as ET
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from cytosae.report import pictures
from cytosae.report.drawing import plot_uri
from cytosae.views import MapView
from cytosae.views.parts.page_parts import Number
from cytosae.views.parts.plots import Axis, Chart, IntervalPanel, IntervalRow, Intervals, Matrix, Scatter, Series


def map_view(grid, top):
    return MapView(np.shape(grid), tuple(map(float, np.ravel(grid))), top)


def colourful(drawn):
    return drawn.astype(int).max(2) - drawn.astype(int).min(2) > 40


@pytest.mark.parametrize(("draw", "value"), [(pictures.overlay, 2), (pictures.signed_overlay, -2)])
def test_overlay_colours_where_the_map_is_active_and_nowhere_else(draw, value):
    heat = np.zeros((8, 8), np.float32)
    heat[1, 6] = value
    marked = colourful(draw(np.full((64, 64, 3), 120, np.uint8), map_view(heat, 2.0)))
    y, x = np.nonzero(marked)
    assert (y.mean() // 8, x.mean() // 8) == (1, 6)
    assert marked.mean() < 0.06


def test_what_speaks_for_and_against_has_different_colours():
    picture = np.full((16, 16, 3), 120, np.uint8)
    speaks = [pictures.signed_overlay(picture, map_view(np.full((2, 2), value), 1.0))[8, 8] for value in (1.0, -1.0)]
    assert speaks[0][0] > speaks[0][2]
    assert speaks[1][0] < speaks[1][2]


def test_overlay_of_an_inactive_latent_is_the_pale_picture():
    picture = np.full((16, 16, 3), 120, np.uint8)
    drawn = pictures.overlay(picture, map_view(np.zeros((4, 4)), 0.0))
    assert (drawn.max(2) == drawn.min(2)).all()


def test_outline_marks_the_edge_of_a_structure_only():
    structure = np.zeros((100, 100), bool)
    structure[25:75, 25:75] = True
    drawn = pictures.outline(np.zeros((20, 20, 3), np.uint8), structure)
    marked = drawn.any(2)
    assert marked.sum() == 4 * 10 - 4
    assert not marked[8:12, 8:12].any()


def test_a_patch_is_cut_out_amid_its_surroundings():
    picture = np.zeros((192, 192, 3), np.uint8)
    picture[48:96, 96:144] = 250  # the patch in row 1, column 2 of 4
    drawn = pictures.patch_crop(picture, 1, 2, (4, 4))
    assert drawn.shape == (96, 96, 3)
    assert drawn[44:52, 44:52].min() > 200
    assert drawn[:30].max() < 60


def test_thumbnail_is_the_whole_image_scaled():
    image = np.zeros((40, 80, 3), np.uint8)
    image[:, 40:] = 255
    small = pictures.scaled(image, 20)
    assert small.shape == (20, 20, 3)
    assert small[:, :8].max() < 30
    assert small[:, 12:].min() > 225


def test_picture_address_decodes_to_the_picture():
    picture = np.full((12, 12, 3), (200, 40, 90), np.uint8)
    kind, data = pictures.picture_uri(picture).split(",")
    assert kind == "data:image/webp;base64"
    decoded = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))
    assert np.abs(decoded.astype(int) - picture).max() < 12


def scatter(n, *, labelled, guide="none"):
    rng = np.random.default_rng(0)
    return Scatter(
        "words",
        Axis("x", log=guide != "middle"),
        Axis("y", log=guide != "middle"),
        latents=tuple(range(n)),
        xs=tuple(rng.uniform(0.01, 1, n)),
        ys=tuple(rng.uniform(0.01, 1, n)),
        ringed=(1,),
        colours=tuple(None if i == 0 else v for i, v in enumerate(rng.random(n))) if labelled else (),
        sides=tuple(rng.integers(-1, 2, n).tolist()),
        guide=guide,
        level=0.5,
    )


LINE = Series("a", (0.0, 0.5, 1.0), (0.1, 0.4, 0.9))
BAND = replace(LINE, name="b", low=(0.0, 0.2, 0.6), high=(0.2, 0.6, 1.0))
PLOTS = {
    **{f"density {n} {labelled}": scatter(n, labelled=labelled) for n in (0, 1, 500) for labelled in (True, False)},
    **{f"{guide} {n}": scatter(n, labelled=False, guide=guide) for guide in ("diagonal", "middle") for n in (0, 3000)},
    "lines": Chart("words", Axis("x"), Axis("y"), (BAND, replace(LINE, strong=True)), level=0.3),
    "unit": Chart(
        "words",
        Axis("x"),
        Axis("y"),
        tuple(replace(BAND, drawn=drawn) for drawn in ("steps", "points", "ticks")),
        unit=True,
    ),
    "intervals": Intervals(
        "words",
        Axis("x"),
        (
            IntervalPanel("one", (IntervalRow("a", Number(0.5, 0.4, 0.6), 0.3, strong=True),), 0.8),
            IntervalPanel("two", (IntervalRow("b", Number(0.5)), IntervalRow("c", Number(None)))),
        ),
    ),
    "matrix": Matrix("words", ("p", "q", "r"), ("a", "a", "b"), ((1.0, 0.5, None), (0.5, 1.0, -0.2), (0, 0, 1.0)), "r"),
}


@pytest.mark.parametrize("name", PLOTS)
def test_every_kind_of_plot_is_drawn_the_same_each_time(name):
    uri, width = plot_uri(PLOTS[name])
    root = ET.fromstring(base64.b64decode(uri.split(",")[1]))
    assert root.tag.endswith("svg")
    assert 300 < width < 800
    assert uri == plot_uri(PLOTS[name])[0]

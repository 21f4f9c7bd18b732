from __future__ import annotations

import base64
import io
import xml.etree.ElementTree as ET

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cytosae.report import figures


def test_overlay_colours_where_the_map_is_active_and_nowhere_else():
    picture = np.full((64, 64, 3), 120, np.uint8)
    heat = np.zeros((8, 8), np.float32)
    heat[1, 6] = 2
    drawn = figures.overlay(picture, heat, 2.0).astype(int)
    colourful = drawn.max(2) - drawn.min(2) > 40
    y, x = np.nonzero(colourful)
    assert (y.mean() // 8, x.mean() // 8) == (1, 6)
    assert colourful.mean() < 0.06


def test_overlay_of_an_inactive_latent_is_the_pale_picture():
    picture = np.full((16, 16, 3), 120, np.uint8)
    drawn = figures.overlay(picture, np.zeros((4, 4), np.float32), 0.0)
    assert (drawn.max(2) == drawn.min(2)).all()


def test_outline_marks_the_edge_of_a_structure_only():
    structure = np.zeros((100, 100), bool)
    structure[25:75, 25:75] = True
    drawn = figures.outline(np.zeros((20, 20, 3), np.uint8), structure)
    marked = drawn.any(2)
    assert marked.sum() == 4 * 10 - 4
    assert not marked[8:12, 8:12].any()


def test_thumbnail_is_the_whole_image_scaled():
    image = np.zeros((40, 80, 3), np.uint8)
    image[:, 40:] = 255
    small = figures.thumbnail(image, 20)
    assert small.shape == (20, 20, 3)
    assert small[:, :8].max() < 30
    assert small[:, 12:].min() > 225


def test_picture_address_decodes_to_the_picture():
    picture = np.full((12, 12, 3), (200, 40, 90), np.uint8)
    kind, data = figures.picture_uri(picture).split(",")
    assert kind == "data:image/webp;base64"
    decoded = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))
    assert np.abs(decoded.astype(int) - picture).max() < 12


def test_class_profile_orders_classes_escapes_names_and_sums_up_the_rest():
    svg = figures.class_profile(["a", "<b>", *"cdefghij"], [0.1, 0.5, *[0.01] * 8], most=4)
    root = ET.fromstring(svg)
    texts = ["".join(node.itertext()) for node in root.iter("text")]
    assert texts[:2] == ["<b>", "a"]
    assert texts[-1] == "and 6 with less"
    widths = [float(node.get("width")) for node in root.iter("rect")]
    assert widths[1] == pytest.approx(widths[0] / 5, abs=0.1)


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("n", [0, 1, 500])
def test_frequency_plot_draws_any_number_of_latents(n, labelled):
    rng = np.random.default_rng(0)
    var = pd.DataFrame(
        {
            "cells_active": np.r_[0, np.full(n, 3)],
            "activation_frequency": np.r_[0, rng.random(n)],
            "mean_activation": np.r_[np.nan, rng.random(n)],
            "label_entropy": np.r_[np.nan, rng.random(n) if labelled else np.full(n, np.nan)],
        },
        index=[str(i) for i in range(n + 1)],
    )
    uri = figures.frequency_plot(var, ["1"], 1.0)
    ET.fromstring(base64.b64decode(uri.split(",")[1]))
    assert uri == figures.frequency_plot(var, ["1"], 1.0)

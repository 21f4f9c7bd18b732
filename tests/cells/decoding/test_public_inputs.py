"""Every image of the shared folder of public situations: its right pixels, or the sentence that refuses it."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from cytosae.cells import load_image
from cytosae.cells.decoding.decode import probe
from cytosae.common.errors import InputError

MAKERS = Path(__file__).resolve().parents[4] / "shared/public_inputs/make_inputs.py"
REFUSED = {
    "tif_float_nan_border": "not finite numbers",
    "tif_uint32_labels": "pixel values from 7900000",
    "tif_int16_negative": "pixel values from -71",
    "tif_truncated_last_strip": "truncated",
    "jpg_half": "truncated",
    "html_named_jpg": "not an image",
    "heic_named_jpg": "not an image",
    "huge_20000_png": "more pixels than the limit",
    "huge_20000_tif": "more than the limit",
}
CHOSEN = {"tif_two_channel_fluorescence": "first of 2 channels"}
"""Read by a choice that is said."""
SAID = {
    "tif_rgba_alpha_zero": "alpha hides the whole picture and was left out",
    "png_rgba_alpha_zero": "alpha hides the whole picture and was left out",
    "tif_imagej_composite_rgb": "channels put together as red, green, blue",
    "tif_thumbnail_first": "picture behind a thumbnail taken",
    "tif_palette_8bit_colormap": "palette of 8 bits",
    "tif_sparse_tile": "parts that the file leaves out read as 0",
    "jpg_no_eoi": "its end marker is missing",
}
OVERSHOT = {"tif_float_01_overshoot": (5, 5)}
"""The pixel that the maker sets to 1.004, white, in the file and not in its array."""


def makers() -> ModuleType | None:
    spec = importlib.util.spec_from_file_location("public_inputs", MAKERS) if MAKERS.is_file() else None
    if spec is None or spec.loader is None:
        return None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PUBLIC = makers()


def test_the_public_inputs_are_here() -> None:
    if PUBLIC is None:
        pytest.skip("the shared public inputs (../shared/public_inputs) are not here")
    assert {*REFUSED, *CHOSEN, *SAID, *OVERSHOT} <= set(PUBLIC.CASES)


@pytest.mark.parametrize("name", PUBLIC.CASES if PUBLIC else [])
def test_public_input_gives_the_right_pixels_or_a_sentence(tmp_path: Path, name: str) -> None:
    assert PUBLIC is not None
    path, right, tolerance = PUBLIC.CASES[name](tmp_path)
    if name in REFUSED:
        assert right is None
        with pytest.raises(InputError, match=rf"cannot be opened: .*{REFUSED[name]}.*; restore the file"):
            load_image(path)
        return
    image, notes = load_image(path), probe(path).notes
    assert {**CHOSEN, **SAID}.get(name, "") in "; ".join(notes)
    if right is None:
        assert name in CHOSEN
        return
    assert image.shape == right.shape
    if name in OVERSHOT:
        assert (image[OVERSHOT[name]] == 255).all()
        image[OVERSHOT[name]] = right[OVERSHOT[name]]
    assert np.abs(image.astype(int) - right).max() <= tolerance

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from cytosae.cells import load_mask, read_cells
from cytosae.cells.decoding.decode import probe_mask
from cytosae.cells.decoding.masks import CELL, WHOLE
from cytosae.common.errors import InputError

SHAPE = (30, 40)
PARTS = np.zeros(SHAPE, np.uint8)
PARTS[5:25, 5:35] = 1
PARTS[10:20, 12:25] = 2
"""Cytoplasm around a nucleus."""
OUTLINE = PARTS > 0
RED = np.zeros((*SHAPE, 3), np.uint8)
RED[OUTLINE] = (200, 10, 30)
PALETTE = [0, 0, 0, 0, 255, 0, 255, 0, 0]


def palette_of(index: np.ndarray, colours: list[int]) -> Image.Image:
    image = Image.fromarray(index).convert("P")
    image.putpalette(colours)
    return image


TOLD = {
    "1 and 2": PARTS,
    "1 alone": np.minimum(PARTS, 1),
    "2 alone": np.where(PARTS == 2, PARTS, 0),
    "127 and 255": np.array([0, 127, 255], np.uint8)[PARTS],
    "128 and 255": np.array([0, 128, 255], np.uint8)[PARTS],
    "16 bits": PARTS.astype(np.uint16),
    "in three equal channels": np.dstack([PARTS] * 3),
    "with an opacity": np.dstack([PARTS] * 3 + [np.full(SHAPE, 255, np.uint8)]),
    "indices of a palette": palette_of(PARTS, PALETTE),
    "greys of a palette": palette_of(2 - PARTS, [255] * 3 + [127] * 3 + [0] * 3),
}
WHOLE_CELL = {
    "0 and 255": OUTLINE * np.uint8(255),
    "0 and 7": OUTLINE * np.uint8(7),
    "0 and 65535": OUTLINE * np.uint16(65535),
    "one bit": OUTLINE,
    "255 everywhere": np.full(SHAPE, 255, np.uint8),
    "one colour on black": RED,
    "one index of a palette": palette_of(OUTLINE * np.uint8(3), [0, 0, 0] * 3 + [9, 200, 9]),
}
UNCLEAR = {
    "0 everywhere": (np.zeros(SHAPE, np.uint8), "0 everywhere"),
    "many greys": (np.arange(1200, dtype=np.uint16).reshape(SHAPE).astype(np.uint8), "255 values beside 0"),
    "four classes": (PARTS + (PARTS == 2) * np.eye(*SHAPE, dtype=np.uint8), "3 values beside 0"),
    "two colours": (np.where((PARTS == 2)[..., None], RED[..., ::-1], RED), "several colours"),
    "void": (np.array([0, 1, 255], np.uint8)[PARTS], "2 values beside 0"),
}


def save(path: Path, mask: np.ndarray | Image.Image) -> Path:
    (mask if isinstance(mask, Image.Image) else Image.fromarray(mask)).save(path)
    return path


@pytest.mark.parametrize("name", TOLD)
def test_masks_that_tell_the_parts_apart(tmp_path: Path, name: str) -> None:
    right = {"1 alone": np.minimum(PARTS, 1), "2 alone": np.where(PARTS == 2, PARTS, 0)}.get(name, PARTS)
    np.testing.assert_array_equal(load_mask(save(tmp_path / "a.png", TOLD[name])), right)


@pytest.mark.parametrize("name", WHOLE_CELL)
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_masks_of_two_values_are_the_whole_cell_and_said(tmp_path: Path, name: str, suffix: str) -> None:
    path = save(tmp_path / f"a.{suffix}", WHOLE_CELL[name])
    right = np.ones(SHAPE, bool) if "everywhere" in name else OUTLINE
    np.testing.assert_array_equal(load_mask(path), right * np.uint8(CELL))
    assert probe_mask(path, SHAPE) == [WHOLE]


@pytest.mark.parametrize("name", UNCLEAR)
def test_masks_that_may_mean_several_things_are_refused(tmp_path: Path, name: str) -> None:
    mask, why = UNCLEAR[name]
    with pytest.raises(InputError, match=rf"a\.png cannot be opened: .*{why}"):
        load_mask(save(tmp_path / "a.png", mask))


def test_masks_in_tiff_are_the_numbers_whatever_the_display(tmp_path: Path) -> None:
    cases = {
        "bits": (OUTLINE, {}, OUTLINE * np.uint8(CELL)),
        "inverted display": (PARTS, {"photometric": "miniswhite"}, PARTS),
        "palette": (PARTS, {"photometric": "palette", "colormap": np.eye(3, 256, dtype=np.uint16) * 65535}, PARTS),
        "floats": (PARTS.astype(np.float32), {}, PARTS),
    }
    for name, (data, options, right) in cases.items():
        tifffile.imwrite(tmp_path / f"{name}.tif", data, **options)
        np.testing.assert_array_equal(load_mask(tmp_path / f"{name}.tif"), right, err_msg=name)
    tifffile.imwrite(tmp_path / "shares.tif", PARTS / np.float32(4))
    with pytest.raises(InputError, match="whole numbers"):
        load_mask(tmp_path / "shares.tif")


def test_the_table_says_what_became_of_each_mask(tmp_path: Path) -> None:
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    masks = {"parts": PARTS, "whole": OUTLINE * np.uint8(255), "small": PARTS[:20], "unclear": UNCLEAR["void"][0]}
    for seed, (name, mask) in enumerate(masks.items()):
        picture = np.random.default_rng(seed).integers(0, 256, (*SHAPE, 3), dtype=np.uint8)
        save(tmp_path / f"images/{name}.png", picture)
        save(tmp_path / f"masks/{name}.png", mask)
    frame = read_cells(tmp_path).frame.set_index("image")
    assert frame["mask"].notna().to_dict() == {
        "images/parts.png": True,
        "images/small.png": False,
        "images/unclear.png": False,
        "images/whole.png": True,
    }
    assert frame["status"].to_dict() == {
        "images/parts.png": "ok",
        "images/small.png": "mask not used: masks/small.png: it is 40 x 20 px, the image 40 x 30",
        "images/unclear.png": "mask not used: masks/unclear.png: a mask of 2 values beside 0 (1, 255), where 1 and 2 "
        "(cytoplasm, nucleus), 127 or 128 and 255, or any single one (the cell) are understood",
        "images/whole.png": WHOLE,
    }

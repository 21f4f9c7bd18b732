from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from cells.decoding.pictures import deep, picture, rgb_of, save_tiff, worst

from cytosae.cells import load_image
from cytosae.cells.decoding.decode import probe
from cytosae.common.errors import InputError

RED, GREEN, BLUE = -16776961, 16711935, 65535
"""OME's codes of colours (RGBA in a signed number)."""
JOINED = "channels put together as red, green, blue"
PLANES = np.moveaxis(picture(), -1, 0)
BGR = PLANES[::-1].copy()
STACK = np.stack([PLANES, PLANES // 2])


def table(*rgb: int) -> np.ndarray:
    """A look-up table from black to a colour."""
    return (np.arange(256) * np.array(rgb)[:, None]).astype(np.uint8)


def imagej(data: np.ndarray, axes: str = "CYX", **metadata: Any) -> tuple[np.ndarray, dict[str, Any]]:
    return data, {"imagej": True, "metadata": {"axes": axes, **metadata}}


def ome(data: np.ndarray, axes: str = "CYX", **channel: Any) -> tuple[np.ndarray, dict[str, Any]]:
    metadata = {"axes": axes, **({"Channel": channel} if channel else {})}
    return data, {"ome": True, "photometric": "minisblack", "metadata": metadata}


COLOURS = {
    "ImageJ composite": imagej(PLANES, mode="composite"),
    "ImageJ colour": imagej(PLANES, mode="color"),
    "ImageJ of 12 bits with ranges of display": imagej(deep(PLANES, 12), mode="composite", Ranges=(500.0, 3000.0) * 3),
    "ImageJ of floats": imagej((PLANES / 255).astype(np.float32), mode="composite"),
    "ImageJ stack of slices": imagej(STACK, "ZCYX", mode="composite"),
    "ImageJ stack of times and slices": imagej(np.stack([STACK] * 2), "TZCYX", mode="composite"),
    "ImageJ, blue first by its tables": imagej(
        BGR, mode="composite", LUTs=[table(0, 0, 1), table(0, 1, 0), table(1, 0, 0)]
    ),
    "ImageJ with labels": imagej(PLANES, mode="grayscale", Labels=["a.tif (red)", "a.tif (green)", "a.tif (blue)"]),
    "ImageJ with names of files": imagej(PLANES, mode="composite", Labels=["a.tif", "b.tif", "c.tif"]),
    "OME with names": ome(PLANES, Name=["Red", "Green", "Blue"]),
    "OME, blue first by its names": ome(BGR, Name=["B", "G", "R"]),
    "OME, green first by its colours": ome(PLANES[[1, 2, 0]], Color=[GREEN, BLUE, RED]),
    "OME without names": ome(PLANES),
    "OME with numbers for names": ome(PLANES, Name=["Channel 1", "Channel 2", "Channel 3"]),
    "OME of 12 bits": ome(deep(PLANES, 12), Name=["Red", "Green", "Blue"]),
    "OME of channels of slices": ome(STACK.swapaxes(0, 1), "CZYX", Name=["Red", "Green", "Blue"]),
    "OME of slices of channels": ome(STACK, "ZCYX", Name=["Red", "Green", "Blue"]),
    "OME with a fourth channel": ome(np.concatenate([PLANES[:1] // 3, PLANES]), Name=["Phase", "Red", "Green", "Blue"]),
    "tifffile with axes": (PLANES, {"photometric": "minisblack", "metadata": {"axes": "CYX"}}),
}
FIRST = {
    "ImageJ grayscale": imagej(PLANES, mode="grayscale"),
    "ImageJ of other colours": imagej(PLANES, mode="composite", LUTs=[table(0, 1, 1), table(1, 0, 1), table(1, 1, 0)]),
    "ImageJ of two channels": imagej(PLANES[:2], mode="composite"),
    "ImageJ of four channels": imagej(np.concatenate([PLANES, PLANES[:1]]), mode="composite"),
    "OME of stains": ome(PLANES, Name=["DAPI", "FITC", "TRITC"], Color=[BLUE, GREEN, RED]),
    "OME of other colours": ome(PLANES, Color=[16777215, RED, GREEN]),
}
SLICES = {
    "ImageJ": imagej(PLANES, "ZYX"),
    "OME": ome(PLANES, "ZYX"),
    "pages": (PLANES, {"photometric": "minisblack", "metadata": None}),
}


@pytest.mark.parametrize("name", COLOURS)
def test_channels_that_are_colours_are_put_together_and_said(tmp_path: Path, name: str) -> None:
    data, options = COLOURS[name]
    path = save_tiff(tmp_path / "a.tif", data, **options)
    assert worst(load_image(path), picture()) <= 1
    assert JOINED in probe(path).notes


@pytest.mark.parametrize("name", FIRST)
def test_of_channels_that_are_no_colours_the_first_is_taken_and_said(tmp_path: Path, name: str) -> None:
    data, options = FIRST[name]
    path = save_tiff(tmp_path / "a.tif", data, **options)
    assert worst(load_image(path), rgb_of(picture()[..., 0])) == 0
    assert probe(path).notes == (f"first of {len(data)} channels",)


@pytest.mark.parametrize("name", SLICES)
def test_slices_are_no_colours(tmp_path: Path, name: str) -> None:
    data, options = SLICES[name]
    path = save_tiff(tmp_path / "a.tif", data, **options)
    assert worst(load_image(path), rgb_of(picture()[..., 0])) == 0
    assert probe(path).notes == ("first page of 3",)


@pytest.mark.parametrize("options", [{"tile": (16, 16), "compression": "zlib"}, {"bigtiff": True, "byteorder": ">"}])
def test_tiles_and_byte_orders_of_channels(tmp_path: Path, options: dict[str, Any]) -> None:
    data, how = ome(deep(PLANES, 12), Name=["Red", "Green", "Blue"])
    assert worst(load_image(save_tiff(tmp_path / "a.tif", data, **how, **options)), picture()) <= 1


def test_pages_named_after_colours(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for name, plane in zip(["Blue", "Green", "Red"], BGR, strict=True):
            file.write(plane, photometric="minisblack", metadata=None, extratags=[(285, 2, 0, name, True)])
    assert worst(load_image(tmp_path / "a.tif"), picture()) == 0
    assert probe(tmp_path / "a.tif").notes == (JOINED,)


@pytest.mark.parametrize("bits", [8, 12])
def test_a_stack_that_imagej_describes_by_its_first_page(tmp_path: Path, bits: int) -> None:
    data = STACK if bits == 8 else deep(STACK, bits)
    path = save_tiff(tmp_path / "a.tif", data, imagej=True, metadata={"axes": "ZCYX", "mode": "composite"})
    with tifffile.TiffFile(path, mode="r+b") as file:
        first = file.pages.first
        file.filehandle.seek(first.offset + 2 + 12 * len(first.tags))
        file.filehandle.write(struct.pack(file.byteorder + "I", 0))
    assert worst(load_image(path), picture()) <= 1
    path.write_bytes(path.read_bytes()[: -data.nbytes * 3 // 4])
    with pytest.raises(InputError, match="3 channels described and 1 there"):
        load_image(path)


def test_channels_in_other_files_are_told_and_no_other_file_is_opened(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    whole = save_tiff(tmp_path / "whole.tif", *[PLANES], **ome(PLANES)[1])
    with tifffile.TiffFile(whole) as file:
        text = str(file.ome_metadata)
    parts = "".join(
        f'<TiffData IFD="0" FirstC="{c}"><UUID FileName="{c}.tif">urn:uuid:{c}</UUID></TiffData>' for c in range(3)
    )
    text = text.replace('<TiffData IFD="0" PlaneCount="3"/>', parts)
    for c in range(3):
        save_tiff(tmp_path / f"{c}.tif", PLANES[c], description=text.encode(), photometric="minisblack")
    with pytest.raises(InputError, match="3 channels described and 1 there"):
        load_image("0.tif")


def test_the_picture_behind_thumbnails_and_masks_is_taken_and_said(tmp_path: Path) -> None:
    small, flags = picture()[::8, ::8], picture()[..., 0] > 100

    def write(name: str, *pages: tuple[np.ndarray, dict[str, Any]]) -> Path:
        with tifffile.TiffWriter(tmp_path / name) as file:
            for data, options in pages:
                file.write(data, metadata=None, **{"photometric": "rgb", **options})
        return tmp_path / name

    old = {"extratags": [(255, 3, 1, 2, True)]}
    reduced = {"subfiletype": 1}
    behind = [
        write("one.tif", (small, reduced), (picture(), {})),
        write("two.tif", (small, reduced), (picture()[::4, ::4], reduced), (picture(), {})),
        write("old.tif", (small, old), (picture(), {})),
        write("inside.tif", (small, {**reduced, "subifds": 1}), (picture(), {})),
        write("mask.tif", (flags, {"photometric": "minisblack", "subfiletype": 4}), (picture(), {})),
    ]
    for path in behind:
        assert worst(load_image(path), picture()) == 0
        assert probe(path).notes == ("picture behind a thumbnail taken",)
    alone = write("alone.tif", (picture(), reduced))
    assert worst(load_image(alone), picture()) == 0
    assert probe(alone).notes == ("a picture marked as thumbnail",)
    pyramid = write("pyramid.tif", (picture(), {}), (picture()[::2, ::2], reduced))
    assert worst(load_image(pyramid), picture()) == 0


def test_planes_are_found_where_ome_says_that_they_are(tmp_path: Path) -> None:
    whole = save_tiff(tmp_path / "whole.tif", PLANES, **ome(PLANES, Name=["Red", "Green", "Blue"])[1])
    with tifffile.TiffFile(whole) as file:
        text = str(file.ome_metadata)
    places = "".join(f'<TiffData IFD="{2 - c}" FirstC="{c}" PlaneCount="1"/>' for c in range(3))
    text = text.replace('<TiffData IFD="0" PlaneCount="3"/>', places)
    path = save_tiff(tmp_path / "a.tif", BGR, description=text.encode(), photometric="minisblack")
    assert worst(load_image(path), picture()) == 0

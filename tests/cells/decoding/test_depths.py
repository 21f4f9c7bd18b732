from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from cells.decoding.pictures import deep, grey, packed, picture, rgb_of, save_tiff, tags_of, worst, write_tiff

from cytosae.cells import load_image
from cytosae.cells.decoding.decode import probe
from cytosae.common.errors import InputError

OPAQUE = np.full((40, 50, 1), 65535, np.uint16)
Write = Callable[[Path, np.ndarray], Path]


def png(path: Path, data: np.ndarray) -> Path:
    path.write_bytes(imagecodecs.png_encode(np.ascontiguousarray(data)))
    return path


def tiff(*extra: str, planar: bool = False) -> Write:
    def write(path: Path, data: np.ndarray) -> Path:
        photometric = "rgb" if data.shape[2] - len(extra) == 3 else "minisblack"
        data = np.moveaxis(data, -1, 0) if planar else data
        planes = "separate" if planar else "contig"
        return save_tiff(path, data, photometric=photometric, planarconfig=planes, extrasamples=extra)

    return write


FURTHER: dict[str, tuple[Write, int]] = {
    "png": (png, 1),
    "straight alpha": (tiff("unassalpha"), 1),
    "premultiplied alpha": (tiff("assocalpha"), 1),
    "unspecified": (tiff("unspecified"), 1),
    "unspecified and alpha": (tiff("unspecified", "unassalpha"), 2),
    "alpha in a plane": (tiff("unassalpha", planar=True), 1),
}
"""Ways of having full-range samples beside the colours, and how many of them."""


@pytest.mark.parametrize("bits", [10, 12, 14])
@pytest.mark.parametrize("way", FURTHER)
@pytest.mark.parametrize("colour", ["rgb", "grey"])
def test_depth_is_that_of_the_colours_whatever_samples_come_along(
    tmp_path: Path, bits: int, way: str, colour: str
) -> None:
    write, further = FURTHER[way]
    values = picture() if colour == "rgb" else grey()[..., None]
    path = write(tmp_path / "a", np.concatenate([deep(values, bits), *[OPAQUE] * further], axis=2))
    assert worst(load_image(path), picture() if colour == "rgb" else rgb_of(grey())) <= 1
    assert f"{bits}-bit values scaled to 8" in probe(path).notes


@pytest.mark.parametrize("top", [4095, 255, 65535])
def test_opacity_has_a_full_scale_of_its_own(tmp_path: Path, top: int) -> None:
    alpha = np.full((40, 50, 1), top, np.uint16)
    alpha[:10] = 0
    path = png(tmp_path / "a.png", np.concatenate([deep(picture(), 12), alpha], axis=2))
    image = load_image(path)
    assert (image[:10] == 255).all()
    assert worst(image[10:], picture()[10:]) <= 1


def test_what_is_transparent_does_not_choose_the_depth(tmp_path: Path) -> None:
    values = np.concatenate([deep(picture(), 12), OPAQUE], axis=2)
    values[:5] = (65535, 65535, 65535, 0)
    image = load_image(png(tmp_path / "a.png", values))
    assert (image[:5] == 255).all()
    assert worst(image[5:], picture()[5:]) <= 1


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 6, 10, 12, 14])
@pytest.mark.parametrize("photometric", [0, 1], ids=["miniswhite", "minisblack"])
def test_packed_bits_have_the_full_scale_that_the_file_states(tmp_path: Path, bits: int, photometric: int) -> None:
    top = (1 << bits) - 1
    values = np.rint(grey() / 3 * (top / 255)).astype(np.uint16)  # dark: the largest value would mislead
    stored = values if photometric else top - values
    path = write_tiff(tmp_path / "a.tif", tags_of(40, 50, [bits], photometric), [packed(stored, bits)])
    assert worst(load_image(path), rgb_of(np.rint(values * (255 / top)))) <= 1


@pytest.mark.parametrize("bits", [4, 12])
def test_packed_colours(tmp_path: Path, bits: int) -> None:
    stored = deep(picture(), bits)
    path = write_tiff(tmp_path / "a.tif", tags_of(40, 50, [bits] * 3, 2), [packed(stored.reshape(40, -1), bits)])
    assert worst(load_image(path), np.rint(stored * (255 / ((1 << bits) - 1)))) <= 1


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
@pytest.mark.parametrize("inverted_as", ["its own depth", "16 bits"])
def test_white_may_be_0_in_any_depth(tmp_path: Path, bits: int, inverted_as: str) -> None:
    white = (1 << bits) - 1 if inverted_as == "its own depth" else 65535
    path = save_tiff(tmp_path / "a.tif", (white - deep(grey(), bits)).astype(np.uint16), photometric="miniswhite")
    assert worst(load_image(path), rgb_of(grey())) <= 1


def test_white_may_be_0_in_floats(tmp_path: Path) -> None:
    path = save_tiff(tmp_path / "a.tif", (1 - grey() / 255).astype(np.float32), photometric="miniswhite")
    assert worst(load_image(path), rgb_of(grey())) <= 1


@pytest.mark.parametrize("kind", ["float16", "float32", "float64"])
@pytest.mark.parametrize(("outside", "full"), [(1.004, 1), (-1e-7, 1), (1.09, 1), (256.5, 255), (-0.3, 255)])
def test_floats_may_overshoot_their_scale_a_little(tmp_path: Path, kind: str, outside: float, full: int) -> None:
    values = (picture() * (full / 255)).astype(kind)
    values[3, 4] = outside
    right = picture()
    right[3, 4] = 255 if outside > 0 else 0
    path = save_tiff(tmp_path / "a.tif", values, photometric="rgb")
    assert worst(load_image(path), right) <= 1
    assert probe(path).notes == ("float values scaled to 8 bits", f"values outside of 0 to {full} clipped")


@pytest.mark.parametrize("alpha", [1.0, 255.0])
def test_opacity_in_floats_has_a_scale_of_its_own(tmp_path: Path, alpha: float) -> None:
    values = np.dstack([picture() / 255, np.full((40, 50), alpha)]).astype(np.float32)
    path = save_tiff(tmp_path / "a.tif", values, photometric="rgb", extrasamples=["unassalpha"])
    assert worst(load_image(path), picture()) <= 1


UNIT = picture() / 255
UNCLEAR = {
    "from -1 to 1": UNIT * 2 - 1,
    "standardised": (UNIT - 0.45) / 0.22,
    "half as much again": UNIT * 1.5,
    "12 bits": UNIT * 4095,
    "infinite": np.where(UNIT > 0.9, np.inf, UNIT),
    "not numbers in a corner": np.where(np.arange(50)[:, None] > 45, np.nan, UNIT),
}


@pytest.mark.parametrize("name", UNCLEAR)
def test_floats_of_no_stated_range_are_refused(tmp_path: Path, name: str) -> None:
    path = save_tiff(tmp_path / "a.tif", UNCLEAR[name].astype(np.float32), photometric="rgb")
    with pytest.raises(InputError, match="not finite numbers|0 to 1 or 0 to 255 is supported"):
        load_image(path)


@pytest.mark.parametrize(("kind", "bits"), [("int16", 12), ("int16", 15), ("uint32", 12), ("int32", 16)])
def test_wider_and_signed_integers_hold_the_same_depths(tmp_path: Path, kind: str, bits: int) -> None:
    path = save_tiff(tmp_path / "a.tif", deep(picture(), bits).astype(kind), photometric="rgb")
    assert worst(load_image(path), picture()) <= 1


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
@pytest.mark.parametrize("channels", ["g", "la", "rgb", "rgba"])
@pytest.mark.parametrize("form", ["jp2", "j2k"])
def test_deep_jpeg2000(tmp_path: Path, bits: int, channels: str, form: str) -> None:
    right = rgb_of(grey()) if channels in {"g", "la"} else picture()
    values = deep(right[..., :1] if channels in {"g", "la"} else right, bits)
    if channels.endswith("a"):
        values = np.dstack([values, np.full((40, 50), (1 << bits) - 1, np.uint16)])
    stored = np.ascontiguousarray(values.squeeze())
    (tmp_path / "a").write_bytes(imagecodecs.jpeg2k_encode(stored, level=0, bitspersample=bits, codecformat=form))
    assert worst(load_image(tmp_path / "a"), right) <= 1


@pytest.mark.parametrize("kind", ["P2", "P3", "P5", "P6"])
@pytest.mark.parametrize(("bits", "top"), [(10, 1023), (12, 4095), (12, 65535), (16, 65535)])
def test_deep_netpbm(tmp_path: Path, kind: str, bits: int, top: int) -> None:
    right = picture() if kind in {"P3", "P6"} else rgb_of(grey())
    if top < 65535:
        right = right // 4  # the header says full scale
    values = deep(right if kind in {"P3", "P6"} else right[..., 0], bits)
    body = values.astype(">u2").tobytes() if kind in {"P5", "P6"} else " ".join(map(str, values.ravel())).encode()
    path = tmp_path / "a.ppm"
    path.write_bytes(f"{kind}\n# by a program\n50 40\n{top}\n".encode() + body)
    assert worst(load_image(path), right) <= 1
    path.write_bytes(path.read_bytes()[: -len(body) // 2])
    with pytest.raises(InputError, match="truncated"):
        load_image(path)

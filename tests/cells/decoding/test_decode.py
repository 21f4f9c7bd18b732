from __future__ import annotations

import contextlib
import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from cytosae.cells import load_image, load_mask
from cytosae.cells.decoding.decode import MAX_PIXELS, probe
from cytosae.common.errors import InputError

RGB = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
GREY = RGB[..., 0]


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "ppm", "webp"])
def test_lossless_formats_give_the_same_pixels(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(RGB).save(path, **({"lossless": True} if suffix == "webp" else {}))
    image = load_image(path)
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous
    np.testing.assert_array_equal(image, RGB)


@pytest.mark.parametrize("compression", [None, "lzw", "zlib", "packbits"])
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_tiff_compressions_and_planes(tmp_path: Path, compression: str | None, planar: str) -> None:
    data = RGB if planar == "contig" else np.moveaxis(RGB, -1, 0).copy()
    tifffile.imwrite(tmp_path / "a.tif", data, photometric="rgb", planarconfig=planar, compression=compression)
    np.testing.assert_array_equal(load_image(tmp_path / "a.tif"), RGB)


def test_grey_is_repeated(tmp_path: Path) -> None:
    Image.fromarray(GREY).save(tmp_path / "a.png")
    tifffile.imwrite(tmp_path / "b.tif", GREY, photometric="minisblack")
    tifffile.imwrite(tmp_path / "c.tif", 255 - GREY, photometric="miniswhite")
    for name in ("a.png", "b.tif", "c.tif"):
        np.testing.assert_array_equal(load_image(tmp_path / name), np.repeat(GREY[..., None], 3, axis=2))


def test_palette(tmp_path: Path) -> None:
    image = Image.fromarray(RGB).quantize(16)
    image.save(tmp_path / "a.png")
    image.save(tmp_path / "b.tif")
    image.save(tmp_path / "c.gif")
    for name in ("a.png", "b.tif", "c.gif"):
        np.testing.assert_array_equal(load_image(tmp_path / name), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_alpha_is_composited_on_white(tmp_path: Path, name: str) -> None:
    alpha = np.zeros((12, 16), dtype=np.uint8)
    alpha[:, 8:] = 255
    rgba = np.dstack([RGB, alpha])
    if name == "a.tif":
        tifffile.imwrite(tmp_path / name, rgba, photometric="rgb", extrasamples=["unassalpha"])
    else:
        Image.fromarray(rgba).save(tmp_path / name)
    image = load_image(tmp_path / name)
    assert (image[:, :8] == 255).all()
    np.testing.assert_array_equal(image[:, 8:], RGB[:, 8:])


def test_cmyk(tmp_path: Path) -> None:
    white = np.zeros((8, 8, 4), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", white, photometric="separated")
    Image.new("CMYK", (8, 8), (0, 0, 0, 0)).save(tmp_path / "b.jpg")
    assert (load_image(tmp_path / "a.tif") == 255).all()
    assert (load_image(tmp_path / "b.jpg") >= 253).all()


@pytest.mark.parametrize(("high", "depth"), [(255, 8), (1023, 10), (4095, 12), (65535, 16)])
@pytest.mark.parametrize("name", ["a.tif", "a.png", "colour.tif", "colour.png"])
def test_deep_values_are_scaled_by_the_smallest_depth_that_holds_them(
    tmp_path: Path, high: int, depth: int, name: str
) -> None:
    values = np.random.default_rng(1).integers(0, high, (9, 7), endpoint=True).astype(np.uint16)
    values[0, 0] = high
    data = np.dstack([values, values[::-1], values]) if name.startswith("colour") else values
    if name.endswith("tif"):
        tifffile.imwrite(tmp_path / name, data, photometric="rgb" if data.ndim == 3 else "minisblack")
    else:
        import imagecodecs

        (tmp_path / name).write_bytes(imagecodecs.png_encode(data))
    expected = np.rint(data / (2**depth - 1) * 255)
    image = load_image(tmp_path / name)
    assert np.abs(image - (expected if data.ndim == 3 else expected[..., None])).max() <= (0 if depth == 8 else 1)
    assert probe(tmp_path / name).notes == (() if depth == 8 else (f"{depth}-bit values scaled to 8",))


def test_float_tiff(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", GREY.astype(np.float32) / 255)
    tifffile.imwrite(tmp_path / "b.tif", GREY.astype(np.float32))
    for name in ("a.tif", "b.tif"):
        np.testing.assert_array_equal(load_image(tmp_path / name)[..., 1], GREY)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_rotation_by_exif_agrees_with_pillow(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(RGB).save(tmp_path / "a.png", exif=exif)
    tifffile.imwrite(tmp_path / "b.tif", RGB, photometric="rgb", extratags=[(274, 3, 1, orientation, True)])
    upright = load_image(tmp_path / "a.png")
    assert upright.shape[:2] == ((16, 12) if orientation > 4 else (12, 16))
    np.testing.assert_array_equal(load_image(tmp_path / "b.tif"), upright)


def test_first_of_several_pages_is_taken_and_said(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.stack([GREY, GREY // 2, GREY // 3]), photometric="minisblack")
    frames = [Image.fromarray(GREY // n) for n in (1, 2)]
    frames[0].save(tmp_path / "b.gif", save_all=True, append_images=frames[1:])
    assert probe(tmp_path / "a.tif").notes == ("first page of 3",)
    assert probe(tmp_path / "b.gif").notes == ("first page of 2",)
    np.testing.assert_array_equal(load_image(tmp_path / "a.tif")[..., 0], GREY)


def test_a_wrong_suffix_does_no_harm(tmp_path: Path) -> None:
    Image.fromarray(RGB).save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / "a.jpg")
    np.testing.assert_array_equal(load_image(tmp_path / "a.jpg"), RGB)


def png_claiming(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def tiff_claiming(width: int, height: int, *, stored: int | None = None) -> bytes:
    """A grey TIFF of one uncompressed strip, whose header claims more than there is."""
    stored = width * height if stored is None else stored
    tags = [(256, 4, width), (257, 4, height), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, 200)]
    tags += [(277, 3, 1), (278, 4, height), (279, 4, stored)]
    body = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    return (b"II*\0" + struct.pack("<IH", 8, len(tags)) + body + b"\0" * 4).ljust(200, b"\0") + b"\0" * 50


def encoded(suffix: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(3).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(buffer, suffix)
    return buffer.getvalue()


def tiff_of(array: np.ndarray, **options) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, array, **options)
    return buffer.getvalue()


BAD = {
    "zero_bytes.png": (b"", "empty file"),
    "text.png": (b"this is no image at all\n", "not an image"),
    "html.jpg": (b"<!DOCTYPE html><html>404</html>", "not an image"),
    "lfs.tif": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "Git LFS pointer"),
    "truncated.jpg": (encoded("JPEG")[:-200], "truncated"),
    "truncated.png": (encoded("PNG")[:3000], "truncated|damaged"),
    "headless.jpg": (encoded("JPEG")[:3], "not an image"),
    "truncated.tif": (tiff_claiming(64, 64), "truncated"),
    "no_data.tif": (tiff_claiming(8, 8, stored=0), "truncated"),
    "cut_header.tif": (tiff_claiming(8, 8)[:20], "damaged|without a page|truncated"),
    "bomb.png": (png_claiming(100_000, 100_000), "pixels"),
    "large.png": (png_claiming(8_001, 8_000), "more than the limit"),
    "bomb.tif": (tiff_claiming(2**31 - 1, 2**31 - 1, stored=9), "more than the limit"),
    "nan.tif": (tiff_of(np.full((4, 4), np.nan, np.float32)), "not finite"),
    "signed.tif": (tiff_of(np.full((4, 4), -5, np.int16)), "values from -5"),
    "complex.tif": (tiff_of(np.ones((4, 4), np.complex64)), "not supported"),
    "bytes.webp": (b"RIFF\x10\0\0\0WEBPVP8 garbage", "not an image|damaged"),
    "postscript.png": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "not an image"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_file_gives_one_sentence_with_its_name_and_the_mend(tmp_path: Path, name: str) -> None:
    data, why = BAD[name]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match=rf"{name} cannot be opened: .*({why}).*; restore the file") as caught:
        load_image(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_missing_file_and_folder_are_sentences(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.png cannot be opened: file not found"):
        load_image(tmp_path / "gone.png")
    with pytest.raises(InputError, match="a folder, not a file"):
        load_image(tmp_path)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "GIF", "WEBP", "JPEG2000"])
def test_no_damage_at_a_random_place_escapes_as_another_exception(tmp_path: Path, kind: str) -> None:
    rng, data = np.random.default_rng(5), encoded(kind)
    for trial in range(40):
        broken = bytearray(data)
        for place in rng.integers(0, min(len(data), 400), 4):
            broken[place] = rng.integers(256)
        path = tmp_path / f"{trial}.img"
        path.write_bytes(bytes(broken[: rng.integers(10, len(broken))] if trial % 2 else broken))
        with contextlib.suppress(InputError):
            assert load_image(path).shape[2] == 3


def test_decoding_leaves_the_warning_filters_as_they_were(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"x")
    before = list(warnings.filters)
    with pytest.raises(InputError):
        load_image(tmp_path / "a.png")
    assert warnings.filters == before


def test_masks_keep_their_values(tmp_path: Path) -> None:
    mask = np.random.default_rng(2).integers(0, 3, (12, 16), dtype=np.uint8)
    Image.fromarray(mask).save(tmp_path / "grey.png")
    palette = Image.fromarray(mask).convert("P")
    palette.putpalette([0, 0, 0, 0, 255, 0, 255, 0, 0])
    palette.save(tmp_path / "palette.png")
    Image.fromarray(np.dstack([mask] * 3)).save(tmp_path / "rgb.png")
    tifffile.imwrite(tmp_path / "a.tif", mask)
    for name in ("grey.png", "palette.png", "rgb.png", "a.tif"):
        np.testing.assert_array_equal(load_mask(tmp_path / name), mask)
    Image.fromarray(RGB).save(tmp_path / "colour.png")
    with pytest.raises(InputError, match=r"colour\.png cannot be opened: a mask must be grey"):
        load_mask(tmp_path / "colour.png")


def test_the_limit_is_checked_before_decoding() -> None:
    assert MAX_PIXELS == 64_000_000

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from cells.decoding.pictures import deep, picture, save_tiff, tags_of, worst, write_tiff
from PIL import Image, ImageCms, ImageOps

from cytosae.cells import load_image
from cytosae.cells.decoding.decode import probe
from cytosae.common.errors import InputError


def jpeg(**options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture()).save(buffer, "JPEG", quality=95, subsampling=0, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["baseline", "progressive", "restart"])
def test_a_jpeg_without_its_end_marker_is_whole_and_one_without_its_last_data_is_not(tmp_path: Path, kind: str) -> None:
    data = jpeg(**{"progressive": {"progressive": True}, "restart": {"restart_marker_rows": 1}}.get(kind, {}))
    path = tmp_path / "a.jpg"
    path.write_bytes(data)
    right = load_image(path)
    for whole in (data[:-1], data[:-2], data[:-2] + bytes(100)):
        path.write_bytes(whole)
        np.testing.assert_array_equal(load_image(path), right)
    path.write_bytes(data[:-2])
    assert probe(path).notes == ("its end marker is missing",)
    for cut in (5, 8, 20, 100, len(data) // 2):
        path.write_bytes(data[:-cut])
        with pytest.raises(InputError, match="truncated"):
            load_image(path)


@pytest.mark.parametrize("subsampling", [0, 1, 2])
def test_jpeg_of_inks_as_adobe_writes_it(tmp_path: Path, subsampling: int) -> None:
    image = Image.fromarray(picture()).convert("CMYK")
    image.save(tmp_path / "a.jpg", quality=100, subsampling=subsampling)
    with Image.open(tmp_path / "a.jpg") as stored:
        assert worst(load_image(tmp_path / "a.jpg"), np.asarray(stored.convert("RGB"))) == 0
    assert worst(load_image(tmp_path / "a.jpg"), np.asarray(image.convert("RGB"))) <= 24


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif", "deep.png"])
def test_orientation_is_applied_in_every_format(tmp_path: Path, orientation: int, suffix: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options: dict[str, Any] = {"jpg": {"quality": 98, "subsampling": 0}, "webp": {"lossless": True}}.get(suffix, {})
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(picture()).save(path, exif=exif, **options)
    if suffix == "deep.png":  # the same block in a file of 16 bits
        data, stored = path.read_bytes(), imagecodecs.png_encode(deep(picture(), 16))
        at = data.index(b"eXIf") - 4
        block = data[at : at + 12 + struct.unpack(">I", data[at : at + 4])[0]]
        path.write_bytes(stored[:33] + block + stored[33:])
    reference = Image.fromarray(picture())
    reference.getexif()[0x0112] = orientation
    right = np.asarray(ImageOps.exif_transpose(reference))
    assert worst(load_image(path), right) <= (12 if suffix == "jpg" else 0)


@pytest.mark.parametrize("suffix", ["png", "webp", "gif", "tif"])
def test_the_first_frame_of_an_animation(tmp_path: Path, suffix: str) -> None:
    image = Image.fromarray(picture())
    first, second = (
        (image.quantize(64), image.rotate(180).quantize(64)) if suffix == "gif" else (image, image.rotate(9))
    )
    path = tmp_path / f"a.{suffix}"
    options = {"lossless": True} if suffix == "webp" else {}
    first.save(path, save_all=True, append_images=[second], **options)
    assert worst(load_image(path), np.asarray(first.convert("RGB"))) == 0
    assert probe(path).notes == ("first page of 2",)


def test_interlaced_png(tmp_path: Path) -> None:
    """Adam7, written by hand: Pillow writes none."""
    import zlib

    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    rows = b"".join(b"\0" + row.tobytes() for x, y, dx, dy in passes for row in picture()[y::dy, x::dx] if row.size)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 50, 40, 8, 2, 0, 0, 1)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    assert worst(load_image(tmp_path / "a.png"), picture()) == 0


@pytest.mark.parametrize(
    "compression", ["lzw", "zlib", "deflate", "packbits", "lzma", "zstd", "jpeg2000", "webp", "png", "jpegxl", "lerc"]
)
@pytest.mark.parametrize("layout", [{}, {"tile": (16, 32)}, {"rowsperstrip": 7}, {"bigtiff": True, "byteorder": ">"}])
def test_lossless_compressions_of_tiff(tmp_path: Path, compression: str, layout: dict[str, Any]) -> None:
    level = {"compressionargs": {"level": -1}} if compression == "webp" else {}
    path = save_tiff(tmp_path / "a.tif", picture(), photometric="rgb", compression=compression, **layout, **level)
    assert worst(load_image(path), picture()) == 0
    assert probe(path).notes == ()


@pytest.mark.parametrize("layout", [{}, {"tile": (16, 32)}])
@pytest.mark.parametrize("planes", ["contig", "separate"])
def test_jpeg_in_tiff(tmp_path: Path, layout: dict[str, Any], planes: str) -> None:
    data = picture() if planes == "contig" else np.moveaxis(picture(), -1, 0)
    options = {"photometric": "rgb", "compression": "jpeg", "compressionargs": {"level": 98}, **layout}
    path = save_tiff(tmp_path / "a.tif", data, planarconfig=planes, **options)
    assert worst(load_image(path), picture()) <= 60


def test_tiles_that_a_sparse_file_leaves_out_are_black_and_said(tmp_path: Path) -> None:
    path = save_tiff(tmp_path / "a.tif", picture(64, 64), photometric="rgb", tile=(32, 32))
    with tifffile.TiffFile(path, mode="r+b") as file:
        page = file.pages.first
        for number, values in ((324, page.dataoffsets), (325, page.databytecounts)):
            page.tags[number].overwrite([*values[:3], 0])
    right = picture(64, 64)
    right[32:, 32:] = 0
    assert worst(load_image(path), right) == 0
    assert probe(path).notes == ("parts that the file leaves out read as 0",)
    with tifffile.TiffFile(path, mode="r+b") as file:
        for number in (324, 325):
            file.pages.first.tags[number].overwrite([0] * 4)
    with pytest.raises(InputError, match="a TIFF without image data"):
        load_image(path)


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
def test_a_colour_profile_other_than_srgb_is_not_applied_and_said(tmp_path: Path, suffix: str) -> None:
    own = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for profile, notes in ((own, ()), (own.replace(b"s\0R\0G\0B", b"x\0R\0G\0B"), ("colour profile not applied",))):
        profile = profile.replace(b"sRGB", b"aRGB") if notes else profile
        Image.fromarray(picture()).save(tmp_path / f"a.{suffix}", icc_profile=profile)
        assert worst(load_image(tmp_path / f"a.{suffix}"), picture()) <= 60
        assert probe(tmp_path / f"a.{suffix}").notes == notes


def test_a_picture_within_a_tiff_is_held_to_the_same_limit(tmp_path: Path) -> None:
    bomb = bytearray(jpeg())
    at = bomb.index(b"\xff\xc0")
    bomb[at + 5 : at + 9] = struct.pack(">HH", 65000, 65000)
    write_tiff(tmp_path / "a.tif", tags_of(40, 50, [8] * 3, 6, (259, 3, [7])), [bytes(bomb)])
    with pytest.raises(InputError, match="more pixels than the limit|more than the limit"):
        load_image(tmp_path / "a.tif")


def test_a_codestream_is_held_to_the_limit_whatever_its_wrapping_says(tmp_path: Path) -> None:
    data = bytearray(imagecodecs.jpeg2k_encode(deep(picture(), 12), level=0, bitspersample=12, codecformat="jp2"))
    at = data.index(b"\xff\x4f\xff\x51")
    data[at + 8 : at + 16] = struct.pack(">II", 100_000, 100_000)
    (tmp_path / "a.jp2").write_bytes(data)
    with pytest.raises(InputError, match="more than the limit"):
        load_image(tmp_path / "a.jp2")


@pytest.mark.parametrize("samples", [9, 64])
def test_stacks_of_many_samples_are_refused(tmp_path: Path, samples: int) -> None:
    write_tiff(tmp_path / "b.tif", tags_of(4, 5, [8] * samples, 2), [bytes(20 * samples)])
    with pytest.raises(InputError, match=f"{samples} channels"):
        load_image(tmp_path / "b.tif")


def test_a_header_that_claims_more_parts_than_there_are_is_refused(tmp_path: Path) -> None:
    write_tiff(tmp_path / "a.tif", tags_of(4000, 50, [8] * 3, 2, (278, 4, [40])), [picture().tobytes()])
    with pytest.raises(InputError, match="fewer parts of image data than its header claims"):
        load_image(tmp_path / "a.tif")


def test_a_damaged_deep_png_never_reaches_the_decoder_that_loses_references(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = imagecodecs.png_encode(deep(picture(), 16))
    middle = len(data) // 2
    (tmp_path / "a.png").write_bytes(data[:middle] + bytes([data[middle] ^ 255]) + data[middle + 1 :])
    seen: list[bytes] = []
    monkeypatch.setattr(imagecodecs, "png_decode", seen.append)
    with pytest.raises(InputError, match=r"a\.png cannot be opened"):
        load_image(tmp_path / "a.png")
    assert not seen

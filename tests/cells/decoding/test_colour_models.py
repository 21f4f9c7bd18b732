from __future__ import annotations

import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from cells.decoding.pictures import Tag, grey, packed, picture, rgb_of, save_tiff, tags_of, worst, write_tiff
from PIL import Image, ImageCms

from cytosae.cells import load_image
from cytosae.cells.decoding.decode import probe
from cytosae.common.errors import InputError

BT601, BT709 = (0.299, 0.587, 0.114), (0.2126, 0.7152, 0.0722)
FULL, STUDIO = (0, 255, 128, 255, 128, 255), (16, 235, 128, 240, 128, 240)
COMPRESSIONS = {1: bytes, 5: imagecodecs.lzw_encode, 8: zlib.compress}


def to_ycbcr(rgb: np.ndarray, luma: tuple[float, ...] = BT601, ranges: tuple[float, ...] = FULL) -> np.ndarray:
    """Codes of luminance and colour differences by TIFF 6.0, section 21."""
    red, _, blue = np.moveaxis(rgb.astype(float), -1, 0)
    y = rgb @ np.array(luma)
    parts = [(y, 255), ((blue - y) / (2 - 2 * luma[2]), 127), ((red - y) / (2 - 2 * luma[0]), 127)]
    codes = [
        part * (white - black) / coded + black
        for (part, coded), black, white in zip(parts, ranges[::2], ranges[1::2], strict=True)
    ]
    return np.rint(np.clip(np.stack(codes, axis=-1), 0, 255)).astype(np.uint8)


def units(ycbcr: np.ndarray, across: int, down: int) -> bytes:
    """Data units: all Y of a block of pixels, then its mean Cb and Cr."""
    height, width = ycbcr.shape[:2]
    blocks = np.pad(ycbcr, ((0, -height % down), (0, -width % across), (0, 0)), mode="edge")
    blocks = blocks.reshape(-(-height // down), down, -(-width // across), across, 3).swapaxes(1, 2)
    y, colour = blocks[..., 0].reshape(*blocks.shape[:2], -1), blocks[..., 1:].mean((2, 3))
    return np.rint(np.concatenate([y, colour], axis=2)).astype(np.uint8).tobytes()


def ycbcr_tiff(path: Path, rgb: np.ndarray, factors: tuple[int, int], cut: str, compression: int, *more: Tag) -> Path:
    stored, (height, width) = to_ycbcr(rgb), rgb.shape[:2]
    step = {"strip": height, "strips": 16, "tiles": 32}[cut]
    layout: list[Tag] = [(278, 4, [step])]
    parts = [stored[top : top + step] for top in range(0, height, step)]
    if cut == "tiles":
        layout = [(322, 4, [step]), (323, 4, [step])]
        columns = [(part, left) for part in parts for left in range(0, width, step)]
        parts = [part[:, left : left + step] for part, left in columns]
        parts = [np.pad(p, ((0, step - p.shape[0]), (0, step - p.shape[1]), (0, 0)), mode="edge") for p in parts]
    segments = [COMPRESSIONS[compression](units(part, *factors)) for part in parts]
    tags = tags_of(height, width, [8] * 3, 6, (259, 3, [compression]), *layout, *more)
    return write_tiff(path, tags, segments, tiled=cut == "tiles")


@pytest.mark.parametrize("factors", [(1, 1), (2, 1), (1, 2), (2, 2), (4, 1), (4, 2), (4, 4)])
@pytest.mark.parametrize("cut", ["strip", "strips", "tiles"])
@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_ycbcr_without_jpeg(tmp_path: Path, factors: tuple[int, int], cut: str, compression: int) -> None:
    path = ycbcr_tiff(tmp_path / "a.tif", picture(41, 51)[1:, 1:], factors, cut, compression, (530, 3, factors))
    image = load_image(path)
    assert worst(image, picture(41, 51)[1:, 1:]) <= (2 if factors == (1, 1) else 16)
    assert probe(path).notes == ("YCbCr converted to RGB",)
    if compression == 5 and factors in {(1, 1), (2, 1), (2, 2), (4, 2)}:  # libtiff reads the others otherwise
        with Image.open(path) as other:
            assert worst(image, np.asarray(other.convert("RGB"))) <= 3


@pytest.mark.parametrize("factors", [(1, 1), (2, 2)])
@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_ycbcr_without_a_tag_of_its_subsampling(tmp_path: Path, factors: tuple[int, int], compression: int) -> None:
    path = ycbcr_tiff(tmp_path / "a.tif", picture()[1:, 1:], factors, "strips", compression)
    assert worst(load_image(path), picture()[1:, 1:]) <= (2 if factors == (1, 1) else 16)


@pytest.mark.parametrize(("luma", "ranges"), [(BT709, FULL), (BT601, STUDIO), (BT709, STUDIO)])
def test_ycbcr_by_its_own_luminance_and_ranges(
    tmp_path: Path, luma: tuple[float, ...], ranges: tuple[float, ...]
) -> None:
    more = [(529, 5, [(round(10000 * x), 10000) for x in luma]), (530, 3, [1, 1]), (532, 5, [(x, 1) for x in ranges])]
    stored = to_ycbcr(picture(), luma, ranges)
    path = write_tiff(tmp_path / "a.tif", tags_of(40, 50, [8] * 3, 6, *more), [stored.tobytes()])
    assert worst(load_image(path), picture()) <= 4


def test_ycbcr_in_planes_and_with_a_predictor(tmp_path: Path) -> None:
    stored = to_ycbcr(picture())
    for name, data, options in (
        ("planes.tif", np.moveaxis(stored, -1, 0), {"planarconfig": "separate", "compression": "zlib"}),
        ("predictor.tif", stored, {"compression": "lzw", "predictor": True}),
        ("raw_jpeg2000.tif", stored, {"compression": 33003}),
    ):
        path = save_tiff(tmp_path / name, data, photometric="ycbcr", **options)
        assert worst(load_image(path), picture()) <= 2


def test_damaged_ycbcr_is_a_sentence(tmp_path: Path) -> None:
    path = ycbcr_tiff(tmp_path / "a.tif", picture(), (2, 2), "strip", 5, (530, 3, [2, 2]))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match="truncated"):
        load_image(path)
    short = units(to_ycbcr(picture()), 2, 2)[:-9]
    write_tiff(tmp_path / "b.tif", tags_of(40, 50, [8] * 3, 6, (530, 3, [2, 2])), [short])
    write_tiff(tmp_path / "c.tif", tags_of(40, 50, [8] * 3, 6, (530, 3, [3, 7])), [short])
    with pytest.raises(InputError, match="truncated"):
        load_image(tmp_path / "b.tif")
    with pytest.raises(InputError, match="3 x 7 subsampling is not supported"):
        load_image(tmp_path / "c.tif")


@pytest.mark.parametrize("model", ["cielab", "icclab"])
@pytest.mark.parametrize("bits", [8, 16])
def test_lab_agrees_with_little_cms(tmp_path: Path, model: str, bits: int) -> None:
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    stored = np.asarray(ImageCms.profileToProfile(Image.fromarray(picture()), srgb, lab, outputMode="LAB"))
    signed = np.dstack([stored[..., 0].astype(int), stored[..., 1:].view(np.int8)])
    if model == "icclab":
        values = (signed + np.array([0, 128, 128])) * (1 if bits == 8 else 256)
    else:
        values = signed * np.array([1, 1, 1] if bits == 8 else [257, 256, 256]) % (1 << bits)
    path = save_tiff(tmp_path / "a.tif", values.astype(f"uint{bits}"), photometric=model)
    assert worst(load_image(path), picture()) <= 8


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("largest", [255, 65535])
def test_palette_of_8_and_of_16_bits(tmp_path: Path, bits: int, largest: int) -> None:
    count = 1 << bits
    colours = np.random.default_rng(bits).integers(0, 256, (count, 3), dtype=np.uint8)
    colours[-1] = 255
    index = np.random.default_rng(1).integers(0, count, (40, 50)).astype(np.uint16)
    table = (320, 3, (colours.T.astype(int) * (largest // 255)).ravel().tolist())
    path = write_tiff(tmp_path / "a.tif", tags_of(40, 50, [bits], 3, table), [packed(index, bits)])
    np.testing.assert_array_equal(load_image(path), colours[index])
    assert probe(path).notes == (("palette of 8 bits",) if largest == 255 else ())


def test_inks_of_16_bits_are_measured_against_16_bits(tmp_path: Path) -> None:
    pale = np.asarray(Image.fromarray(picture()).convert("CMYK")) // 64
    with_alpha = np.dstack([pale, np.full((40, 50), 255, np.uint8)])
    right = np.asarray(Image.fromarray(pale, mode="CMYK").convert("RGB"))
    deep = save_tiff(tmp_path / "a.tif", pale.astype(np.uint16) * 257, photometric="separated")
    opaque = save_tiff(tmp_path / "b.tif", with_alpha, photometric="separated", extrasamples=["unassalpha"])
    assert worst(load_image(deep), right) <= 2
    assert worst(load_image(opaque), right) <= 2


def test_grey_channels_without_a_model_are_colours_if_they_are_three(tmp_path: Path) -> None:
    planes = np.moveaxis(picture(), -1, 0)
    three = save_tiff(tmp_path / "a.tif", planes, photometric="minisblack", planarconfig="separate")
    two = save_tiff(tmp_path / "b.tif", planes[:2], photometric="minisblack", planarconfig="separate")
    five = save_tiff(tmp_path / "c.tif", np.stack([grey()] * 5), photometric="minisblack", planarconfig="separate")
    assert worst(load_image(three), picture()) == 0
    assert probe(three).notes == ("grey channels taken as red, green, blue",)
    assert worst(load_image(two), rgb_of(picture()[..., 0])) == 0
    assert probe(two).notes == ("first of 2 channels",)
    with pytest.raises(InputError, match="5 channels without a colour model"):
        load_image(five)


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.webp", "a.jp2", "grey.png", "palette.png", "deep.png", "v4.bmp"])
def test_an_alpha_of_0_everywhere_is_left_out_and_said(tmp_path: Path, name: str) -> None:
    clear, right = np.zeros((40, 50), np.uint8), picture()
    path = tmp_path / name
    if name == "grey.png":
        right = rgb_of(grey())
        Image.fromarray(np.dstack([grey(), clear])).save(path)
    elif name == "palette.png":
        image = Image.fromarray(picture()).quantize(16)
        right = np.asarray(image.convert("RGB"))
        image.save(path, transparency=bytes(16))
    elif name == "deep.png":
        path.write_bytes(imagecodecs.png_encode(np.dstack([right, clear]).astype(np.uint16) * 257))
    elif name == "v4.bmp":
        path.write_bytes(bmp_of_32_bits(np.dstack([right, clear])))
    else:
        options = {"lossless": True, "exact": True} if name == "a.webp" else {}
        Image.fromarray(np.dstack([right, clear])).save(path, **options)
    assert worst(load_image(path), right) <= 1
    assert "alpha hides the whole picture and was left out" in probe(path).notes


def bmp_of_32_bits(rgba: np.ndarray) -> bytes:
    """With the header (BITMAPV4HEADER) that says where the opacity is."""
    height, width = rgba.shape[:2]
    pixels = np.ascontiguousarray(rgba[::-1, :, [2, 1, 0, 3]]).tobytes()
    numbers = [(108, 4), (width, 4), (height, 4), (1, 2), (32, 2), (3, 4), (len(pixels), 4), (0, 16)]
    numbers += [(0xFF0000, 4), (0xFF00, 4), (0xFF, 4), (0xFF000000, 4)]
    header = b"".join(value.to_bytes(size, "little") for value, size in numbers) + b"BGRs" + bytes(48)
    start = 14 + len(header)
    return b"BM" + b"".join(n.to_bytes(4, "little") for n in (start + len(pixels), 0, start)) + header + pixels


@pytest.mark.parametrize("premultiplied", [False, True])
def test_half_transparent_colours_on_white(tmp_path: Path, premultiplied: bool) -> None:
    alpha = np.linspace(0, 255, 50).astype(np.uint8)[None].repeat(40, 0)[..., None]
    right = np.rint(picture() * (alpha / 255) + 255 - alpha)
    stored = np.rint(picture() * (alpha / 255)).astype(np.uint8) if premultiplied else picture()
    extra = ["assocalpha" if premultiplied else "unassalpha"]
    path = save_tiff(tmp_path / "a.tif", np.dstack([stored, alpha]), photometric="rgb", extrasamples=extra)
    assert worst(load_image(path), right) <= 1

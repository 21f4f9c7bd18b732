"""Which files of a folder are looked at, and what is noticed of them when they change."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cytosae.cells import check_dataset, read_cells
from cytosae.cells.layouts.folders import folder_labels
from cytosae.cells.reading import listing_fingerprint
from cytosae.cells.scan import scan_folder
from cytosae.common.errors import InputError

Put = Callable[..., Path]


def test_a_folder_is_entered_once_and_by_its_own_name(put: Put, tmp_path: Path) -> None:
    put("set/z/1.png")
    put("set/.store/2.png")
    put("elsewhere/deep/3.png")
    for link, target in {
        "a": "z", "b": ".store", "c": "../elsewhere", "d": "../elsewhere/deep", "self": "self", "z/up": "..",
        "top": str(tmp_path), "gone": "/nowhere",
    }.items():  # fmt: skip
        (tmp_path / "set" / link).symlink_to(target)
    scan = scan_folder(tmp_path / "set")
    assert scan.images == ("b/2.png", "c/deep/3.png", "z/1.png")


def refuse(monkeypatch: pytest.MonkeyPatch, folder: str) -> None:
    """Folders of this name may not be listed, whoever runs the tests."""
    plain = os.scandir

    def scandir(path: Any) -> Any:
        if str(path).endswith(f"/{folder}"):
            raise PermissionError(13, "Permission denied", str(path))
        return plain(path)

    monkeypatch.setattr(os, "scandir", scandir)


def test_a_folder_that_cannot_be_listed_is_named_and_counted(
    put: Put, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(12):
        put(f"set/blast/{number}.png")
        put(f"set/mono/{number}.png")
    refuse(monkeypatch, "mono")
    cells = read_cells(tmp_path / "set")
    assert cells.labels == ["blast"]
    assert cells.skipped.to_numpy().tolist() == [["mono/", "a folder that cannot be listed (Permission denied)"]]
    assert any("mono/ (a folder that cannot be listed" in remark for remark in cells.remarks)
    findings = [finding for finding in check_dataset(tmp_path / "set").findings if finding.wrong]
    assert [finding.files for finding in findings] == [("mono/",)]
    with pytest.raises(InputError, match=r"1 of 13 images .* unusable, more than the allowed 5% \(mono/: a folder"):
        read_cells(tmp_path / "set", max_unusable=0.05)


def test_nothing_but_a_folder_that_cannot_be_listed_is_a_sentence(
    put: Put, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put("set/mono/1.png")
    refuse(monkeypatch, "mono")
    with pytest.raises(InputError, match=r"holds no images \(mono/ cannot be listed \(Permission denied\)\); give"):
        read_cells(tmp_path / "set")
    with pytest.raises(InputError, match=r"mono cannot be listed \(Permission denied\); check its permissions"):
        read_cells(tmp_path / "set" / "mono")


def test_pictures_of_studies_are_no_cells(put: Put, tmp_path: Path) -> None:
    put("blast/1.png")
    put("mono/1.png")
    before = listing_fingerprint(tmp_path)
    for name in ("my_study/study.toml", "my_study/sweep/artifact.json", "sae/artifact.json", "study.toml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    for name in ("my_study/sweep/sweep.png", "my_study/x.png", "sae/sweep.png"):
        put(name)
    (tmp_path / "contrasts.parquet").write_bytes(b"")
    (tmp_path / "contrasts.parquet.artifact.json").write_text("")
    (tmp_path / "report.html").write_text("")
    cells = read_cells(tmp_path)
    assert cells.frame["image"].tolist() == ["blast/1.png", "mono/1.png"]
    assert "my_study/ belongs to a study of cytosae and is passed over." in cells.notes
    assert listing_fingerprint(tmp_path) == before


CHANGES: dict[str, Callable[[Path, Put], object]] = {
    "an image behind a linked folder": lambda _, put: put("store/3.png"),
    "an image changed behind a linked folder": lambda path, _: os.utime(path / "store/1.png", ns=(1, 1)),
    "an image changed behind a link": lambda path, _: os.utime(path / "single.png", ns=(1, 1)),
    "a mask": lambda _, put: put("set/masks/link/1.png", mode="L"),
    "a table": lambda path, _: (path / "set/metadata.csv").write_text("x"),
    "a link that led nowhere": lambda _, put: put("later.png"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_reading_sees_is_noticed(put: Put, tmp_path: Path, change: str) -> None:
    for name in ("store/1.png", "set/blast/2.png", "single.png"):
        put(name)
    (tmp_path / "set/link").symlink_to(tmp_path / "store")
    (tmp_path / "set/link_2.png").symlink_to(tmp_path / "single.png")
    (tmp_path / "set/link_3.png").symlink_to(tmp_path / "later.png")
    before = listing_fingerprint(tmp_path / "set")
    assert listing_fingerprint(tmp_path / "set") == before
    CHANGES[change](tmp_path, put)
    assert listing_fingerprint(tmp_path / "set") != before


def test_what_reading_does_not_see_changes_nothing(put: Put, tmp_path: Path) -> None:
    put("set/blast/2.png")
    before = listing_fingerprint(tmp_path / "set")
    (tmp_path / "set/blast/Thumbs.db").write_bytes(b"x")
    put("set/.hidden/2.png")
    (tmp_path / "set/round").symlink_to(tmp_path / "set")
    assert listing_fingerprint(tmp_path / "set") == before


def test_of_a_manifest_its_images_are_noticed_and_nothing_else(put: Put, tmp_path: Path) -> None:
    put("images/.deep/1.png")
    put("masks/1.png", mode="L")
    table = tmp_path / "table.csv"
    table.write_text("image,mask\n.deep/1.png,\n.deep/2.png,\n")
    moved = {"images_root": tmp_path / "images"}
    before = listing_fingerprint(table, **moved)
    put("other.png")
    put("images/3.png")
    (tmp_path / "study.toml").write_text("")
    assert listing_fingerprint(table, **moved) == before
    put("images/.deep/2.png")
    now = listing_fingerprint(table, **moved)
    assert now != before
    table.write_text("image,label\n.deep/1.png,x\n")
    assert listing_fingerprint(table, **moved) not in (before, now)


@pytest.mark.parametrize("name", [b"blast/M\xfcller.png", b"Promyeloz\xfct/1.png", b"notes\xe4.csv"])
def test_a_name_that_is_not_utf8_is_a_sentence(put: Put, tmp_path: Path, name: bytes) -> None:
    put("blast/1.png")
    path = tmp_path / os.fsdecode(name)
    path.parent.mkdir(exist_ok=True)
    put("x.png").rename(path)
    with pytest.raises(
        InputError, match=r"holds .*\\x[ef].*a name that is not UTF-8 \(perhaps .*[üä].*\); rename it"
    ) as caught:
        read_cells(tmp_path)
    str(caught.value).encode()


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("images/a/1.jpg", "masks/a/1.png"),
        ("images/a/1.png", "masks/a/1.tif"),
        ("a/1.png", "masks/a/1.bmp"),
        ("a/1.png", "a/masks/1.png"),
        ("images/a/1.png", "masks/a/1_mask.png"),
        ("a/1.jpg", "a/1_mask.png"),
        ("1.png", "1-Mask.TIF"),
        ("a/1.v2.png", "a/1.v2.mask.bmp"),
        ("set/images/1.jpg", "set/mask/1.tiff"),
        ("images/1.jpg", "Masks/1.png"),
        ("images/Mu\u0308/1.jpg", "masks/M\u00fc/1.png"),
    ],
)
def test_a_mask_belongs_to_the_image_of_its_place_whatever_its_suffix(
    put: Put, tmp_path: Path, image: str, mask: str
) -> None:
    put(image)
    put(mask, mode="L")
    scan = scan_folder(tmp_path)
    assert scan.images == (image,)
    assert scan.mask_of(image) == mask
    assert scan.mask_of(image.replace("1.", "2.")) is None


def test_of_several_masks_the_one_called_alike_is_taken(put: Put, tmp_path: Path) -> None:
    for name in ("images/1.tif", "images/2.jpg", "images/3.jpg"):
        put(name)
    for name in ("1.tif", "1.png", "2.tif", "2.png", "3.tif", "3.bmp"):
        put(f"masks/{name}", mode="L")
    scan = scan_folder(tmp_path)
    assert [scan.mask_of(image) for image in scan.images] == ["masks/1.tif", "masks/2.png", None]
    assert "4 images in folders for masks belong to no image" in read_cells(tmp_path).notes[0]


FOLDERS: dict[str, dict[str, str | None]] = {
    "splits of numbers": {"train/0": "0", "train/1": "1", "test/0": "0", "test/1": "1"},
    "numbers": {"0": "0", "1": "1", "2": "2"},
    "numbers in a download": {"my_cells/0": "0", "my_cells/1": "1"},
    "numbers in holders": {"dataset/Training_Set/07/images": "07", "dataset/validation/8/images": "8"},
    "folds of numbers": {"fold1/0": "0", "fold1/1": "1", "fold_2/0": "0"},
    "numbers with ranges": {"3/0001-1000": "3", "4/0001-1000": "4"},
    "a number beside a name": {"0": "0", "blast": "blast"},
    "BMC": {"MYB/0001-1000": "MYB", "MYB/1001-2000": "MYB", "FGC": "FGC"},
    "BMC with one class": {"MYB/0001-1000": "MYB"},
    "batches of classes": {"blast/1": "blast", "blast/2": "blast", "mono/1": "mono"},
    "batches of one known class": {"blast/1": "blast", "blast/2": "blast"},
    "codes with digits": {"01_blast": "01_blast", "1a": "1a", "2": "2"},
    "splits of names": {"train/blast": "blast", "val/mono": "mono", "TEST/blast": "blast"},
    "splits without classes": {"train": None, "test": None},
    "a class called data": {"data": "data", "blast": "blast"},
    "a class called cells, in splits": {"train/cells": "cells", "train/blast": "blast", "test/cells": "cells"},
    "a class called test": {"test": "test", "blast": "blast", "mono": "mono"},
    "images of classes": {"blast/images": "blast", "mono/images": "mono"},
    "images of one folder": {"download/images": None},
    "slides of classes": {"blast/slide1": "blast", "mono/slide1": "mono", "mono/slide2": "mono"},
    "slides alone": {"slide1": "slide1", "slide2": "slide2"},
    "patients of one download": {"download/patient_1": "patient_1", "download/patient_2": "patient_2"},
    "one number": {"7": None},
    "nothing": {"": None},
    "deep classes": {"a/neutrophil": "neutrophil", "b/c/monocyte": "monocyte", "": None},
}


@pytest.mark.parametrize("case", FOLDERS)
def test_labels_are_what_folders_say_of_cells(case: str) -> None:
    folders = FOLDERS[case]
    images = [f"{folder}/x.png".removeprefix("/") for folder in folders]
    assert dict(zip(folders, folder_labels(images), strict=True)) == folders

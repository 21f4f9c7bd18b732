from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from cytosae.cells import CellTable, read_cells
from cytosae.common.errors import ArtifactError, InputError, UsageError

Put = Callable[..., Path]


def test_class_folders_at_any_depth(put: Put, tmp_path: Path) -> None:
    for name in ("a/neutrophil/1.png", "a/neutrophil/2.png", "b/c/monocyte/1.jpg", "monocyte/0001-1000/3.tif", "x.png"):
        put(name)
    cells = read_cells(tmp_path, name="my set")
    assert cells.name == "my_set"
    assert cells.frame["image"].tolist() == sorted(cells.frame["image"])
    labels = dict(zip(cells.frame["image"], cells.frame["label"], strict=True))
    assert labels["a/neutrophil/1.png"] == "neutrophil"
    assert labels["b/c/monocyte/1.jpg"] == labels["monocyte/0001-1000/3.tif"] == "monocyte"
    assert labels["x.png"] is pd.NA
    assert cells.labels == ["monocyte", "neutrophil"]
    assert cells.layout == "class folders (2 labels)"


def test_columns_and_identity(put: Put, tmp_path: Path) -> None:
    path = put("basophil/1.png")
    frame = read_cells(tmp_path).frame
    assert list(frame) == [
        *("cell_id", "image", "label", "patient", "diagnosis", "mask", "width", "height", "status", "cell_type")
    ]
    assert frame["cell_id"][0] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert frame.loc[0, ["width", "height", "status", "cell_type"]].tolist() == [16, 12, "ok", "basophil"]
    assert frame[["patient", "diagnosis", "mask"]].isna().all(axis=None)


@pytest.mark.parametrize("folder", ["", "images/", "0001-1000/"])
def test_flat_folder_has_no_labels(put: Put, tmp_path: Path, folder: str) -> None:
    put(f"{folder}1.png")
    cells = read_cells(tmp_path)
    assert cells.labels == []
    assert cells.layout == "flat folder (no labels)"


def test_litter_and_other_tables_are_ignored(put: Put, tmp_path: Path) -> None:
    put("blast/1.png")
    for litter in ("__MACOSX/blast/1.png", "blast/._1.png", ".hidden/2.png", "blast/.3.png", "@eaDir/4.png"):
        put("blast/tmp.png").rename((tmp_path / litter).parent.mkdir(parents=True, exist_ok=True) or tmp_path / litter)
    for other in ("blast/Thumbs.db", "blast/.DS_Store", "README.txt", "attributes.csv", "master.csv"):
        (tmp_path / other).write_text("image,label\nnowhere.png,x\n")
    cells = read_cells(tmp_path)
    assert cells.frame["image"].tolist() == ["blast/1.png"]
    assert cells.skipped.empty


def test_masks_beside_images_are_masks_and_no_cells(put: Put, tmp_path: Path) -> None:
    put("images/a/1.jpg")
    put("images/a/2.png")
    put("masks/a/1.png", mode="1")
    (tmp_path / "masks/a/2.png").write_bytes(b"")
    cells = read_cells(tmp_path)
    assert cells.frame["image"].tolist() == ["images/a/1.jpg", "images/a/2.png"]
    assert cells.mask_path(0) == tmp_path / "masks/a/1.png"
    assert cells.mask_path(1) is None
    assert cells.frame["status"][1] == "mask not used: masks/a/2.png: empty file (0 bytes)"


def test_bad_files_are_skipped_with_the_reason_and_the_run_goes_on(put: Put, tmp_path: Path) -> None:
    for number in range(10):
        put(f"a/{number}.png")
    (tmp_path / "a/bad.jpg").write_bytes(b"nothing")
    cells = read_cells(tmp_path)
    assert len(cells) == 10
    assert cells.skipped.to_numpy().tolist() == [["a/bad.jpg", "not an image that can be read (unknown content)"]]
    with pytest.raises(
        InputError, match=r"1 of 11 images .* more than the allowed 5% \(a/bad\.jpg: not an image.*raise max"
    ):
        read_cells(tmp_path, max_unusable=0.05)


def test_nothing_usable_is_an_error_whatever_is_allowed(tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"nothing")
    with pytest.raises(InputError, match="1 of 1 images"):
        read_cells(tmp_path, max_unusable=1.0)


def test_exact_copies_are_kept_once_and_reported(put: Put, tmp_path: Path) -> None:
    put("a/1.png", seed=1)
    put("a/2.png", seed=1)
    put("b/1.png", seed=1)
    put("b/2.png", seed=2)
    cells = read_cells(tmp_path)
    assert cells.frame["image"].tolist() == ["a/1.png", "b/2.png"]
    assert cells.duplicates["dropped"].tolist() == ["a/2.png", "b/1.png"]
    assert cells.duplicates["labels_differ"].tolist() == [False, True]
    assert cells.duplicates["dropped_label"].tolist() == ["a", "b"]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 3)), min_size=1, max_size=8))
def test_every_file_is_kept_or_a_copy_of_a_kept_one(
    tmp_path_factory: pytest.TempPathFactory, content: list[tuple[str, int]]
) -> None:
    root = tmp_path_factory.mktemp("cells")
    for number, (label, value) in enumerate(content):
        (root / label).mkdir(exist_ok=True)
        Image.new("L", (4, 4), value).save(root / label / f"{number}.png")
    cells = read_cells(root, workers=1)
    assert cells.frame["cell_id"].is_unique
    assert len(cells) == len({value for _, value in content})
    assert len(cells) + len(cells.duplicates) == len(content)
    assert set(cells.duplicates["kept"]) <= set(cells.frame["image"])
    assert set(cells.duplicates["cell_id"]) <= set(cells.frame["cell_id"])
    again = read_cells(root, workers=2)
    assert again.fingerprint == cells.fingerprint


def test_links_are_followed_and_their_cycles_cut(put: Put, tmp_path: Path) -> None:
    put("store/1.png")
    (tmp_path / "set/blast").mkdir(parents=True)
    (tmp_path / "set/blast/link.png").symlink_to(tmp_path / "store/1.png")
    (tmp_path / "set/blast/round").symlink_to(tmp_path / "set")
    (tmp_path / "set/blast/dangling.png").symlink_to(tmp_path / "gone.png")
    cells = read_cells(tmp_path / "set", max_unusable=0.5)
    assert cells.frame["image"].tolist() == ["blast/link.png"]
    assert cells.skipped["reason"].tolist() == ["file not found"]


def test_saved_table_reads_back_equal(put: Put, tmp_path: Path) -> None:
    for number in range(10):
        put(f"set/a/{number}.png", seed=number % 9)
    (tmp_path / "set/a/bad.png").write_bytes(b"")
    cells = read_cells(tmp_path / "set")
    cells.save(tmp_path / "saved")
    loaded = CellTable.load(tmp_path / "saved")
    pd.testing.assert_frame_equal(loaded.frame, cells.frame)
    pd.testing.assert_frame_equal(loaded.duplicates, cells.duplicates)
    assert loaded.skipped.to_numpy().tolist() == cells.skipped.to_numpy().tolist()
    assert (loaded.name, loaded.layout, loaded.fingerprint) == (cells.name, cells.layout, cells.fingerprint)
    assert loaded.image_path(3).is_file()
    assert len(pd.read_parquet(tmp_path / "saved/cells.parquet")) == 9
    assert pd.read_csv(tmp_path / "saved/skipped.csv")["reason"].tolist() == ["empty file (0 bytes)"]


def test_moved_images_are_a_sentence_and_root_overrides(put: Put, tmp_path: Path) -> None:
    put("set/a/1.png")
    read_cells(tmp_path / "set").save(tmp_path / "saved")
    (tmp_path / "set").rename(tmp_path / "moved")
    with pytest.raises(InputError, match=r"set, the folder of the images of 'set', is not there any more; .*root="):
        CellTable.load(tmp_path / "saved").image_path(0)
    assert CellTable.load(tmp_path / "saved", root=tmp_path / "moved").image_path(0).is_file()


def test_damaged_table_is_refused(put: Put, tmp_path: Path) -> None:
    put("set/a/1.png")
    read_cells(tmp_path / "set").save(tmp_path / "saved")
    (tmp_path / "saved/cells.parquet").write_bytes(b"x")
    with pytest.raises(ArtifactError, match=r"cells\.parquet differs from its recorded checksum"):
        CellTable.load(tmp_path / "saved")


def test_fingerprint_knows_labels_and_order_but_not_the_place(put: Put, tmp_path: Path) -> None:
    for number in range(3):
        put(f"set/a/{number}.png")
    first = read_cells(tmp_path / "set")
    shutil.copytree(tmp_path / "set", tmp_path / "other")
    assert read_cells(tmp_path / "other").fingerprint == first.fingerprint
    assert first.subset([2, 1, 0]).fingerprint != first.fingerprint
    assert first.subset(np.array([True, False, True])).frame["image"].tolist() == ["a/0.png", "a/2.png"]
    (tmp_path / "other/a").rename(tmp_path / "other/b")
    assert read_cells(tmp_path / "other").fingerprint != first.fingerprint


# Input that cannot be read: what is there -> the promised sentence.
MANIFESTS = {
    "empty": (b"", r"manifest\.csv is empty; the columns are image"),
    "only a header": (b"image,label\n", r"manifest\.csv lists no images; add a row"),
    "no image column": (
        b"file,label\na.png,x\n",
        r"manifest\.csv has no column 'image' \(it has: file, label\); the columns",
    ),
    "column twice": (
        b"image,label,label\na.png,x,y\n",
        r"manifest\.csv has the column 'label' twice; remove or rename",
    ),
    "two encodings": (
        "image,label\na.png,Bläst\n".encode() + b"b.png,Bl\xe4st\n",
        r"manifest\.csv is not UTF-8 text \(it is UTF-8 in part, but not in row 3\); save it as CSV with",
    ),
    "no encoding": (b"image,label\na.png,\x81\x8d\n", r"is not UTF-8 text, nor Windows-1252 \(row 2\); save it as CSV"),
    "half of UTF-16": (
        "image,label\na.png,x\n".encode("utf-16")[:-1],
        r"manifest\.csv is damaged UTF-16 text; save it",
    ),
    "old Excel": (
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
        r"manifest\.csv is a workbook of an old Excel .*; save it as \.xlsx",
    ),
    "binary": (b"\0\1\2\3\n", r"manifest\.csv is no text file .*; save it as CSV"),
    "too many values": (
        b"image,label\na.png,Blast, no lineage\n",
        r"manifest\.csv has 3 values in row 2 .* need quotes",
    ),
    "open quote": (b'image,label\n"a.png,x\n', r"manifest\.csv cannot be read as CSV .*; save it again"),
    "all missing": (b"image\ngone.png\n", r"1 of 1 images of .*manifest\.csv are unusable.*gone\.png: file not found"),
    "outside": (b"image\n../secret.png\n", r"\.\./secret\.png: outside the manifest's folder \(put the manifest into"),
    "no name": (b"image,label\n,x\n", r"no image is named in row 2 of manifest\.csv"),
}


@pytest.mark.parametrize("case", MANIFESTS)
def test_faulty_manifest_gives_one_sentence_that_names_file_and_mend(put: Put, tmp_path: Path, case: str) -> None:
    content, sentence = MANIFESTS[case]
    put("set/a.png")
    put("secret.png")
    (tmp_path / "set/manifest.csv").write_bytes(content)
    with pytest.raises(InputError, match=sentence) as caught:
        read_cells(tmp_path / "set")
    assert "\n" not in str(caught.value)
    assert sorted(p.name for p in (tmp_path / "set").iterdir()) == ["a.png", "manifest.csv"]


PATHS = {
    "missing": (lambda t: t / "gone", "gone does not exist; give a folder of cell images"),
    "an image": (lambda t: t / "one.png", r"one\.png is a single image; give a folder"),
    "another file": (lambda t: t / "notes.txt", r"notes\.txt is no manifest; give a folder"),
    "no arrays": (lambda t: t / "bloodmnist.npz", r"bloodmnist\.npz cannot be read as a MedMNIST archive"),
    "no images": (lambda t: t / "nothing", "nothing holds no images; give a folder of image files"),
    "two manifests": (lambda t: t / "two", r"two holds both manifest\.csv and manifest\.parquet; give the path"),
    "bad parquet": (lambda t: t / "bad.parquet", r"bad\.parquet cannot be read as Parquet; write it again"),
}


@pytest.mark.parametrize("case", PATHS)
def test_path_that_cannot_be_read_gives_one_sentence(put: Put, tmp_path: Path, case: str) -> None:
    put("one.png")
    (tmp_path / "nothing").mkdir()
    (tmp_path / "two").mkdir()
    for name in ("notes.txt", "bloodmnist.npz", "bad.parquet", "two/manifest.csv", "two/manifest.parquet"):
        (tmp_path / name).write_text("x")
    where, sentence = PATHS[case]
    with pytest.raises(InputError, match=sentence):
        read_cells(where(tmp_path))


def test_wrong_options_are_usage_errors(put: Put, tmp_path: Path) -> None:
    put("a/1.png")
    with pytest.raises(UsageError, match="there is no layout 'nonsense'; choose one of: manifest, folders"):
        read_cells(tmp_path, layout="nonsense")
    with pytest.raises(UsageError, match="max_unusable is 10; give a share"):
        read_cells(tmp_path, max_unusable=10)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_manifest_keeps_order_text_and_further_columns(put: Put, tmp_path: Path, kind: str) -> None:
    put("x/b.png")
    put("x/a.png")
    put("masks/b.png", mode="1")
    table = pd.DataFrame(
        {
            "Image": ["x/b.png", "x\\a.png"],
            "label": ["NA", "None"],
            "patient": ["007", "008"],
            "mask": ["masks/b.png", ""],
            "age": [61, 7],
            "code": ["01", "02"],
            "width": [1, 1],
        }
    )
    path = tmp_path / f"manifest.{kind}"
    table.to_csv(path, index=False, encoding="utf-8-sig") if kind == "csv" else table.to_parquet(path)
    cells = read_cells(tmp_path)
    assert cells.layout == f"manifest (manifest.{kind})"
    assert cells.frame["image"].tolist() == ["x/b.png", "x/a.png"]
    assert cells.frame["label"].tolist() == ["NA", "None"]
    assert cells.frame["patient"].tolist() == ["007", "008"]
    assert cells.frame["age"].tolist() == [61, 7]
    assert cells.frame["code"].tolist() == ["01", "02"]
    assert cells.frame["width"].tolist() == [16, 16]
    assert cells.mask_path(0) == tmp_path / "masks/b.png"
    assert cells.mask_path(1) is None
    pd.testing.assert_frame_equal(read_cells(path).frame, cells.frame)
    assert read_cells(tmp_path, layout="folders").layout == "class folders (1 labels)"


def test_mask_outside_or_of_another_size_is_not_used_and_said(put: Put, tmp_path: Path) -> None:
    put("set/a.png")
    put("set/b.png")
    put("secret.png", mode="L")
    Image.new("L", (3, 4)).save(tmp_path / "set/small.png")
    (tmp_path / "set/manifest.csv").write_text("image,mask\na.png,../secret.png\nb.png,small.png\n")
    cells = read_cells(tmp_path / "set")
    assert cells.frame["mask"].isna().all()
    assert cells.frame["status"].str.startswith("mask not used: ").all()
    assert cells.frame["status"].str.contains("outside the manifest|it is 3 x 4 px, the image 16 x 12").all()


def test_like_notes_on_images_are_said_together(put: Put, tmp_path: Path) -> None:
    for number in range(3):
        put(f"images/{number}.png")
        Image.new("L", (3, 4)).save((tmp_path / "masks").mkdir(exist_ok=True) or tmp_path / f"masks/{number}.png")
    Image.new("RGB", (9, 9)).save(
        tmp_path / "images/3.gif", save_all=True, append_images=[Image.new("RGB", (9, 9), "red")]
    )
    remarks = read_cells(tmp_path).remarks
    assert remarks[0].startswith("4 cells, read as flat folder (no labels): no labels; no patients; no masks.")
    words = "mask not used: it is 3 x 4 px, the image 16 x 12"
    assert remarks[1:] == [f"3 images: {words} (images/0.png, ...).", "1 image: first page of 2 (images/3.gif)."]


def test_manifest_row_without_its_file_is_skipped(put: Put, tmp_path: Path) -> None:
    put("a.png")
    (tmp_path / "list.csv").write_text("image,label\na.png,x\nb.png,y\n")
    cells = read_cells(tmp_path / "list.csv", max_unusable=0.5)
    assert cells.name == "list"
    assert cells.skipped.to_numpy().tolist() == [["b.png", "file not found"]]


SHARED = {
    "acevedo": (2503, 0, "Acevedo", 8),
    "apl_cohort": (4100, 3, "manifest", 17),
    "tecom_wbc": (199, 0, "manifest", 4),
    "cellavision_wbc": (70, 0, "manifest", 5),
    "bccd_cells": (462, 0, "manifest", 8),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SHARED)
def test_shared_folder_is_read_completely(shared_data: Path, name: str) -> None:
    files, broken, layout, labels = SHARED[name]
    cells = read_cells(shared_data / name)
    assert len(cells) + len(cells.duplicates) + len(cells.skipped) == files
    assert len(cells.skipped) == broken
    assert cells.skipped["reason"].str.contains("truncated").all()
    assert cells.layout.startswith(layout)
    assert len(cells.labels) == labels
    assert (len(cells.duplicates) > 0) == (name == "acevedo")
    masked = name in {"tecom_wbc", "cellavision_wbc"}
    assert cells.frame["mask"].notna().to_numpy().all() == masked

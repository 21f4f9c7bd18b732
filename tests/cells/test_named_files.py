"""Images that a manifest calls otherwise than their files: by another machine's path, another case or Unicode form."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cytosae.cells import read_cells
from cytosae.common.errors import InputError, UsageError

Put = Callable[..., Path]


def listed(tmp_path: Path, *rows: str, header: str = "image") -> Path:
    path = tmp_path / "set" / "manifest.csv"
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


SPELLINGS = {
    "suffix in another case": ("img/1.tif", "img/1.TIF"),
    "name in another case": ("IMG/A.png", "img/a.PNG"),
    "no suffix": ("img/1", "img/1.png"),
    "composed": ("M\u00fc/\u00e4.png", "Mu\u0308/a\u0308.png"),
    "decomposed": ("Mu\u0308/a\u0308.png", "M\u00fc/\u00e4.png"),
    "backslashes": ("img\\1.png", "img/1.png"),
    "dots": ("./img/../img/1.png", "img/1.png"),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_the_one_file_that_is_meant_is_found(put: Put, tmp_path: Path, spelling: str) -> None:
    text, file = SPELLINGS[spelling]
    put(f"set/{file}")
    listed(tmp_path, text)
    cells = read_cells(tmp_path / "set")
    assert cells.frame["image"].tolist() == [file]
    said = [note for note in cells.notes if "found under another spelling" in note]
    assert len(said) == (spelling not in {"backslashes", "dots"})


def test_where_two_files_may_be_meant_none_is_taken(put: Put, tmp_path: Path) -> None:
    for name in ("set/a.png", "set/A.png", "set/1.png", "set/1.tif", "set/e\u0301.png", "set/\u00e9.png"):
        put(name)
    listed(tmp_path, "a.PNG", "1", "e\u0301.png", "\u00e9.png", "A.png")
    cells = read_cells(tmp_path / "set", max_unusable=0.5)
    assert cells.skipped["path"].tolist() == ["a.PNG", "1"]
    assert cells.frame["image"].tolist() == ["e\u0301.png", "\u00e9.png", "A.png"]


@pytest.mark.parametrize(
    "start", ["/mnt/other", "C:\\Users\\lab", "\\\\server\\share", "file:///mnt/my%20data", "../there"]
)
@pytest.mark.parametrize("root", ["moved", "moved/cells", "moved/cells/deep"])
def test_images_of_another_machine_are_found_below_images_root(put: Put, tmp_path: Path, start: str, root: str) -> None:
    for name in ("p1/1.png", "p2/1.png"):
        put(f"moved/cells/deep/{name}")
    put("moved/masks/1.png", mode="1")
    slash = "\\" if "\\" in start else "/"
    rows = [slash.join([start, "cells", "deep", patient, "1.png"]) for patient in ("p1", "p2")]
    path = listed(tmp_path, *rows)
    cells = read_cells(path, images_root=tmp_path / root)
    assert [cells.image_path(row) for row in range(2)] == [tmp_path / f"moved/cells/deep/p{n}/1.png" for n in (1, 2)]
    assert "are looked for below" in cells.notes[0]
    with pytest.raises(InputError, match="2 of 2 images .* --images-root"):
        read_cells(path)


def test_relative_paths_are_relative_to_images_root(put: Put, tmp_path: Path) -> None:
    put("moved/img/1.png")
    (tmp_path / "moved/masks").mkdir()
    Image.fromarray(np.repeat([[0, 1, 2, 2]], 12, 0).repeat(4, 1).astype(np.uint8)).save(tmp_path / "moved/masks/1.png")
    path = listed(tmp_path, "img/1.png,masks/1.png", header="image,mask")
    cells = read_cells(path, images_root=tmp_path / "moved")
    assert cells.root == tmp_path / "moved"
    assert cells.mask_path(0) == tmp_path / "moved/masks/1.png"
    assert not cells.notes


def test_two_files_of_another_machine_never_become_one(put: Put, tmp_path: Path) -> None:
    put("moved/1.png")
    path = listed(tmp_path, "/mnt/p1/1.png", "/mnt/p2/1.png")
    with pytest.raises(InputError, match=r"2 of 2 images .*/mnt/p1/1\.png: not below .*moved"):
        read_cells(path, images_root=tmp_path / "moved")


def test_images_root_is_asked_for_where_it_says_something(put: Put, tmp_path: Path) -> None:
    put("set/a/1.png")
    with pytest.raises(UsageError, match="set has none; leave it out"):
        read_cells(tmp_path / "set", images_root=tmp_path)
    with pytest.raises(InputError, match="nowhere is no folder; give the one below which"):
        read_cells(listed(tmp_path, "1.png"), images_root=tmp_path / "nowhere")


def test_absolute_paths_through_links_stay_below_the_folder(put: Put, tmp_path: Path) -> None:
    put("real/img/1.png")
    (tmp_path / "set").symlink_to(tmp_path / "real")
    for base in ("real", "set"):
        listed(tmp_path, f"{tmp_path}/{base}/img/1.png")
        for way in ("real", "set"):
            assert read_cells(tmp_path / way).frame["image"].tolist() == ["img/1.png"]


def test_what_lies_outside_is_not_read(put: Put, tmp_path: Path) -> None:
    secret = put("secret.png")
    for text in (str(secret), "../secret.png", f"{tmp_path}/set/../secret.png"):
        with pytest.raises(InputError, match=r"outside the manifest's folder \(put the manifest into a folder above"):
            read_cells(listed(tmp_path, text))

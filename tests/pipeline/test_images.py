"""What a study says and notices of the images that it is made of."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest
from conftest import SMALL

from cytosae.cells.synthetic import synthesize
from cytosae.cli import main
from cytosae.common.errors import InputError, UsageError
from cytosae.common.names import file_name
from cytosae.pipeline import Dataset, Study, name_datasets, read_config
from cytosae.pipeline.cohort_work import CohortWork
from cytosae.pipeline.study_config import CohortConfig


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthesize(tmp_path_factory.mktemp("drawn") / "drawn", patients=2, cells=6, seed=4)


@pytest.fixture
def images(drawn: Path, tmp_path: Path) -> Path:
    """Class folders `0` and `1` in `train` and `test`, and one behind a link."""
    files = sorted((drawn / "images").rglob("*.png"))
    for number, file in enumerate(files[:8]):
        place = tmp_path / "set" / ("train", "test")[number % 2] / str(number // 4)
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, place / file.name)
    (tmp_path / "elsewhere").mkdir()
    shutil.copy(files[8], tmp_path / "elsewhere")
    (tmp_path / "set" / "train" / "2").symlink_to(tmp_path / "elsewhere")
    return tmp_path / "set"


def read(path: Path, images: list[Path | Dataset]) -> tuple[list[str], bool]:
    """Notes of reading all cells, and whether that was up to date."""
    notes: list[str] = []
    results = Study.open(path, images, [SMALL], on_note=notes.append).read_all_cells()
    return notes, all(result.skipped for result in results)


def test_a_study_says_what_it_took_for_labels_patients_and_masks(images: Path, tmp_path: Path) -> None:
    notes, _ = read(tmp_path / "study", [images])
    words = "3 labels (0, 1, 2), 0 cells without one; no patients; no masks."
    assert notes == [f"set: 9 cells, read as class folders (3 labels): {words}"]


def test_images_added_behind_a_linked_folder_are_noticed(images: Path, tmp_path: Path, drawn: Path) -> None:
    read(tmp_path / "study", [images])
    assert read(tmp_path / "study", [images]) == ([], True)
    shutil.copy(sorted((drawn / "images").rglob("*.png"))[9], tmp_path / "elsewhere")
    notes, skipped = read(tmp_path / "study", [images])
    assert not skipped
    assert notes[0].startswith("set: 10 cells")


@pytest.mark.parametrize("place", ["train/study", ".", "a_study"])
def test_a_study_inside_its_images_never_reads_its_own_pictures(images: Path, place: str) -> None:
    study = images / place
    read(study, [images])
    cells = Study(study).cells("set")
    (study / "sweep").mkdir()
    (study / "sweep" / "artifact.json").write_text("{}")
    shutil.copy(cells.image_path(0), study / "sweep" / "sweep.png")
    assert read(study, [images]) == ([], True)
    (images / "notes.csv").write_text("x")
    notes, skipped = read(study, [images])
    assert not skipped
    assert len(Study(study).cells("set")) == 9
    passed = [note for note in notes if "belongs to a study of cytosae and is passed over" in note]
    assert len(passed) == (2 if place == "." else 1)


def test_layout_and_place_of_the_images_are_kept(drawn: Path, tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    table = pd.read_csv(drawn / "manifest.csv", dtype=str)
    table["image"] = "D:\\smears\\" + table["image"].str.replace("/", "\\")
    (tmp_path / "list").mkdir()
    table.drop(columns="mask").to_csv(tmp_path / "list" / "manifest.csv", index=False, sep=";")
    study = tmp_path / "study"
    quick = ["--study", str(study), "--extract.workers", "0"]
    assert main(["extract", str(tmp_path / "list"), *quick]) == 1
    sentence = " ".join(capfd.readouterr().err.split())
    assert "D:\\smears\\images\\P000\\0000.png: a path of another machine (name the folder where" in sentence
    assert not study.exists()
    assert main(["extract", str(tmp_path / "list"), *quick, "--images-root", str(drawn)]) == 0
    text = capfd.readouterr().out
    assert "list: How manifest.csv was read: separated by semicolons." in text
    assert f"list: Images that the table has below D:/smears are looked for below {drawn}." in text
    assert read_config(study / "study.toml").datasets[0].images_root == drawn
    assert main(["extract", *quick]) == 0
    assert "up to date" in capfd.readouterr().out
    assert main(["extract", str(drawn / "images"), *quick, "--layout", "acevedo"]) == 1
    assert main(["extract", str(drawn / "images"), *quick, "--layout", "folders"]) == 0
    assert [dataset.layout for dataset in read_config(study / "study.toml").datasets] == [None, "folders"]
    assert main(["extract", *quick, "--layout", "folders"]) == 2


def test_an_image_under_two_patients_is_found_whatever_the_column_is_called(drawn: Path, tmp_path: Path) -> None:
    table = pd.read_csv(drawn / "manifest.csv", dtype=str)
    table["case no"], table["patient"] = table["patient"], "one"
    path = drawn / "twice.csv"
    pd.concat([table, table.iloc[:1].assign(**{"case no": "P001"})]).to_csv(path, index=False)
    study = Study.open(tmp_path / "study", [path], [SMALL])
    study.read_all_cells()
    assert Study(study.path).cells("twice").duplicates["differs"].tolist() == [("case no",)]
    CohortWork(study, CohortConfig()).check_copies()
    with pytest.raises(InputError, match=r"1 images stand under two patients.* correct the column 'case no'"):
        CohortWork(study, CohortConfig(patient="case no")).check_copies()


def test_data_sets_whose_names_say_nothing_in_ascii_stay_apart(tmp_path: Path) -> None:
    for name in ("白血病", "白血球", "FLT3+", "FLT3-"):
        (tmp_path / name).mkdir()
    names = [d.name for d in name_datasets([tmp_path / name for name in ("白血病", "白血球", "FLT3+", "FLT3-")])]
    assert names == [file_name("白血病"), file_name("白血球"), "FLT3", file_name("FLT3-")]
    known = name_datasets([tmp_path / "FLT3-", tmp_path / "FLT3+"])
    again = name_datasets([Dataset("", tmp_path / "FLT3+", "folders"), tmp_path / "FLT3-"], known)
    assert [(d.name, d.layout) for d in again] == [("FLT3", None), (file_name("FLT3+"), "folders")]
    (tmp_path / "a" / "FLT3+").mkdir(parents=True)
    with pytest.raises(UsageError, match="would both be called"):
        name_datasets([tmp_path / "a" / "FLT3+"], known)

"""Miniature copies of the published data sets with something wrong in each, and the finding that names it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cytosae.cells import (
    Finding,
    check_attributes,
    check_dataset,
    published_dataset,
    published_datasets,
    read_cells,
    shared_images,
)
from cytosae.cells.layouts import KNOWN
from cytosae.cells.layouts.medmnist import CLASSES
from cytosae.common.errors import UsageError

Put = Callable[..., Path]


def reduced(name: str, **changes):
    """A published data set with other, smaller figures, so that a miniature can be complete."""
    return dataclasses.replace(published_dataset(name), **{"patients": None, "patient_counts": {}, **changes})


def sentences(findings, kind: str) -> list[str]:
    return [finding.sentence for finding in findings if finding.kind == kind]


def kinds(findings: tuple[Finding, ...]) -> set[tuple[str, bool]]:
    return {(finding.kind, finding.wrong) for finding in findings}


def test_published_counts_add_up_and_name_the_classes_of_the_layouts() -> None:
    known = published_datasets()
    assert list(known) == ["mll23", "acevedo", "matek19", "bmc", "hehr", "apl_cohort", "bloodmnist", "wbcatt"]
    for dataset in known.values():
        assert dataset.licence
        assert dataset.citation
        assert dataset.how
        assert sum(dataset.counts.values()) in {0, dataset.images}
        assert sum(dataset.splits.values()) in {0, dataset.images}
        assert sum(dataset.patient_counts.values()) in {0, dataset.patients}
    for name in ("mll23", "acevedo", "matek19", "bmc"):
        assert set(known[name].counts) == KNOWN[name].classes
    assert set(known["bloodmnist"].counts) == set(CLASSES)
    with pytest.raises(UsageError, match="there is no data set 'mll'; choose one of: mll23, acevedo"):
        published_dataset("mll")


def test_published_prefixes_split_the_folders_of_acevedo() -> None:
    acevedo = published_dataset("Acevedo")
    parts = {"neutrophil": ("BNE", "SNE", "NEUTROPHIL"), "ig": ("MMY", "MY", "PMY", "IG")}
    for folder, prefixes in parts.items():
        assert sum(acevedo.prefixes[prefix] for prefix in prefixes) == acevedo.counts[folder]


def test_a_complete_copy_has_nothing_wrong(put: Put, tmp_path: Path) -> None:
    labels = sorted(KNOWN["mll23"].classes or ())
    for label in labels:
        put(f"set/{label}/{label}_1.TIF")
    check = check_dataset(tmp_path / "set", reduced("mll23", counts=dict.fromkeys(labels, 1)))
    assert check.findings == ()
    assert not check.wrong
    assert check.counts["files"].tolist() == check.counts["published"].tolist() == [1] * 18


def test_mll23_as_its_zip_files_leave_it(put: Put, tmp_path: Path) -> None:
    labels = sorted(KNOWN["mll23"].classes or ())
    for label in labels[1:]:
        put(f"set/{label}/{label}/{label}_1.TIF")
    (tmp_path / "set/__MACOSX/eosinophil").mkdir(parents=True)
    for name in ("eosinophil/.DS_Store", "eosinophil/Thumbs.db", "basophil.zip", "eosinophil.zip", "odd.bin"):
        (tmp_path / "set" / name).write_bytes(b"x")
    (tmp_path / "set/README.md").write_text("x")
    check = check_dataset(tmp_path / "set", reduced("mll23", counts=dict.fromkeys(labels, 1)))
    assert sentences(check.findings, "counts") == ["0 of 1 files of basophil: 1 missing."]
    assert set(sentences(check.findings, "archive")) == {
        "basophil.zip is not unpacked; unpack it or take it away.",
        "eosinophil.zip lies beside its unpacked folder.",
    }
    assert sentences(check.findings, "litter") == [
        "3 pieces of litter, passed over: __MACOSX/, eosinophil/.DS_Store, eosinophil/Thumbs.db."
    ]
    assert sentences(check.findings, "folder")[0].startswith("17 folders inside one of the same name")
    assert sentences(check.findings, "file") == ["1 file other than images, passed over: odd.bin."]
    assert [finding.wrong for finding in check.findings] == sorted((f.wrong for f in check.findings), reverse=True)


def test_acevedo_with_foreign_files_and_another_prefix(put: Put, tmp_path: Path) -> None:
    for name in ("neutrophil/BNE_1.jpg", "neutrophil/SNE_2.jpg", "ig/PMY_3.jpg", "neutrophil/.DS_169665.jpg"):
        put(f"set/{name}")
    put("set/erythrocyte/x.png")
    small = reduced("acevedo", counts={"neutrophil": 2, "ig": 1}, prefixes={"BNE": 2, "SNE": 0, "PMY": 1})
    check = check_dataset(tmp_path / "set", small)
    assert sentences(check.findings, "foreign")[0].startswith("1 image outside the layout (Acevedo: <class>")
    assert sentences(check.findings, "counts") == [
        "1 of 2 files with the prefix BNE: 1 missing.",
        "1 of 0 files with the prefix SNE: 1 too many.",
    ]
    assert check.findings[-1].files == ("neutrophil/.DS_169665.jpg",)


def test_missing_numbers_are_named(put: Put, tmp_path: Path) -> None:
    for number in (1, 2, 4):
        put(f"set/BAS/BAS_{number:04d}.tiff", mode="RGBA")
    (tmp_path / "set/annotations.dat").write_text("BAS/BAS_0001.tiff BAS nan BAS\n")
    check = check_dataset(tmp_path / "set", reduced("matek19", counts={"BAS": 5}))
    assert sentences(check.findings, "missing") == ["2 files of BAS missing: BAS_0003.tiff, BAS_0005.tiff."]
    assert kinds(check.findings) == {("counts", True), ("missing", True)}


def test_bmc_with_its_broken_image_and_one_that_should_not_be(put: Put, tmp_path: Path) -> None:
    for number in range(1, 5):
        put(f"set/MYB/0001-1000/MYB_{number:05d}.jpg")
    for name in ("MYB/5001-6000/MYB_05527.jpg", "MYB/0001-1000/MYB_00004.jpg"):
        path = put(f"set/{name}")
        path.write_bytes(path.read_bytes()[:-100])
    check = check_dataset(tmp_path / "set", reduced("bmc", counts={"MYB": 5}))
    assert kinds(check.findings) == {("broken", False), ("undecodable", True)}
    assert sentences(check.findings, "broken")[0].startswith("MYB/5001-6000/MYB_05527.jpg is broken in the original")
    assert "MYB_00004.jpg cannot be used: " in sentences(check.findings, "undecodable")[0]


def test_hehr_patients_against_their_table(put: Put, tmp_path: Path) -> None:
    put("set/data/PML_RARA/ABC/1.tif")
    put("set/data/control/DEF/1.tif")
    (tmp_path / "set/metadata.csv").write_text("patient_id,bag_label\nABC,PML_RARA\nXYZ,NPM1\n")
    small = reduced(
        "hehr", counts={"PML_RARA": 1, "control": 1}, patients=3, patient_counts={"PML_RARA": 1, "control": 2}
    )
    check = check_dataset(tmp_path / "set", small)
    assert set(sentences(check.findings, "patients")) == {
        "2 of 3 published patients.",
        "1 of 2 published patients of control.",
        "1 patient without an image: XYZ.",
        "1 patient not in metadata.csv: DEF.",
    }
    (tmp_path / "set/metadata.csv").unlink()
    assert "metadata.csv, the table of the patients, is missing." in sentences(
        check_dataset(tmp_path / "set", small).findings, "patients"
    )


def test_apl_cohort_with_an_image_under_two_types(put: Put, tmp_path: Path) -> None:
    put("set/Patient_01/Signed slides/Promyelocyte/PMY_1.jpg", seed=1)
    put("set/Patient_01/Signed slides/Myelocyte/MY_1.jpg", seed=1)
    put("set/Patient_01/Signed slides/Myelocyte/MY_2.jpg", seed=1)
    put("set/Patient_01/Unsigned slides/Smudge cells/SM_1.jpg")
    (tmp_path / "set/master.csv").write_text("Patient_ID,Diagnosis\nPatient_01,APL\n")
    check = check_dataset(tmp_path / "set", reduced("apl_cohort", images=4))
    assert sentences(check.findings, "counts") == ["3 of 4 signed images: 1 missing."]
    assert kinds(check.findings) == {("counts", True), ("conflict", True), ("duplicate", False), ("unknown", False)}


def test_the_same_image_in_two_data_sets(put: Put, tmp_path: Path) -> None:
    put("a/x/1.png", seed=1)
    put("a/x/2.png", seed=2)
    put("b/y/3.png", seed=2)
    put("c/y/4.png", seed=3)
    tables = [read_cells(tmp_path / name) for name in "abc"]
    check = check_dataset(tmp_path / "a", against=tables[1:])
    assert [f.sentence for f in check.findings] == ["1 image of a also in b: x/2.png = y/3.png."]
    assert check.wrong
    assert [finding.files for finding in shared_images(tables)] == [("x/2.png",)]


def test_bloodmnist_arrays_against_their_splits(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (8, 28, 28, 3), dtype=np.uint8)
    labels = np.arange(8, dtype=np.uint8)[:, None]
    arrays = {"train_images": images[:6], "train_labels": labels[:6], "test_images": images[6:]}
    path = tmp_path / "bloodmnist.npz"
    np.savez_compressed(path, test_labels=labels[6:], **arrays)
    small = reduced("bloodmnist", counts=dict.fromkeys(CLASSES, 1), splits={"train": 6, "val": 1, "test": 2})
    check = check_dataset(path, small)
    assert [f.sentence for f in check.findings] == ["0 of 1 images of the split val: 1 missing."]
    assert list(tmp_path.iterdir()) == [path]


def test_wbcatt_tables_against_the_published_rows(tmp_path: Path) -> None:
    header = "img_name,label,cell_size\n"
    (tmp_path / "pbc_attr_v1_train.csv").write_text(header + "BA_1.jpg,Basophil,big\nBA_1.jpg,Basophil,\n")
    (tmp_path / "pbc_attr_v1_val.csv").write_text(header + "MO_1.jpg,Monocyte,small\n")
    small = reduced("wbcatt", counts={"basophil": 2, "monocyte": 2}, splits={"train": 2, "val": 2})
    assert [finding.sentence for finding in check_attributes(tmp_path, small)] == [
        "1 of 2 rows of monocyte: 1 missing.",
        "1 of 2 rows of the split val: 1 missing.",
        "1 row for an image that had one: BA_1.jpg.",
        "1 row without a value of some attribute.",
    ]

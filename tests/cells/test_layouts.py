"""Miniature copies of the field's data sets, quirks included."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cytosae.cells import (
    cell_type_table,
    harmonise,
    join_annotations,
    load_image,
    read_attributes,
    read_cells,
    read_expert_annotations,
    unpack_medmnist,
)
from cytosae.cells.layouts import KNOWN
from cytosae.cells.layouts.medmnist import CLASSES
from cytosae.common.errors import InputError, UsageError

Put = Callable[..., Path]


def columns(frame: pd.DataFrame, *names: str) -> dict[str, list]:
    """Image file name -> values."""
    return {Path(row["image"]).name: [row[name] for name in names] for _, row in frame.iterrows()}


def test_mll23(put: Put, tmp_path: Path) -> None:
    for label in sorted(KNOWN["mll23"].classes or ()):
        put(f"MLL23/{label}/{label}_1.TIF")
    put("MLL23/__MACOSX/basophil/._basophil_1.TIF")
    cells = read_cells(tmp_path)
    assert cells.layout.startswith("MLL23")
    assert len(cells) == len(cells.labels) == 18
    assert columns(cells.frame, "cell_type")["normoblast_1.TIF"] == ["erythroblast"]
    assert cells.frame["cell_type"].notna().all()


def test_acevedo_prefixes_split_two_folders(put: Put, tmp_path: Path) -> None:
    for name in (
        "neutrophil/BNE_1.jpg",
        "neutrophil/SNE_2.jpg",
        "ig/PMY_3.jpg",
        "ig/IG_4.jpg",
        "platelet/PLATELET_5.jpg",
    ):
        put(f"PBC_dataset_normal_DIB/{name}")
    (tmp_path / "attributes.csv").write_text(
        "image,label,cell_size\nPBC_dataset_normal_DIB/neutrophil/BNE_1.jpg,x,big\n"
    )
    cells = read_cells(tmp_path)
    assert cells.layout.startswith("Acevedo")
    found = columns(cells.frame, "label", "sublabel", "cell_type")
    assert found["BNE_1.jpg"] == ["neutrophil", "BNE", "neutrophil_band"]
    assert found["PMY_3.jpg"] == ["ig", "PMY", "promyelocyte"]
    joined = join_annotations(cells, read_attributes(tmp_path / "attributes.csv"))
    assert columns(joined.frame, "cell_size")["BNE_1.jpg"] == ["big"]
    assert len(joined) == len(cells)
    assert joined.frame["cell_size"].notna().sum() == 1


def test_matek19_rgba_and_annotations(put: Put, tmp_path: Path) -> None:
    put("BAS/BAS_0001.tiff", mode="RGBA")
    put("PMB/PMB_0001.tiff", mode="RGBA")
    (tmp_path / "annotations.dat").write_text("BAS/BAS_0001.tiff BAS nan BAS\nPMB/PMB_0001.tiff PMB PMO nan\n")
    cells = read_cells(tmp_path)
    assert cells.layout.startswith("Matek19")
    assert columns(cells.frame, "label", "cell_type", "annotation")["PMB_0001.tiff"] == [
        "PMB",
        "promyelocyte_bilobed",
        "PMB",
    ]
    assert columns(cells.frame, "reannotation_1")["PMB_0001.tiff"] == ["PMO"]
    assert cells.frame["reannotation_1"].isna().sum() == 1
    assert load_image(cells.image_path(0)).shape == (12, 16, 3)


def test_bmc_nested_ranges_and_the_broken_image(put: Put, tmp_path: Path) -> None:
    for number in range(1, 12):
        put(f"BM_cytomorphology_data/MYB/0001-1000/MYB_{number:05d}.jpg")
    put("BM_cytomorphology_data/FGC/FGC_00001.jpg")
    broken = put("BM_cytomorphology_data/MYB/5001-6000/MYB_05527.jpg")
    broken.write_bytes(broken.read_bytes()[:-100])
    cells = read_cells(tmp_path)
    assert cells.layout.startswith("BMC")
    assert cells.labels == ["FGC", "MYB"]
    assert cells.skipped["path"].tolist() == ["BM_cytomorphology_data/MYB/5001-6000/MYB_05527.jpg"]
    assert columns(cells.frame, "cell_type")["FGC_00001.jpg"] == ["faggot_cell"]


def test_hehr_patients_with_metadata_and_experts(put: Put, tmp_path: Path) -> None:
    put("data/PML_RARA/ABC/103.tif")
    put("data/control/DEF/103.tif")
    (tmp_path / "metadata.csv").write_text("patient_id,sex_1f_2m,age,bag_label,pb_myeloblast\nABC,1,50,PML_RARA,12\n")
    (tmp_path / "experts.csv").write_text(
        ",mll_annotation,prediction,ID,im_tiffname\n0,faggot cell,other,ABC,103.TIF\n"
    )
    cells = read_cells(tmp_path)
    assert cells.layout.startswith("AML_Hehr")
    assert cells.labels == []
    assert cells.frame["diagnosis"].tolist() == ["PML_RARA", "control"]
    assert cells.frame["patient"].tolist() == ["ABC", "DEF"]
    assert cells.frame["pb_myeloblast"][0] == 12
    joined = join_annotations(cells, read_expert_annotations(tmp_path / "experts.csv"))
    assert joined.frame["expert_label"][0] == "faggot cell"
    assert joined.frame["expert_label"].isna().tolist() == [False, True]


def test_apl_cohort_signed_and_unsigned(put: Put, tmp_path: Path) -> None:
    put("Patient_01/Signed slides/Promyelocyte/PMY_1.jpg", seed=1)
    put("Patient_01/Signed slides/Myelocyte/MY_1.jpg", seed=1)
    put("Patient_02/Smear 1/Signed slides/Blast, no lineage spec/BL_1.jpg")
    put("Patient_02/Smear 1/Unsigned slides/Smudge cells/SM_1.jpg")
    (tmp_path / "Patient_01/Thumbs.db").write_bytes(b"x")
    (tmp_path / "master.csv").write_text(
        "Patient_ID,Diagnosis,Cohort,Age\nPatient_01,APL,Discovery,50\nPatient_02,AML,Validation,60\n"
    )
    cells = read_cells(tmp_path)
    assert cells.layout.startswith("APL cohort")
    found = columns(cells.frame, "patient", "diagnosis", "cohort", "signed")
    assert found["BL_1.jpg"] == ["Patient_02", "AML", "Validation", True]
    assert found["SM_1.jpg"] == ["Patient_02", "AML", "Validation", False]
    assert cells.labels == ["Blast, no lineage spec", "Myelocyte"]
    assert columns(cells.frame, "suggested_label", "smear")["SM_1.jpg"] == ["Smudge cells", "Smear 1"]
    assert cells.duplicates["labels_differ"].tolist() == [True]


def test_joining_keeps_the_columns_of_the_cells_and_finds_names_in_either_form(put: Put, tmp_path: Path) -> None:
    put("u\u0308.png")
    (tmp_path / "manifest.csv").write_text("image,file,size\nu\u0308.png,mine,3\n", encoding="utf-8")
    table = pd.DataFrame({"file": ["\u00dc.TIF"], "size": [9], "shape": ["round"]})
    joined = join_annotations(read_cells(tmp_path), table).frame
    assert joined.loc[0, ["file", "size", "shape"]].tolist() == ["mine", 3, "round"]


STRANGERS = {
    "another table": "file_name,age\n103.tif,50\n",
    "its columns, other patients": "patient_id,bag_label\nx,y\n",
    "its patients, other groups": "patient_id,bag_label\nslide1,yes\nslide2,no\n",
    "no table": "\xff\0",
}


@pytest.mark.parametrize("table", STRANGERS)
@pytest.mark.parametrize("classes", [("blast", "mono"), ("train/blast", "test/mono")])
def test_a_strangers_table_makes_no_data_set_of_folders(put: Put, tmp_path: Path, table: str, classes: tuple) -> None:
    for label in classes:
        put(f"{label}/slide1/1.tif")
        put(f"{label}/slide2/1.tif")
    (tmp_path / "metadata.csv").write_text(STRANGERS[table], encoding="latin-1")
    cells = read_cells(tmp_path)
    assert cells.layout == "class folders (2 labels)"
    assert cells.labels == ["blast", "mono"]
    assert cells.frame["patient"].isna().all()


@pytest.mark.parametrize(
    ("images", "name", "label"),
    [
        (["basophil/basophil_1.TIF", "monocyte/monocyte_1.TIF"], "MLL23", "basophil"),
        (["BAS/BAS_0001.tiff", "MON/MON_0001.tiff"], "Matek19", "BAS"),
        (["MYB/0001-1000/MYB_00001.jpg", "ABE/ABE_00001.jpg"], "BMC", "ABE"),
    ],
)
def test_a_download_beside_a_strangers_table_is_what_it_is(put: Put, tmp_path: Path, images, name, label) -> None:
    for image in images:
        put(image)
    (tmp_path / "metadata.csv").write_text("file_name,age\nx,50\n")
    cells = read_cells(tmp_path)
    assert cells.layout.startswith(name)
    assert cells.labels[0] == label


def test_recognition_can_be_overruled(put: Put, tmp_path: Path) -> None:
    put("set/neutrophil/BNE_1.jpg")
    put("set/other/x.png")
    assert read_cells(tmp_path).layout.startswith("class folders")
    forced = read_cells(tmp_path, layout="acevedo", max_unusable=0.5)
    assert forced.frame["image"].tolist() == ["set/neutrophil/BNE_1.jpg"]
    assert forced.skipped["reason"].str.contains("outside the layout of Acevedo").all()
    with pytest.raises(InputError, match="no image in the layout 'bmc'"):
        read_cells(tmp_path, layout="bmc")


def arrays(sizes: dict[str, int], side: int = 28, **changes: np.ndarray) -> dict[str, np.ndarray]:
    """What a BloodMNIST archive of these splits holds."""
    rng = np.random.default_rng(0)
    held: dict[str, np.ndarray] = {}
    for split, n in sizes.items():
        held[f"{split}_images"] = rng.integers(0, 256, (n, side, side, 3), dtype=np.uint8)
        held[f"{split}_labels"] = (np.arange(n, dtype=np.uint8) % 8)[:, None]
    return held | changes


@pytest.mark.parametrize("side", [28, 64])
def test_bloodmnist_arrays_are_read_with_labels_and_splits(tmp_path: Path, side: int) -> None:
    held = arrays({"train": 9, "val": 4, "test": 4}, side)
    path = tmp_path / "there/bloodmnist_64.npz"
    path.parent.mkdir()
    np.savez_compressed(path, **held)
    cells = read_cells(path, unpack=tmp_path / "images")
    assert cells.name == "bloodmnist_64"
    assert cells.layout.startswith("BloodMNIST arrays (bloodmnist_64.npz)")
    assert cells.frame.groupby("split").size().to_dict() == {"train": 9, "val": 4, "test": 4}
    assert cells.frame.loc[3, ["label", "cell_type"]].tolist() == ["ig", "immature_granulocyte"]
    assert cells.frame["cell_type"].notna().all()
    assert cells.frame["number"].tolist() == [*range(9), *range(4), *range(4)]
    for row, (split, index) in enumerate(cells.frame[["split", "number"]].itertuples(index=False)):
        np.testing.assert_array_equal(load_image(cells.image_path(row)), held[f"{split}_images"][index])
    assert list(path.parent.iterdir()) == [path]


def test_bloodmnist_is_unpacked_beside_it_and_once(tmp_path: Path) -> None:
    np.savez(tmp_path / "bloodmnist.npz", **arrays({"train": 3}))
    first = read_cells(tmp_path / "bloodmnist.npz")
    assert first.root == tmp_path / "bloodmnist_images"
    before = first.image_path(0).stat().st_mtime_ns
    assert read_cells(tmp_path / "bloodmnist.npz").image_path(0).stat().st_mtime_ns == before
    np.savez(tmp_path / "bloodmnist.npz", **arrays({"train": 4}))
    with pytest.raises(InputError, match=r"bloodmnist_images is not empty; give a new folder"):
        read_cells(tmp_path / "bloodmnist.npz")


@pytest.mark.parametrize(
    ("held", "sentence"),
    [
        ({"other": np.zeros(3)}, r"has no train_images, val_images or test_images; give a BloodMNIST"),
        (arrays({"train": 3}, train_labels=np.array([0, 1, 8])), r"train labels outside 0 to 7, so it is another"),
        (
            arrays({"train": 3}, train_images=np.zeros((3, 28, 28), np.uint8)),
            r"shape \[3, 28, 28\] for 3 labels; colour",
        ),
        (arrays({"train": 3}, train_labels=np.array([0, 1])), r"for 2 labels"),
    ],
)
def test_other_arrays_are_refused_and_nothing_is_left(tmp_path: Path, held: dict, sentence: str) -> None:
    np.savez(tmp_path / "x.npz", **held)
    with pytest.raises(InputError, match=sentence):
        read_cells(tmp_path / "x.npz")
    assert [p.name for p in tmp_path.iterdir()] == ["x.npz"]


def test_a_damaged_archive_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "bad.npz", **arrays({"train": 3}))
    content = (tmp_path / "bad.npz").read_bytes()
    for damaged in (b"x", content[: len(content) // 2]):
        (tmp_path / "bad.npz").write_bytes(damaged)
        with pytest.raises(InputError, match=r"bad\.npz cannot be read as a MedMNIST archive"):
            unpack_medmnist(tmp_path / "bad.npz", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(UsageError, match="holds arrays, for which there is no layout 'acevedo'"):
        read_cells(tmp_path / "bad.npz", layout="acevedo")


def test_every_class_of_every_layout_has_a_harmonised_name() -> None:
    table = cell_type_table()
    assert not table.duplicated(["dataset", "original"]).any()
    for name, layout in KNOWN.items():
        labels = pd.Series(sorted(layout.classes or ()), dtype="string")
        assert harmonise(labels, name).notna().all()
    assert harmonise(pd.Series(CLASSES, dtype="string"), "bloodmnist").notna().all()


def test_codes_of_one_meaning_have_one_name_over_the_data_sets() -> None:
    # As MLL23's authors compare their classes with two other data sets (labels_harmonised.csv of marrlab/MLL23).
    rows = [
        ("neutrophil_segmented", "NGS", "SNE"),
        ("neutrophil_band", "NGB", "BNE"),
        ("eosinophil", "EOS", "eosinophil"),
        ("basophil", "BAS", "basophil"),
        ("monocyte", "MON", "monocyte"),
        ("lymphocyte", "LYT", "lymphocyte"),
        ("normoblast", "EBO", "erythroblast"),
        ("myelocyte", "MYB", "MY"),
        ("metamyelocyte", "MMZ", "MMY"),
        ("promyelocyte", "PMO", "PMY"),
    ]
    for row in rows:
        names = [
            harmonise(pd.Series([label], dtype="string"), name)[0]
            for name, label in zip(("mll23", "matek19", "acevedo"), row, strict=True)
        ]
        assert len(set(names)) == 1, row


def test_labels_of_the_shared_data_sets_have_harmonised_names(shared_reference: Path, shared_data: Path) -> None:
    names = (shared_reference / "official_feature_data/mll23/classnames.txt").read_text().split()
    assert len(names) == 18
    assert harmonise(pd.Series(names, dtype="string"), "mll23").notna().all()
    cohort = pd.read_csv(shared_data / "apl_cohort/manifest.csv", dtype="string")
    assert harmonise(cohort["label"].dropna(), "apl_cohort").notna().all()


def test_shared_expert_annotations(shared_reference: Path) -> None:
    table = read_expert_annotations(shared_reference / "hehr_expert_annotations.csv")
    assert len(table) == 2471
    assert table["expert_cell_type"].notna().all()
    assert table.loc[table["expert_label"] == "faggot cell", "expert_pathognomonic"].sum() == 8

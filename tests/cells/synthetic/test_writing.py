from __future__ import annotations

import json
from pathlib import Path

import imagecodecs
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cytosae.cells import load_image, load_mask, read_cells
from cytosae.cells.synthetic import ATTRIBUTES, BITS, DIAGNOSES, TYPES, generate_cohort, structure_mask, synthesize
from cytosae.common.errors import InputError, UsageError


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("synthetic") / "cohort"
    return synthesize(out, patients=10, cells=12, seed=1, domain="mixed", size=64, difficulty=0.2, spread=0.2)


def test_cohort_reads_like_any_manifest(written: Path) -> None:
    cells = read_cells(written)
    assert cells.skipped.empty
    assert cells.duplicates.empty
    assert (cells.frame["status"] == "ok").all()
    assert set(cells.labels) <= set(TYPES)
    known = cells.frame["cell_type"].notna()
    assert known.mean() > 0.9
    assert set(cells.frame["diagnosis"]) == set(DIAGNOSES)
    assert cells.frame.groupby("patient")["domain"].nunique().eq(1).all()
    mask = cells.mask_path(5)
    assert mask is not None
    assert load_mask(mask).shape == load_image(cells.image_path(5)).shape[:2]


def test_files_are_the_arrays_that_python_gives(written: Path) -> None:
    cohort = generate_cohort(patients=10, cells=12, seed=1, domain="mixed", size=64, difficulty=0.2, spread=0.2)
    manifest = pd.read_csv(written / "manifest.csv")
    assert ("images/" + cohort.cells.index + ".png").tolist() == manifest["image"].tolist()
    for name in cohort.cells.index[[0, 17, -1]]:
        drawing = cohort.draw(name)
        for kind, array in (
            ("images", drawing.image),
            ("masks", drawing.mask),
            ("structures", drawing.structures),
        ):
            np.testing.assert_array_equal(np.asarray(Image.open(written / kind / f"{name}.png")), array)


def test_structures_are_sixteen_bit_images_to_other_readers(written: Path) -> None:
    path = written / "structures/P003/0002.png"
    other = imagecodecs.png_decode(path.read_bytes())
    assert other.dtype == np.uint16
    np.testing.assert_array_equal(other, np.asarray(Image.open(path)))
    mask = np.asarray(Image.open(written / "masks/P003/0002.png"))
    np.testing.assert_array_equal((other & BITS["nucleus"]) > 0, mask == 2)


def test_truth_tables_agree_with_each_other_and_with_the_images(written: Path) -> None:
    truth = {name: pd.read_csv(written / f"truth/{name}.csv", keep_default_na=False) for name in (
        "attributes", "cells", "patients", "subtypes", "structures")}  # fmt: skip
    cells, attributes = truth["cells"], truth["attributes"]
    manifest = pd.read_csv(written / "manifest.csv")
    assert list(attributes.columns) == ["cell", "image", *ATTRIBUTES]
    for name in ("image", "label", "patient", "diagnosis"):
        assert cells[name].tolist() == manifest[name].tolist()
    assert attributes["image"].tolist() == manifest["image"].tolist()
    for row in cells.iloc[::25].itertuples():
        packed = np.asarray(Image.open(written / f"structures/{row.cell}.png"))
        shown = [name for name in BITS if structure_mask(packed, name).any()]
        assert str(row.structures).split(" ") == shown
    counts = manifest["patient"].value_counts()
    assert truth["patients"].set_index("patient")["cells"].to_dict() == counts.to_dict()
    assert truth["patients"]["pathognomonic_cells"].sum() == cells["pathognomonic"].sum()
    assert truth["subtypes"]["cells"].sum() == len(cells)
    nucleus = truth["structures"].query("structure == 'nucleus'")["cells"].sum()
    assert nucleus == cells["structures"].str.contains("nucleus").sum()
    specific = truth["structures"].query("specific")
    assert set(specific["diagnosis"]) == set(DIAGNOSES) - {"control"}
    assert json.loads((written / "truth/model.json").read_text())["structures"] == BITS
    readme = (written / "truth/README.md").read_text()
    assert all(f"`{name}`" in readme for name in (*BITS, *ATTRIBUTES))


def test_the_bytes_do_not_depend_on_the_number_of_processes(tmp_path: Path) -> None:
    one, two, other = (
        synthesize(tmp_path / name, patients=2, cells=2, seed=seed, size=48, processes=processes)
        for name, seed, processes in (("a", 5, 1), ("b", 5, 2), ("c", 6, 1))
    )
    files = sorted(p.relative_to(one) for p in one.rglob("*") if p.is_file())
    assert len(files) == 4 * 3 + 1 + 7
    assert all((one / f).read_bytes() == (two / f).read_bytes() for f in files)
    assert any((one / f).read_bytes() != (other / f).read_bytes() for f in files)


def test_wrong_calls_are_sentences_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no domain 'mars'"):
        synthesize(tmp_path / "a", domain="mars")
    with pytest.raises(UsageError, match="processes is 0; give 1 or more"):
        synthesize(tmp_path / "a", processes=0)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="exists and is not empty; give the name of a new folder"):
        synthesize(tmp_path)

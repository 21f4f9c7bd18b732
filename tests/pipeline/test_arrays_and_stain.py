"""A study made of BloodMNIST's arrays, with stain normalisation; what it says before it extracts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import SMALL

from cytosae.cells import load_image
from cytosae.cells.stain.normalisation import reinhard
from cytosae.common.errors import InputError
from cytosae.pipeline import Study
from cytosae.pipeline.cohort_steps import stain_advice


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("arrays") / "bloodmnist_64.npz"
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (6, 8, 8, 3), dtype=np.uint8).repeat(8, axis=1).repeat(8, axis=2)
    labels = np.arange(6, dtype=np.uint8)[:, None]
    np.savez_compressed(
        path, train_images=images[:4], train_labels=labels[:4], test_images=images[4:], test_labels=labels[4:]
    )
    return path


def test_arrays_become_tokens_and_stay_up_to_date_with_the_study_beside_them(archive: Path) -> None:
    notes: list[str] = []
    path = archive.parent / "study"
    changes = [SMALL, {"extract": {"stain": "reinhard"}}]
    study = Study.open(path, [archive], changes, on_note=notes.append)
    study.read_all_cells()
    study.extract("bloodmnist_64")
    assert notes[0].startswith("bloodmnist_64: 6 cells, read as BloodMNIST arrays (bloodmnist_64.npz)")
    assert notes[1:] == ["tokens of bloodmnist_64: 6 cells x 257 x 192 x 2 bytes = 1 MB"]
    cells = study.cells("bloodmnist_64")
    assert cells.root == path / "images" / "bloodmnist_64"
    assert cells.frame["split"].tolist() == ["train"] * 4 + ["test"] * 2
    assert sorted(p.name for p in archive.parent.iterdir()) == ["bloodmnist_64.npz", "study"]
    again = Study.open(path, [archive], on_note=notes.append)
    assert all(result.skipped for result in [*again.read_all_cells(), again.extract("bloodmnist_64")])
    assert len(notes) == 2
    store = again.tokens("bloodmnist_64")
    assert store.manifest["backbone"]["stain"] == "reinhard"
    image = reinhard(load_image(cells.image_path(2)))
    expected = again.backbone(again.backbone.prepare([image]))
    assert float((store.read(2, 3) - expected).abs().max()) < 2e-2


def test_explaining_an_image_normalises_it_as_extraction_did(monkeypatch: pytest.MonkeyPatch, study_of_smear: Path):
    import cytosae.atlas.explaining.image_explanation as module

    seen = []
    monkeypatch.setattr(module, "explain_cell", lambda tokens, *_, **__: seen.append(tokens))
    image = Study(study_of_smear).cells("smear").image_path(0)
    Study(study_of_smear).explain(image, "smear")
    changed = Study.open(study_of_smear, changes=[{"extract": {"stain": "reinhard"}}])
    with pytest.raises(InputError, match="trained on tokens with the stain normalisation none"):
        changed.explain(image, "smear")
    changed.sae().level = None  # as of an SAE that does not know its tokens
    changed.explain(image, "smear")
    backbone = Study(study_of_smear).backbone
    assert np.array_equal(seen[0], backbone(backbone.prepare([load_image(image)]))[0])
    assert np.array_equal(seen[1], backbone(backbone.prepare([reinhard(load_image(image))]))[0])


@pytest.mark.parametrize(
    ("low", "stain", "advised"), [(0.68, "none", True), (0.45, "none", False), (0.68, "macenko", False)]
)
def test_stain_normalisation_is_advised_where_colour_tells_the_classes_apart(
    low: float, stain: str, advised: bool
) -> None:
    row = {"model": "colour alone", "auroc": 0.78, "auroc_low": low, "auroc_high": 0.88}
    found = stain_advice(pd.DataFrame([{"model": "majority", "auroc_low": 0.9}, row]), stain)
    assert ["--extract.stain macenko" in sentence for sentence in found] == [True] * advised
    assert stain_advice(pd.DataFrame([{"model": "majority", "auroc_low": 0.9}]), stain) == []

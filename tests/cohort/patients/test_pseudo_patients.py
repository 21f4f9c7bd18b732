"""Pseudo-patients of real cells: what was put in is what a cohort's analysis says."""

from __future__ import annotations

import importlib.util
import shutil
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from PIL import Image
from sklearn.metrics import f1_score, roc_auc_score

from cytosae.cells import read_cells
from cytosae.cohort import (
    ClassificationConfig,
    Configuration,
    Design,
    evaluate_rankings,
    fit_classifier,
    neighbour_scores,
    pathognomonic_cells,
    truth_of_labels,
)
from cytosae.common.errors import InputError
from cytosae.pipeline import Study
from cytosae.pipeline.cohort_work import CohortWork

SCRIPT = Path(__file__).parents[3] / "benchmarks" / "pseudo_patients.py"
SMALL = {
    "sae": {"expansion": 4, "sparsity": {"k": 16}, "train": {"steps": 200, "batch_tokens": 2048}},
    "extract": {"workers": 0},
}
CONFIG = ClassificationConfig(inner_folds=3, strengths=(0.1, 1.0, 10.0), positive="eosinophilia")


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("pseudo_patients", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


pseudo = load()


@pytest.fixture(scope="module")
def stock() -> pd.DataFrame:
    """Names of as many cells as a large cohort needs; there are no images."""
    labels = sorted({label for mixture in pseudo.MIXTURES.values() for label in mixture})
    rows = [(f"{label}/{i}.jpg", label, f"{label}-{i}") for label in labels for i in range(6000)]
    return pd.DataFrame(rows, columns=pd.Index(["image", "label", "sha256"]))


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder like Acevedo's with 12 small images of each type."""
    rng = np.random.default_rng(0)
    for label in ("eosinophil", "neutrophil"):
        folder = tmp_path / "data" / pseudo.IMAGES / label
        folder.mkdir(parents=True)
        for number in range(12):
            image = Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8))
            image.save(folder / f"{label[:2].upper()}_{number:03d}.jpg")
    return tmp_path / "data"


TWO = {"eosinophilia": {"eosinophil": 0.7, "neutrophil": 0.3}, "normal": {"eosinophil": 0.2, "neutrophil": 0.8}}


def test_no_cell_is_shared_and_each_patient_has_as_many_as_asked(stock: pd.DataFrame) -> None:
    table = pseudo.compose(stock, patients=9, cells=30, seed=1)
    assert not table["sha256"].duplicated().any()
    assert (table.groupby("patient").size() == 30).all()
    per_diagnosis = table.groupby("diagnosis")["patient"].nunique()
    assert per_diagnosis.to_dict() == dict.fromkeys(pseudo.MIXTURES, 9)
    assert (table.groupby("patient")["diagnosis"].nunique() == 1).all()


def test_mixtures_are_as_stated_and_patients_vary_more_than_draws_of_cells(stock: pd.DataFrame) -> None:
    assert [sum(mixture.values()) for mixture in pseudo.MIXTURES.values()] == pytest.approx([1.0] * 4)
    table = pseudo.compose(stock, patients=60, cells=50, seed=2)
    ratios = []
    for diagnosis, mixture in pseudo.MIXTURES.items():
        of_it = table[table["diagnosis"] == diagnosis]
        shares = pd.crosstab(of_it["patient"], of_it["label"], normalize="index")
        for label, share in mixture.items():
            drawn = share * (1 - share) / 50
            expected = drawn + share * (1 - share) / 61 * (1 - 1 / 50)
            assert shares[label].mean() == pytest.approx(share, abs=5 * np.sqrt(expected / 60))
            ratios.append(shares[label].var() / drawn)
    # Dirichlet of concentration 60 and 50 cells: 1 + 49 / 61
    assert np.mean(ratios) == pytest.approx(1.8, abs=0.3)


def test_the_same_seed_makes_the_same_cohort(stock: pd.DataFrame) -> None:
    first, again, other = (pseudo.compose(stock, patients=3, cells=20, seed=seed) for seed in (4, 4, 5))
    pd.testing.assert_frame_equal(first, again)
    assert set(first["sha256"]) != set(other["sha256"])


def test_more_cells_than_there_are_is_refused(stock: pd.DataFrame) -> None:
    few = stock.groupby("label").head(20)
    with pytest.raises(SystemExit, match="need more cells than there are"):
        pseudo.compose(few, patients=5, cells=20, seed=0)


def test_the_stock_holds_each_content_once_and_none_under_two_labels(pictures: Path) -> None:
    root = pictures / pseudo.IMAGES
    shutil.copy(root / "eosinophil" / "EO_000.jpg", root / "eosinophil" / "EO_900.jpg")
    shutil.copy(root / "eosinophil" / "EO_001.jpg", root / "neutrophil" / "NE_900.jpg")
    found = pseudo.stock(pictures)
    assert found["label"].value_counts().to_dict() == {"neutrophil": 12, "eosinophil": 11}
    assert "eosinophil/EO_000.jpg" in set(found["image"])
    assert not {"eosinophil/EO_900.jpg", "eosinophil/EO_001.jpg", "neutrophil/NE_900.jpg"} & set(found["image"])


def test_the_manifest_reads_as_it_was_composed(pictures: Path, tmp_path: Path) -> None:
    table = pseudo.compose(pseudo.stock(pictures), patients=2, cells=5, seed=0, mixtures=TWO)
    cells = read_cells(pseudo.write_manifest(table, pictures, tmp_path / "patients"))
    assert not len(cells.duplicates)
    assert not len(cells.skipped)
    expected = table.set_index("sha256")[["label", "patient", "diagnosis"]]
    read = cells.frame.set_index("cell_id")[["label", "patient", "diagnosis"]].astype(object)
    assert read.to_dict("index") == expected.to_dict("index")


def test_an_image_in_two_patients_is_refused_by_the_study(pictures: Path, tmp_path: Path) -> None:
    table = pseudo.compose(pseudo.stock(pictures), patients=2, cells=5, seed=0, mixtures=TWO)
    other = next(name for name in table["patient"] if name != table["patient"].iloc[0])
    twice = pd.concat([table, table.iloc[[0]].assign(patient=other)], ignore_index=True)
    for name, rows in {"good": table, "bad": twice}.items():
        study = Study.open(tmp_path / name, [pseudo.write_manifest(rows, pictures, tmp_path / f"{name}_patients")])
        study.read_all_cells()
        if name == "good":
            CohortWork(study).check_copies()
        else:
            with pytest.raises(InputError, match="1 images stand under two patients"):
                CohortWork(study).check_copies()


def test_composition_is_measured_against_the_mean_of_the_others() -> None:
    patients = np.repeat(["a", "b"], 4)
    true = np.array(["eosinophil", "x", "x", "x", "eosinophil", "eosinophil", "eosinophil", "x"])
    perfect = pseudo.composition(true, true, patients)
    assert (perfect["error"], perfect["correlation_cell"], perfect["accuracy"]) == (0.0, pytest.approx(1.0), 1.0)
    assert perfect["error_baseline"] == pytest.approx(0.5)
    nothing = pseudo.composition(np.full(8, "x"), true, patients)
    assert (nothing["error"], nothing["correlation"], nothing["accuracy"]) == (pytest.approx(0.5), 0.0, 0.5)


@pytest.fixture(scope="module")
def work(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> CohortWork:
    """24 patients of 24 cells, with an SAE trained briefly, up to their barcodes."""
    data = shared_data / "acevedo"
    folder = tmp_path_factory.mktemp("pseudo")
    table = pseudo.compose(pseudo.stock(data), patients=6, cells=24, seed=0)
    study = Study.open(folder / "study", [pseudo.write_manifest(table, data, folder / "patients")], [SMALL])
    study.read_all_cells()
    study.extract("patients")
    study.train()
    study.build_atlas("patients")
    found = CohortWork(study)
    found.check_copies()
    found.make_barcodes()
    return found


@pytest.fixture(scope="module")
def atlas(work: CohortWork) -> AnnData:
    return work.atlas.to_memory()


@pytest.mark.slow
def test_composition_is_recovered_from_concepts(atlas: AnnData) -> None:
    labels, patients = (atlas.obs[name].astype(str).to_numpy() for name in ("label", "patient"))
    found = pseudo.composition(pseudo.predict_types(atlas), labels, patients)
    assert found["error"] < 0.6 * found["error_baseline"]
    assert found["correlation_cell"] > 0.7
    assert found["accuracy"] > found["accuracy_baseline"] + 0.2


@pytest.mark.slow
def test_what_is_specific_for_eosinophilia_are_concepts_of_eosinophils(work: CohortWork, atlas: AnnData) -> None:
    there = (atlas.obs["label"].astype(str) == "eosinophil").mean()
    # the least p of 6 against 6 patients (2 / 924) calls none of 1,500 concepts unless dozens of them have it, so that
    # what is asked is whether the largest effects are right
    for kind, times in (("mean", 3), ("presence", 2)):
        largest = pseudo.specific_concepts(pseudo.contrast_of(work, kind=kind), called=False)
        assert len(largest) == 10
        assert pseudo.reference_share(atlas, largest).mean() > times * there, kind


@pytest.mark.slow
def test_cells_ranked_by_other_patients_concepts_are_eosinophils(atlas: AnnData) -> None:
    ranked = pathognomonic_cells(atlas, "eosinophilia", "normal").set_index("cell_id")["score"]
    scores = {
        "concepts": ranked.reindex(atlas.obs_names).to_numpy(float),
        "neighbours": neighbour_scores(atlas, "eosinophilia"),
    }
    truth = truth_of_labels(atlas, ["eosinophil"])
    table = evaluate_rankings(scores, truth, pd.Series(atlas.obs["patient"].astype(object))).table
    assert table.loc["concepts", "precision_gain_low"] > 0.15
    assert table.loc["concepts", "average_precision"] > table.loc["chance", "average_precision"] + 0.3


@pytest.mark.slow
def test_explanations_of_held_out_patients_point_at_eosinophils(work: CohortWork, atlas: AnnData) -> None:
    table = pseudo.explain_held_out(work.barcodes, atlas, Configuration("presence"), CONFIG)
    assert len(table) == 6
    assert (table["residual"] <= 1e-6).all()
    assert (table["decision"] > 0).sum() >= 5
    assert table["first"].mean() > table["share"].mean() + 0.1
    assert table["difference"].mean() > table["share"].mean() + 0.1


@pytest.mark.slow
def test_diagnoses_are_told_apart_and_shuffled_ones_are_not(work: CohortWork, atlas: AnnData) -> None:
    real, f1 = _four(work, atlas, None)
    shuffled = np.array([_four(work, atlas, seed)[0] for seed in range(4)])
    assert real > 0.75
    assert f1 > 0.45
    assert abs(shuffled.mean() - 0.5) < 0.15
    assert shuffled.max() < real - 0.15


def _four(work: CohortWork, atlas: AnnData, shuffle: int | None) -> tuple[float, float]:
    """AUROC (mean of each diagnosis against the rest) and macro F1 of held-out patients, three folds."""
    made = work.barcodes.copy()
    names = made.obs["diagnosis"].astype(str).to_numpy()
    if shuffle is not None:
        names = np.random.default_rng(shuffle).permutation(names)
    made.obs["diagnosis"] = names
    classes, y = np.unique(names, return_inverse=True)
    config = replace(CONFIG, positive=None, inner_folds=2)
    decision = np.zeros((len(y), len(classes)))
    for fold in Design(y).folds(3):
        train = made[fold.train].copy()
        seen = atlas[atlas.obs["patient"].isin(train.obs_names).to_numpy()]
        classifier = fit_classifier(train, seen, configuration=Configuration("presence"), config=config)
        order = [classifier.classes.index(name) for name in classes]
        decision[fold.test] = classifier.decision(np.asarray(made.layers["presence"])[fold.test])[:, order]
    aurocs = [roc_auc_score(y == k, decision[:, k]) for k in range(len(classes))]
    return float(np.mean(aurocs)), float(f1_score(y, decision.argmax(1), average="macro"))

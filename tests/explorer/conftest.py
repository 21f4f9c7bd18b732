"""The explorer of one small study, opened once a session."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import SMALL
from fastapi.testclient import TestClient
from made_once import made_once, own_copy

from cytosae.cells.synthetic import synthesize
from cytosae.explorer import ExplorerSettings, create_app
from cytosae.pipeline import Study
from cytosae.pipeline.cohort_work import CohortWork

QUICK = {
    "retest_cells": 0,
    "painted_cells": 0,
    "stability": 0,
    "pages": 1,
    "concepts": 2,
    "classification": {
        "folds": 3,
        "inner_folds": 2,
        "repeats": 1,
        "slow_repeats": 1,
        "shuffles": 0,
        "bootstrap": 20,
        "strengths": [1.0],
        "few_concepts": 2,
        "attention": {"most_epochs": 1, "inner_folds": 2},
    },
}
"""Changes that make a classification quick."""


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What can be made again goes to a folder of this run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CYTOSAE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def explorer(study_of_smear: Path, cache: None) -> TestClient:
    """A client of the explorer of the synthetic smear; it asks as a browser on this machine would."""
    return TestClient(create_app(ExplorerSettings(study=study_of_smear)), base_url="http://127.0.0.1:8765")


@pytest.fixture(scope="session")
def study_of_two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of two data sets, "here" and "there"; tests read it and leave it as it is."""

    def run(folder: Path) -> None:
        names = enumerate(("here", "there"))
        images = [synthesize(folder / name, patients=2, cells=10, seed=seed) for seed, name in names]
        Study.open(folder / "study", images, [SMALL]).run()

    return own_copy(made_once(tmp_path_factory, "two", run), tmp_path_factory)


@pytest.fixture(scope="session")
def explorer_of_two(study_of_two: Path, cache: None) -> TestClient:
    """A client of the explorer of two data sets."""
    return TestClient(create_app(ExplorerSettings(study=study_of_two)), base_url="http://127.0.0.1:8765")


@pytest.fixture(scope="session")
def study_of_patients(study_of_cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cohort with its classification; tests read it and leave it as it is."""

    def compare(folder: Path) -> None:
        work = Study.open(shutil.copytree(study_of_cohort, folder / "study"), (), [{"cohort": QUICK}])
        with work.alone():
            CohortWork(work).run()

    return own_copy(made_once(tmp_path_factory, "patients", compare), tmp_path_factory)


@pytest.fixture(scope="session")
def explorer_of_patients(study_of_patients: Path, cache: None) -> TestClient:
    """A client of the explorer of a classified cohort."""
    return TestClient(create_app(ExplorerSettings(study=study_of_patients)), base_url="http://127.0.0.1:8765")

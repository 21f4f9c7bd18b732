"""Fixtures that the whole suite shares; each heavy thing is made once a session."""

from __future__ import annotations

from pathlib import Path

import hypothesis
import pytest
from made_once import made_once, own_copy

hypothesis.settings.register_profile("untimed", deadline=None)  # a busy machine is no failure
hypothesis.settings.load_profile("untimed")

pytest_plugins = ["views.view_fixtures"]


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("cuda"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("needs a CUDA device")


def pytest_configure(config: pytest.Config) -> None:
    """Have files go to the workers in the order below; pytest-xdist would put those of few tests last."""
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first, so that no worker begins a long one when the other has nothing left."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


SHARED = Path(__file__).resolve().parents[1].parent / "shared"


def pytest_addoption(parser: pytest.Parser) -> None:
    """How long the readers are given damaged files, all kinds together (longer finds more); outputs of tutorials."""
    parser.addoption("--fuzz-seconds", type=float, default=30.0, help="seconds of damaged files (tests/fuzz)")
    parser.addoption("--write-outputs", action="store_true", help="write the outputs of tutorials into docs")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real cells beside the project."""
    path = SHARED / "data"
    if not path.is_dir():
        pytest.skip("the shared real cells (../shared/data) are not here")
    return path


@pytest.fixture(scope="session")
def shared_reference() -> Path:
    """Folder of what the published code does, beside the project."""
    path = SHARED / "reference"
    if not path.is_dir():
        pytest.skip("the reference material (../shared/reference) is not here")
    return path


@pytest.fixture(scope="session")
def smear(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A synthetic smear of 60 cells of 4 patients, with masks."""
    from cytosae.cells.synthetic import synthesize

    def draw(folder: Path) -> None:
        synthesize(folder / "smear", patients=4, cells=15, seed=3)

    return made_once(tmp_path_factory, "cells", draw) / "smear"


SMALL = {
    "sae": {"expansion": 2, "sparsity": {"k": 8}, "train": {"steps": 60, "batch_tokens": 1024, "checkpoint_every": 20}},
    "extract": {"workers": 0},
    "report": {"concepts": 6},
    "localisation": {"bootstrap": 100, "permutations": 3},
}
"""Changes that make a study quick."""


@pytest.fixture(scope="session")
def study_of_smear(smear: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study of the synthetic smear; tests read it and leave it as it is."""
    from cytosae.pipeline import Study

    def run(folder: Path) -> None:
        Study.open(folder / "study", [smear], [SMALL]).run()

    return own_copy(made_once(tmp_path_factory, "study", run), tmp_path_factory)


@pytest.fixture(scope="session")
def study_of_cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of 12 synthetic patients with two diagnoses, its atlas finished; tests copy it."""
    from cytosae.cells.synthetic import synthesize
    from cytosae.pipeline import Study

    def begin(folder: Path) -> None:
        images = synthesize(folder / "patients", patients=12, cells=12, seed=5, diagnoses=("control", "PML::RARA-like"))
        study = Study.open(folder / "study", [images], [SMALL])
        study.read_all_cells()
        for step in (study.extract, lambda _: study.train(), study.build_atlas):
            step("patients")

    return own_copy(made_once(tmp_path_factory, "cohort", begin), tmp_path_factory)

from __future__ import annotations

import shutil

import pytest
from made_once import made_once, own_copy

from cytosae.cli import main

QUICK = ["--cohort.painted-cells", 24, "--cohort.stability", 2, "--cohort.pages", 2, "--cohort.concepts", 3]
for name, value in {
    "folds": 2, "repeats": 1, "inner-folds": 2, "slow-repeats": 1, "shuffles": 1, "bootstrap": 50,
    "few-concepts": 4, "most-concepts": 4, "attention.most-epochs": 3,
}.items():  # fmt: skip
    QUICK += [f"--cohort.classification.{name}", value]


def run(*words: object) -> int:
    """A command as it is typed; its exit code."""
    return main([str(word) for word in words])


@pytest.fixture(scope="session")
def finished(study_of_cohort, tmp_path_factory):
    """The small study with its cohort compared; tests copy it before they change it."""

    def compare(folder):
        path = shutil.copytree(study_of_cohort, folder / "study")
        assert run("cohort", "--study", path, *QUICK) == 0

    return own_copy(made_once(tmp_path_factory, "finished", compare), tmp_path_factory)

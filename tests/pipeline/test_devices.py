"""The whole way on another device: `run`, `cohort` and `explain` give what they give on the processor.

Elsewhere is a device that is not there (`elsewhere`), on which every machine can take the way; the same on a GPU where
there is one. From one SAE active sets are the same; training anew rounds otherwise, so that only its figures are near.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import SMALL
from elsewhere import ELSEWHERE, elsewhere
from lightning_fabric import Fabric
from lightning_fabric.accelerators import Accelerator
from lightning_fabric.strategies import SingleDeviceStrategy

from cytosae.atlas import open_atlas
from cytosae.cli import main
from cytosae.cohort import open_classification
from cytosae.common import runtime
from cytosae.common.artifact import read_artifact
from cytosae.pipeline import Study
from cytosae.pipeline.cohort_work import CohortWork
from cytosae.tokens import open_tokens

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


class _Elsewhere(Accelerator):
    """What Fabric wants to know of the device that is not there."""

    def setup_device(self, device: torch.device) -> None: ...
    def teardown(self) -> None: ...

    @staticmethod
    def parse_devices(devices: int) -> int:
        return devices

    @staticmethod
    def get_parallel_devices(devices: int) -> list[torch.device]:
        return [ELSEWHERE] * devices

    @staticmethod
    def auto_device_count() -> int:
        return 1

    @staticmethod
    def is_available() -> bool:
        return True

    @staticmethod
    def name() -> str:
        return "elsewhere"


@pytest.fixture(params=["elsewhere", pytest.param("cuda", marks=pytest.mark.cuda)])
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, object]]:
    """Options of the runtime that lead to the device, as in ``study.toml``."""
    if request.param == "cuda":
        yield {"device": "cuda", "devices": 1}
        return
    fabric = Fabric(strategy=SingleDeviceStrategy(ELSEWHERE, accelerator=_Elsewhere()))
    monkeypatch.setattr(runtime, "make_fabric", lambda *_, **__: fabric)
    with elsewhere():
        yield {}


def options(device: dict[str, object]) -> list[str]:
    return [word for name, value in device.items() for word in (f"--runtime.{name}", str(value))]


def document(capfd: pytest.CaptureFixture[str], *words: str) -> dict:
    """What a command prints as JSON."""
    capfd.readouterr()
    assert main([*words, "--json"]) == 0
    return json.loads(capfd.readouterr().out)


def assert_same_atlas(found: Path, expected: Path) -> None:
    mine, theirs = open_atlas(found), open_atlas(expected)
    np.testing.assert_array_equal(mine.X.indptr, theirs.X.indptr)
    np.testing.assert_array_equal(mine.X.indices, theirs.X.indices)
    np.testing.assert_allclose(mine.X.data, theirs.X.data, rtol=1e-3, atol=1e-4)
    above, wanted = mine.layers["tokens_above"].toarray(), theirs.layers["tokens_above"].toarray()
    assert np.abs(above - wanted).sum() <= 1e-3 * wanted.sum()  # activations beside tau
    for column in ("activation_frequency", "token_frequency", "mean_activation", "max_activation"):
        np.testing.assert_allclose(mine.var[column], theirs.var[column], rtol=1e-3, atol=1e-5)


def test_a_run_from_images_to_pages(device, smear: Path, study_of_smear: Path, tmp_path: Path) -> None:
    Study.open(tmp_path / "study", [smear], [SMALL, {"runtime": device}]).run()
    assert (tmp_path / "study" / "report.html").stat().st_size > 100_000
    tokens, wanted = (open_tokens(path / "tokens" / "smear") for path in (tmp_path / "study", study_of_smear))
    torch.testing.assert_close(tokens.read(0, 60), wanted.read(0, 60), rtol=1e-2, atol=2e-2)  # stored as float16
    facts, expected = (read_artifact(path / "sae", "sae").details for path in (tmp_path / "study", study_of_smear))
    for name, room in {"l0": 0.01, "explained_variance": 0.02, "dead_share": 0.02}.items():
        assert facts[name] == pytest.approx(expected[name], abs=room)
    assert facts["tau"] == pytest.approx(expected["tau"], rel=0.05)


def test_from_one_sae_the_atlas_is_the_same(device, study_of_smear: Path, tmp_path: Path, capfd, smear: Path) -> None:
    study = shutil.copytree(study_of_smear, tmp_path / "study")
    for left in ("atlas", "localisation.json", "localisation.json.artifact.json", "report.html"):
        path = study / left
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    assert main(["run", "--study", str(study), *options(device)]) == 0
    assert_same_atlas(study / "atlas" / "smear.h5ad", study_of_smear / "atlas" / "smear.h5ad")
    image = sorted((smear / "images").rglob("*.png"))[5]
    command = ["explain", str(image), "--out", str(tmp_path / "page.html")]
    mine, theirs = (document(capfd, *command, "--study", str(path)) for path in (study, study_of_smear))
    assert [c["latent"] for c in mine["concepts"]] == [c["latent"] for c in theirs["concepts"]]
    for latent, grid in theirs["maps"].items():
        np.testing.assert_allclose(mine["maps"][latent], grid, rtol=1e-2, atol=1e-3)


def run_cohort(study: Path, device: dict[str, object]) -> Path:
    """Barcodes to pages, quickly; tokens in another stain and an SAE with random weights are made on the device."""
    quick = {"folds": 2, "inner_folds": 2, "repeats": 1, "slow_repeats": 1, "shuffles": 1, "bootstrap": 50}
    quick |= {"strengths": [1.0], "few_concepts": 2, "attention": {"most_epochs": 1, "inner_folds": 2}}
    cells = {"retest_cells": 50, "painted_cells": 24}
    asked = {**cells, "stability": 0, "pages": 1, "concepts": 2, "classification": quick}
    CohortWork(Study.open(study, changes=[{"cohort": asked, "runtime": device}])).run()
    return study


@pytest.fixture(scope="module")
def cohort_here(study_of_cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cohort as the processor finds it."""
    return run_cohort(shutil.copytree(study_of_cohort, tmp_path_factory.mktemp("here") / "study"), {})


def test_a_cohort_from_atlas_to_pages(cohort_here: Path, device, study_of_cohort: Path, tmp_path: Path, capfd) -> None:
    study = run_cohort(shutil.copytree(study_of_cohort, tmp_path / "study"), device)
    found, expected = (path / "cohort" / "patients" for path in (study, cohort_here))
    tables = [open_classification(place / "classification.json").table for place in (found, expected)]
    mine, theirs = (table.set_index("model") for table in tables)
    assert list(mine.index) == list(theirs.index)
    concepts = theirs["family"] == "concepts"
    np.testing.assert_allclose(mine["auroc"][concepts], theirs["auroc"][concepts], atol=1e-6)
    np.testing.assert_allclose(mine["auroc"], theirs["auroc"], atol=0.1)  # of the random SAE tokens lie beside tau
    command = ["cohort", "explain", "P000", "--out", str(tmp_path / "page.html")]
    mine, theirs = (document(capfd, *command, "--study", str(path)) for path in (study, cohort_here))
    assert mine.keys() == theirs.keys()
    assert (found / "report.html").stat().st_size > 100_000

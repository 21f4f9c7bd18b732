from __future__ import annotations

import datetime
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from atlas.stub_chain import make_chain
from PIL import Image

from cytosae.atlas import build_atlas
from cytosae.atlas.unit_search import LocalisationConfig, search_units
from cytosae.report import DatasetReport, write_report

EVIL = "<script>alert('x')</script>"
SUMMARY = {
    "l0": 3.2,
    "explained_variance": 0.87,
    "variance_of_positions": 0.49,
    "explained_variance_after_position": 0.75,
    "dead_share": 1 / 30,
}


def make_dataset(folder: Path, name: str, seed: int) -> tuple[object, DatasetReport]:
    sae, store, cells = make_chain(24, seed=seed, classes=("basophil", EVIL, "neutrophil"))
    sae = make_chain(2)[0]
    cells.name, cells.root = name, folder
    rng = np.random.default_rng(seed)
    for image in cells.frame["image"]:
        Image.fromarray(rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(folder / image)
    cells.skipped = pd.DataFrame({"path": [f"{EVIL}.png"], "reason": ["truncated & <b>broken</b>"]})
    cells.duplicates = pd.DataFrame(
        {
            "cell_id": ["a"],
            "kept": ["a.png"],
            "dropped": ["b.png"],
            "kept_label": ["basophil"],
            "dropped_label": ["neutrophil"],
            "labels_differ": [True],
        }
    )
    return sae, DatasetReport(build_atlas(sae, store, cells), cells, store)


@pytest.fixture(scope="session")
def localised():
    rng = np.random.default_rng(0)
    area = (rng.random((20, 16)) < 0.4).astype(np.float32)
    units = {"SAE latent": rng.random((320, 5)), "backbone neuron": rng.standard_normal((320, 6))}
    units["backbone neuron"][:, 2] = area.ravel() + 0.1 * rng.random(320)
    import scipy.sparse as sp

    units["SAE latent"] = sp.csc_array(units["SAE latent"])
    names = np.array(["first"] * 10 + ["second"] * 10)
    config = LocalisationConfig(bootstrap=100)
    return search_units(units, {"nucleus": area, "cytoplasm": 1 - area}, names, np.arange(20) % 2 == 0, config)


@pytest.fixture(scope="session")
def datasets(tmp_path_factory):
    made = [make_dataset(tmp_path_factory.mktemp(name), name, seed) for name, seed in (("first", 0), ("second", 1))]
    return made[0][0], [dataset for _, dataset in made]


@pytest.fixture(scope="session")
def report(datasets, localised, tmp_path_factory) -> Path:
    sae, both = datasets
    return write_report(
        tmp_path_factory.mktemp("report") / "report.html",
        datasets=both,
        sae=sae,
        sae_summary=SUMMARY,
        backbone={"name": "tiny", "width": 12, "side": 4, "block": 4, "weights_hash": "ab" * 32},
        localisation=localised,
        wall_times={"Training": 187.2},
        trained_on=["first"],
        title=f"Report of {EVIL}",
        concepts=5,
        created=datetime.datetime(2025, 7, 16, tzinfo=datetime.UTC),
    )


@pytest.fixture(scope="session")
def chromium() -> str:
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        pytest.skip("no Chromium is installed here (Debian: apt-get install chromium)")
    return found

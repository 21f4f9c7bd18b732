"""The demo: a synthetic smear, and options that keep the whole way under five minutes on two cores."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from cytosae.cells.synthetic import synthesize

DEMO: dict[str, Any] = {
    "sae": {"expansion": 8, "train": {"steps": 600}},
    "localisation": {"cells": 200},
    "report": {"concepts": 30, "title": "Concepts of a synthetic smear"},
    "cohort": {
        "retest_cells": 400,
        "painted_cells": 400,
        "stability": 10,
        "pages": 5,
        "concepts": 6,
        "classification": {
            "kinds": ["presence", "mean"],
            "folds": 4,
            "inner_folds": 3,
            "repeats": 1,
            "slow_repeats": 1,
            "shuffles": 1,
            "bootstrap": 300,
            "few_concepts": 12,
            "strengths": [0.1, 1.0, 10.0, 100.0],
        },
    },
}
"""Changes of a study's configuration."""

PATIENTS, CELLS, SEED = 40, 50, 7


def draw_smear(folder: Path) -> Path:
    """The demo's cells, drawn unless they are there already; 40 patients of 50 cells, of one laboratory."""
    if not (folder / "manifest.csv").is_file():
        processes = os.cpu_count() or 1
        synthesize(folder, patients=PATIENTS, cells=CELLS, seed=SEED, processes=processes)
    return folder

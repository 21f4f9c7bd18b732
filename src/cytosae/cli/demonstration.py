"""The demo: a synthetic smear, and options that keep the whole way under five minutes on two cores, or under one."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cytosae.cells.synthetic import DIAGNOSES, synthesize
from cytosae.cli.output import Output
from cytosae.cli.studies import open_study
from cytosae.common.errors import UsageError
from cytosae.pipeline.cohort_work import CohortWork

_SEED = 7
_WHOLE: dict[str, Any] = {
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
_QUICK: dict[str, Any] = {
    "extract": {"workers": 0},
    "sae": {"expansion": 2, "train": {"steps": 40, "batch_tokens": 512}},
    "localisation": {"cells": 20, "bootstrap": 100, "permutations": 3},
    "report": {"concepts": 4, "title": "Concepts of a few synthetic cells"},
    "cohort": {
        "retest_cells": 50,
        "painted_cells": 20,
        "stability": 2,
        "pages": 2,
        "concepts": 3,
        "classification": {
            "kinds": ["presence"],
            "folds": 2,
            "inner_folds": 2,
            "repeats": 1,
            "slow_repeats": 1,
            "shuffles": 1,
            "bootstrap": 100,
            "few_concepts": 4,
            "most_concepts": 4,
            "strengths": [1.0, 10.0],
            "attention": {"most_epochs": 5},
        },
    },
}


@dataclass(frozen=True)
class Demonstration:
    """One size of the demo.

    Attributes
    ----------
    folder : Path
        Of the study, where none is named.
    patients, cells : int
        Patients that are drawn, and cells of each, all of one laboratory.
    diagnoses : tuple of str
        Of the patients, in turn.
    changes : mapping
        Of a study's configuration.
    """

    folder: Path
    patients: int
    cells: int
    diagnoses: tuple[str, ...]
    changes: Mapping[str, Any] = field(repr=False)

    def draw(self, folder: Path) -> Path:
        """The cells of the demo, drawn unless they are there already.

        Raises
        ------
        UsageError
            where other cells lie there: those of the other size.
        """
        if not (folder / "manifest.csv").is_file():
            many = self.patients * self.cells > 500  # fewer are drawn before other processes have started
            return synthesize(
                folder,
                processes=os.cpu_count() or 1 if many else 1,
                patients=self.patients,
                cells=self.cells,
                seed=_SEED,
                diagnoses=self.diagnoses,
            )
        with (folder / "manifest.csv").open(encoding="utf-8", newline="") as stream:
            drawn = len({row["patient"] for row in csv.DictReader(stream)})
        if drawn != self.patients:
            raise UsageError(
                f"{folder} holds {drawn} drawn patients, and this demo has {self.patients}; name another --study."
            )
        return folder


WHOLE = Demonstration(Path("runs/demo"), 40, 50, tuple(DIAGNOSES), _WHOLE)
"""Enough patients for figures that mean something; some minutes."""
QUICK = Demonstration(Path("runs/demo-quick"), 8, 7, ("control", "PML::RARA-like"), _QUICK)
"""Enough to see that every step works here and what each leaves; its figures mean nothing."""


def demonstrate(size: Demonstration, study: Path | None, output: Output) -> None:
    """Draw the cells, go the whole way, and say where everything lies."""
    study = study or size.folder
    images = size.draw(study / "smear")
    output.line(f"Drew a synthetic smear: {images}")
    work = open_study(study, output, [size.changes], images=[images])
    work.run()
    with work.alone():
        patients = CohortWork(work)
        patients.run()
    report, cohort = work.place("report"), work.place("cohort_report", patients.dataset)
    output.line("")
    output.line(f"Done. The concepts are in {report}, the patients in {cohort}; open them in a browser.")
    output.line(f"To click through them: cytosae explore {study}")
    output.line("With your own images: cytosae run IMAGES --study DIR")
    output.result(study=work.path, report=report, cohort=cohort)
    output.finish()

"""The patients of a data set of a study: what is asked of them, their artifacts, and all that makes those."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING

import pandas as pd

from cytosae.common.errors import InputError, UsageError
from cytosae.common.names import file_name
from cytosae.pipeline import cohort_steps
from cytosae.pipeline.configuration import CohortConfig
from cytosae.pipeline.places import Opener, Place

if TYPE_CHECKING:
    from anndata import AnnData

    from cytosae.cohort.classification.classifier import ConceptClassifier
    from cytosae.cohort.classification.result import ClassificationResult
    from cytosae.cohort.config import ClassificationConfig
    from cytosae.pipeline.step import StepResult
    from cytosae.pipeline.study import Study


class Patients:
    """Patients of one data set, and their artifacts, each opened at first use.

    Parameters
    ----------
    source : Opener
        The study, or a step at work, through which artifacts are opened.
    dataset : str
        Data set with the patients.
    config : CohortConfig
        What is asked.
    """

    config: CohortConfig
    dataset: str

    def __init__(self, source: Opener, dataset: str, config: CohortConfig) -> None:
        self.source, self.dataset, self.config = source, dataset, config

    @cached_property
    def atlas(self) -> AnnData:
        """The cells, left on disk."""
        return self.source.atlas(self.dataset, backed="r")

    @cached_property
    def colours(self) -> pd.DataFrame:
        """Colour statistics of the cells, index cell_id."""
        return self.source.read(Place("colours", self.dataset))

    @cached_property
    def barcodes(self) -> AnnData:
        """Patients x latents."""
        return self.source.read(Place("cohort", self.dataset))

    @cached_property
    def control(self) -> AnnData:
        """Patients x latents of an SAE with random weights."""
        return self.source.read(Place("control", self.dataset))

    @property
    def retest(self) -> AnnData | None:
        """Some of the cells in two stains; None where none were asked for."""
        return self.retest_by("concepts")

    def retest_by(self, name: str) -> AnnData | None:
        """`retest` by the SAE ("concepts") or by the one with random weights ("control")."""
        if not self.config.retest_cells:
            return None
        return self.source.read(Place("retest", self.dataset), name=name, verify=False)

    def result(self) -> ClassificationResult:
        """The classification that is there."""
        return self.source.read(Place("classification", self.dataset))

    def classifier(self) -> ConceptClassifier:
        """The fitted classifier that is there."""
        return self.source.read(Place("classifier", self.dataset))

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The diagnoses to tell apart; None for all."""
        return self.config.compare or None

    @cached_property
    def counts(self) -> Mapping[str, int]:
        """Patients of each diagnosis."""
        return {str(name): int(n) for name, n in self.barcodes.obs["diagnosis"].value_counts().items() if n}

    @property
    def comparisons(self) -> list[tuple[str, str]]:
        """Pairs that are contrasted: the two diagnoses, the one to be found first; of more, each against the rest."""
        from cytosae.cohort import REST

        names = list(self.config.compare) or sorted(self.counts)
        positive = self.asked.positive
        if len(names) == 2:
            return [(name, next(other for other in names if other != name)) for name in names if name == positive]
        return [(name, REST) for name in names]

    @cached_property
    def asked(self) -> ClassificationConfig:
        """The classification, with the diagnosis to be found: as asked, the first to compare, or the rarer of two."""
        asked, compared = self.config.classification, self.config.compare
        if asked.positive is not None or len(compared or self.counts) != 2:
            return asked
        rarer = min(sorted(self.counts, reverse=True), key=lambda name: self.counts[name])
        return replace(asked, positive=compared[0] if compared else rarer)

    def pair(self, a: str, b: str) -> str:
        """Name of a comparison, as its artifacts have it."""
        return f"{self.dataset}/{file_name(a)}-against-{file_name(b)}"


class CohortWork(Patients):
    """The patients of a study, and the steps that compare them.

    Parameters
    ----------
    study : Study
        With tokens, SAE and atlas of the data set.
    config : CohortConfig or None
        None for what the study's configuration says.

    Raises
    ------
    UsageError
        no or more than one data set has patients and diagnoses and none is named; ``compare`` is not two different
        diagnoses.
    InputError
        the named data set has no patients, or none with a diagnosis.
    """

    study: Study

    def __init__(self, study: Study, config: CohortConfig | None = None) -> None:
        self.study = study
        asked = config or study.config.cohort
        if asked.dataset is not None:
            study.cells(asked.dataset)
        super().__init__(study, asked.dataset or _only_dataset(study, asked), asked)

    def run(self) -> list[StepResult]:
        """All steps."""
        self.check_copies()
        steps = cohort_steps.all_steps(self, self.study.config, self.study.context)
        results = self.study.do(islice(steps, 2))  # the colours and the barcodes, which tell who is there
        self.check_diagnoses()
        self.study.save_config()
        return results + self.study.do(steps)

    def make_barcodes(self) -> StepResult:
        """Sum up the cells of each patient."""
        return self.study.context.run(cohort_steps.barcodes_step(self.dataset, self.config))

    def check_copies(self) -> None:
        """Refuse an image that stands under two patients: it would be trained on and tested."""
        copies = self.study.cells(self.dataset).duplicates
        shared = copies[[self.config.patient in names for names in copies["differs"]]]
        if len(shared):
            first = shared.iloc[0]
            raise InputError(
                f"{len(shared)} images stand under two patients, so that they would be trained on and tested: "
                f"{first['kept']} is {first['dropped']}; remove one of each, or correct the column "
                f"{self.config.patient!r}."
            )

    def check_diagnoses(self) -> None:
        """Refuse a comparison that cannot be made, before hours are spent on it."""
        from cytosae.cohort import near_duplicates

        names = sorted(set(self.barcodes.obs["diagnosis"].dropna()))
        for name in self.config.compare:
            if name not in names:
                alike = [b if a == name else a for a, b in near_duplicates([*names, name]) if name in (a, b)]
                hint = f"; did you mean {alike[0]!r}" if alike else ""
                raise UsageError(f"no patient has the diagnosis {name!r}{hint}; there are: {', '.join(names)}.")
        if len(names) < 2:
            only = f"all patients have the diagnosis {names[0]!r}" if names else "no patient has a diagnosis"
            raise InputError(f"{self.dataset}: {only}; nothing can be compared. Add patients of another group.")


def _only_dataset(study: Study, asked: CohortConfig) -> str:
    columns = (asked.patient, asked.diagnosis)
    frames = {name: study.cells(name).frame for name in study.datasets}
    usable = [
        name for name, frame in frames.items() if all(c in frame and bool(frame[c].notna().any()) for c in columns)
    ]
    if len(usable) == 1:
        return usable[0]
    if not usable:
        raise InputError(
            f"No data set of {study.path} has cells with {columns[0]!r} and {columns[1]!r}; add these columns to its "
            "manifest, or name other columns with --cohort.patient and --cohort.diagnosis."
        )
    raise UsageError(f"{', '.join(usable)} all have patients; choose one with --cohort.dataset.")

"""The patients of a data set of a study: what is asked of them, and their artifacts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pandas as pd

from cytosae.common.names import file_name
from cytosae.pipeline.places import Opener, Place
from cytosae.pipeline.study_config import CohortConfig

if TYPE_CHECKING:
    from anndata import AnnData

    from cytosae.cohort.classification.approval import Approval
    from cytosae.cohort.classification.classifier import ConceptClassifier
    from cytosae.cohort.classification.result import ClassificationResult
    from cytosae.cohort.config import ClassificationConfig


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
    hold : bool
        Whether classification and classifier are read once, as by a server, and not whenever they are asked for.
    """

    source: Opener
    config: CohortConfig
    dataset: str
    hold: bool

    def __init__(self, source: Opener, dataset: str, config: CohortConfig, *, hold: bool = False) -> None:
        self.source, self.dataset, self.config, self.hold = source, dataset, config, hold
        self._held: dict[Place, Any] = {}

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

    @property
    def cell_controls(self) -> Mapping[str, AnnData]:
        """Barcodes of what is no cell, and of the cell alone; empty where none were asked for."""
        if not self.config.painted_cells:
            return {}
        return self.source.read(Place("focus", self.dataset), verify=False)

    def result(self) -> ClassificationResult:
        """The classification that is there."""
        return self._read(Place("classification", self.dataset))

    def classifier(self) -> ConceptClassifier:
        """The fitted classifier that is there."""
        return self._read(Place("classifier", self.dataset))

    def _read(self, place: Place) -> Any:
        if not self.hold:
            return self.source.read(place)
        if place not in self._held:
            self._held[place] = self.source.read(place)
        return self._held[place]

    def approval(self) -> Approval:
        """What approved concepts alone tell, where that was asked."""
        return self.source.read(Place("approval", self.dataset))

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

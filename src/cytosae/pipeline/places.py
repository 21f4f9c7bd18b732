"""Where each artifact of a study lies and how it is opened: one table for steps, for people and for the doctor."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    import anndata as ad
    import pandas as pd

    from cytosae.cells import CellTable
    from cytosae.sae import SparseAutoencoder
    from cytosae.tokens import TokenStore

PLACES = {
    "cells": "cells/{of}",
    "tokens": "tokens/{of}",
    "in_focus": "in_focus/{of}.parquet",
    "sae": "sae",
    "sweep": "sweep",
    "atlas": "atlas/{of}.h5ad",
    "random_latents": "atlas/{of}-random.parquet",
    "looks": "atlas/{of}-looks.parquet",
    "localisation": "localisation.json",
    "pairs": "pairs",
    "report": "report.html",
    "colours": "cohort/{of}/colours.parquet",
    "cohort": "cohort/{of}.h5ad",
    "control": "cohort/{of}/control.h5ad",
    "retest": "cohort/{of}/retest",
    "focus": "cohort/{of}/focus",
    "contrasts": "cohort/{of}.parquet",
    "ranking": "cohort/{of}-cells",
    "classification": "cohort/{of}/classification.json",
    "classifier": "cohort/{of}/classifier",
    "approval": "cohort/{of}/approval.json",
    "cohort_report": "cohort/{of}/report.html",
    "validation": "cohort/{of}/validation.json",
    "validation_report": "cohort/{of}/validation.html",
}
"""Role of an artifact in a study -> where it lies below the study; ``of`` is a data set or a comparison."""

SUFFIXES = {"atlas": (".h5ad", ".zarr")}
"""Role -> suffixes that its artifact may have, as a study asks; the first where nothing is asked or there."""

COMPARED = ("contrasts", "ranking")
"""Roles that are about a comparison, whose name is that of a data set and, after a slash, its own."""

KINDS = {"control": "cohort", "cohort_report": "report", "validation_report": "report"}
"""Role -> kind of the artifact, where the two differ."""

READERS = {
    "cells": "cytosae.cells:CellTable.load",
    "tokens": "cytosae.tokens:open_tokens",
    "in_focus": "cytosae.tokens:open_tokens_in_focus",
    "sae": "cytosae.sae:load_sae",
    "atlas": "cytosae.atlas:open_atlas",
    "random_latents": "cytosae.atlas:open_random_latents",
    "looks": "cytosae.atlas.places.patch_looks:open_looks",
    "localisation": "cytosae.atlas:open_localisation",
    "pairs": "cytosae.evaluation.concept_pairs:open_pairs",
    "colours": "cytosae.cells.stain.colour:open_colours",
    "cohort": "cytosae.cohort:open_cohort",
    "retest": "cytosae.cohort:open_retest",
    "focus": "cytosae.cohort:open_cell_controls",
    "contrasts": "cytosae.cohort:open_contrast",
    "ranking": "cytosae.pipeline.cohort_cells:open_ranking",
    "classification": "cytosae.cohort:open_classification",
    "classifier": "cytosae.cohort:open_classifier",
    "approval": "cytosae.cohort:open_approval",
    "validation": "cytosae.cohort:open_validation",
}
"""Kind of an artifact -> the function that opens it; what is missing here is for people alone."""


def reader_of(kind: str) -> Callable[..., Any] | None:
    """The function that opens artifacts of a kind, imported at first use; None where there is none."""
    if kind not in READERS:
        return None
    module, _, name = READERS[kind].partition(":")
    return reduce(getattr, name.split("."), importlib.import_module(module))


class Place(NamedTuple):
    """Where an artifact of a study lies.

    Attributes
    ----------
    role : str
        A key of `PLACES`.
    of : str or None
        Data set or comparison that it is about; None for what a study has once.
    """

    role: str
    of: str | None = None

    @property
    def kind(self) -> str:
        """Kind of the artifact."""
        return KINDS.get(self.role, self.role)

    @property
    def dataset(self) -> str | None:
        """Data set that it is about; a comparison's name begins with it."""
        return self.of and self.of.partition("/")[0]

    @property
    def title(self) -> str:
        """As people read it, e.g. "atlas acevedo"."""
        return f"{self.role} {self.of}".replace("_", " ") if self.of else self.role

    def below(self, study: Path) -> Path:
        """Its path in the folder of a study, the one that is there where it may have several."""
        paths = self.paths_below(study)
        return next((path for path in paths if path.exists()), paths[0])

    def paths_below(self, study: Path) -> list[Path]:
        """Every path that it may have in the folder of a study."""
        path = study / PLACES[self.role].format(of=self.of)
        return [path.with_suffix(suffix) for suffix in SUFFIXES.get(self.role, (path.suffix,))]


def atlases_below(study: Path) -> list[Path]:
    """The atlases in the folder of a study, whatever their format."""
    found = [path for every in Place("atlas", "*").paths_below(Path()) for path in study.glob(str(every))]
    return sorted(path for path in found if not path.name.startswith("."))  # which are unfinished


class Opener(ABC):
    """Something through which artifacts of a study are opened: the study, its context, or a step at work."""

    @abstractmethod
    def read(self, place: Place, **how: Any) -> Any:
        """Open the artifact at a place; ``how`` goes to its reader (`READERS`)."""

    def cells(self, dataset: str) -> CellTable:
        """The cell table of a data set."""
        return self.read(Place("cells", dataset))

    def tokens(self, dataset: str) -> TokenStore:
        """The token store of a data set; where it has a focus, one that knows which tokens count."""
        store = self.read(Place("tokens", dataset), verify=False)
        if not self.has_focus(dataset):
            return store
        from cytosae.tokens import FocusedStore

        return FocusedStore(store, self.read(Place("in_focus", dataset), verify=False))

    def has_focus(self, dataset: str) -> bool:
        """Whether only some of the tokens of a data set count."""
        del dataset
        return False

    def sae(self) -> SparseAutoencoder:
        """The trained SAE, on the device of the study."""
        return self.read(Place("sae"))

    @abstractmethod
    def has(self, place: Place) -> bool:
        """Whether there is an artifact at a place, to be opened from here."""

    def random_latents(self, dataset: str) -> pd.DataFrame | None:
        """Statistics of latents of random weights on a data set (`cytosae.atlas.describe_random`), where there are."""
        place = Place("random_latents", dataset)
        return self.read(place) if self.has(place) else None

    def followed(self) -> dict[int, str]:
        """What pairs of drawn cells tell of each concept, in a sentence, where they have been shown."""
        if not self.has(Place("pairs")):
            return {}
        from cytosae.views.datasets.pairs_view import sentences

        return sentences(self.read(Place("pairs")).latents)

    def looks(self, dataset: str) -> pd.DataFrame | None:
        """Colour and texture where latents light up (`cytosae.atlas.places.patch_looks`), where they were measured."""
        place = Place("looks", dataset)
        return self.read(place) if self.has(place) else None

    def atlas(self, dataset: str, *, backed: Literal["r", False] = False) -> ad.AnnData:
        """The atlas of a data set; with ``backed="r"`` its cells stay on disk, see `cytosae.atlas.open_atlas`."""
        return self.read(Place("atlas", dataset), backed=backed)

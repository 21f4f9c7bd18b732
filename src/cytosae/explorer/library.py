"""The opened study that every page reads: atlases and cell tables at once, models when a page needs them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from cytosae.common.artifact import read_artifact
from cytosae.common.errors import ArtifactError, CytosaeError, InputError
from cytosae.explorer.explorer_settings import ExplorerSettings
from cytosae.explorer.remembering import Remembered
from cytosae.pipeline import Study, index
from cytosae.pipeline.places import atlases_below
from cytosae.views import OpenedAtlas, OpenedDataset
from cytosae.views.concepts.concept_names import name_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from cytosae.atlas.stored.latent_columns import Columns
    from cytosae.backbones import AnyBackbone
    from cytosae.pipeline.concept_changes import ConceptChanges
    from cytosae.pipeline.patients import Patients
    from cytosae.report.pictures import Pictures
    from cytosae.reviews import Database
    from cytosae.sae import SparseAutoencoder
    from cytosae.views.datasets.comparison_view import ComparisonView, MatchedPair


PREPARED = 30.0
"""Seconds of work that places of concepts are looked for ahead of the pages that show them."""
LOOK_EVERY = 5.0
"""Seconds between two looks at whether the study has changed."""


class Library:
    """A study, opened to be looked at; nothing is ever written into it.

    Pages are made by several threads at once: what is opened lazily is opened under a lock.

    Parameters
    ----------
    settings : ExplorerSettings
        What is to be served.

    Raises
    ------
    ArtifactError
        There is no study, or it is not finished.
    """

    settings: ExplorerSettings
    lock: threading.RLock

    def __init__(self, settings: ExplorerSettings) -> None:
        self.settings = settings
        self.lock = threading.RLock()
        self._making_columns = threading.Lock()
        self._seen = threading.Event()
        self.accepted: dict[int, str] = {}
        """Names that reviewers accepted, by latent; the reviews' pages keep it up to date."""
        self._atlases: dict[str, OpenedAtlas] = {}
        self._datasets: dict[str, OpenedDataset] = {}
        self._changes: dict[str, ConceptChanges] = {}
        self._columns: dict[str, Columns] = {}
        self._patients: dict[str, Patients] = {}
        self._comparisons: dict[tuple[str, str], tuple[ComparisonView, tuple[MatchedPair, ...]]] = {}
        self._prints: dict[str, str] = {}
        self.reviews: Callable[[], Database | None] = lambda: None
        """The database of the reviews if there is one; their pages say how it is opened."""
        self.remembered: Remembered = Remembered()
        """What takes seconds to compute, by the fingerprint of the atlas."""
        self._fingerprints = self._read_fingerprints()
        self._looked, self._changed = time.monotonic(), False
        self.beside  # noqa: B018  refuses at once what cannot be opened
        if not self.names:
            raise ArtifactError(f"{settings.study} has no atlas yet; finish it with: cytosae run --study DIR.")

    @cached_property
    def study(self) -> Study:
        """The study that is served."""
        if self.settings.study is None:
            raise InputError("An atlas by itself has no study; open one with: cytosae explore STUDY.")
        return Study(self.settings.study)

    @property
    def title(self) -> str:
        """What is served, in a word or two."""
        named = (self.settings.study or self.settings.atlas or Path()).absolute()  # a link goes by its own name
        return (named.resolve() if named.name == ".." else named).stem

    @property
    def threads(self) -> int:
        """Threads of computation that the study asks for, 0 for as many as there are."""
        return 0 if self.settings.atlas is not None else self.study.config.runtime.threads

    @cached_property
    def names(self) -> list[str]:
        """Data sets that have an atlas, in the order of the study."""
        if self.settings.atlas is not None:
            return [self._alone.name]
        return [name for name in self.study.datasets if self.study.place("atlas", name).exists()]

    def atlas(self, name: str | None = None) -> OpenedAtlas:
        """The opened atlas of a data set, the first one if none is named; neither tokens nor the SAE are read."""
        name = name or self.names[0]
        if name not in self.names:
            raise InputError(f"There is no data set {name!r} here; there are: {', '.join(self.names)}.")
        with self.lock:
            if name not in self._atlases:
                self._atlases[name] = self._alone if self.settings.atlas is not None else self._of_study(name)
            return self._atlases[name]

    def dataset(self, name: str | None = None) -> OpenedDataset:
        """All that is known of a data set, tokens and SAE included, by which maps are computed."""
        atlas = self.atlas(name)
        with self.lock:
            if atlas.name not in self._datasets:
                store, sae = self.study.tokens(atlas.name), self.study.sae()
                self._datasets[atlas.name] = OpenedDataset(
                    *(atlas.atlas, atlas.cells, store, sae),
                    accepted=self.accepted,
                    random=atlas.random,
                    looks=atlas.looks,
                    fingerprint=atlas.fingerprint,
                )
                self._seen.set()
            return self._datasets[atlas.name]

    def changes(self, name: str | None = None) -> ConceptChanges:
        """A data set in which concepts are changed, to see what that does."""
        from cytosae.pipeline.concept_changes import ConceptChanges

        dataset = self.dataset(name)
        with self.lock:
            if dataset.name not in self._changes:
                self._changes[dataset.name] = ConceptChanges(self.study, dataset)
            return self._changes[dataset.name]

    def columns(self, name: str | None = None) -> Columns:
        """The atlas of a data set by latent; made once, and kept beside other things that can be made again."""
        from cytosae.atlas.stored.latent_columns import kept_columns

        atlas = self.atlas(name)
        with self._making_columns:  # takes seconds of a large atlas: pages without them go on
            if atlas.name not in self._columns:
                self._columns[atlas.name] = kept_columns(atlas.atlas.X, self.fingerprint(atlas.name))
            return self._columns[atlas.name]

    def prepare(self) -> None:
        """Make what the first page of a concept, and the first search for a name, would wait for; index many cells."""
        from cytosae.atlas.finding.cell_neighbours import keep_index

        with suppress(CytosaeError, OSError):  # the page that needs it tells
            for name in self.names:
                self.columns(name)
                for latent in self.atlas(name).live.index.tolist():
                    name_of(self.atlas(name), latent)
            for atlas in map(self.atlas, self.names):
                if "X_backbone" in atlas.atlas.obsm:
                    keep_index(atlas.mean_tokens, atlas.centre, self.fingerprint(atlas.name))

    def prepare_places(self) -> None:
        """Once a page has needed the SAE: where concepts are strongest in their reference cells, the most useful first.

        Every second moment is left to pages, and after `PREPARED` seconds of work what is left is found page by page.
        """
        from cytosae.views.cells.cell_page_view import find_places

        self._seen.wait()
        with suppress(CytosaeError, OSError):  # the page that needs it tells
            for dataset in list(self._datasets.values()):
                order, left = dataset.live.sort_values("usefulness", ascending=False).index.tolist(), PREPARED
                while order and left > 0:
                    begun = time.monotonic()
                    find_places(dataset, order[:4])
                    took = time.monotonic() - begun
                    order, left = order[4:], left - took
                    time.sleep(took)

    def fingerprint(self, name: str) -> str:
        """Fingerprint of the atlas of a data set, as it was when a page first needed it."""
        with self.lock:
            if name not in self._prints:
                place = self.settings.atlas or self.study.place("atlas", name)
                self._prints[name] = read_artifact(place, "atlas", verify=False).fingerprint
            return self._prints[name]

    def patients(self, name: str | None = None) -> Patients:
        """The patients of a data set, the first one that has been classified if none is named."""
        from cytosae.pipeline.patients import Patients

        if self.settings.atlas is not None:
            raise InputError("An atlas by itself has no patients.")
        there = [n for n in self.names if self.study.place("classification", n).is_file()]
        name = name or next(iter(there), None)
        if name not in there:
            raise InputError("No patients have been classified here; do it with: cytosae cohort --study DIR.")
        with self.lock:
            if name not in self._patients:
                self._patients[name] = Patients(self.study, name, self.study.config.cohort, hold=True)
            return self._patients[name]

    def comparison(self, a: str, b: str) -> tuple[ComparisonView, tuple[MatchedPair, ...]]:
        """Two data sets of one SAE, or two SAEs on the same cells with the pairs most alike; computed once."""
        from cytosae.atlas import compare_atlases, match_profiles
        from cytosae.views.datasets.comparison_view import pairs_of, view_of_comparison, view_of_matching

        first, second = (self.beside[name] if name in self.beside else self.atlas(name) for name in (a, b))
        with self.lock:
            if (a, b) not in self._comparisons:
                if len({str(one.atlas.uns["provenance"]["sae"]) for one in (first, second)}) == 1:
                    found = view_of_comparison(compare_atlases(first.atlas, second.atlas), first, second)
                    self._comparisons[a, b] = found, ()
                else:
                    matched = {"correlation over cells": match_profiles(first.atlas, second.atlas)}
                    view = view_of_matching(matched, first, second)
                    self._comparisons[a, b] = view, pairs_of(matched, first, second)
            return self._comparisons[a, b]

    @cached_property
    def beside(self) -> dict[str, OpenedAtlas]:
        """Atlases of other studies and models by name, to compare with."""
        found: dict[str, OpenedAtlas] = {}
        if not self.settings.beside:
            return found
        from cytosae.atlas import open_atlas, open_cells

        for path in self.settings.beside:
            files = [path] if path.is_file() or path.suffix == ".zarr" else atlases_below(path)
            if not files:
                raise ArtifactError(f"{path} has no atlas; make one with: cytosae atlas --study {path}.")
            for file in files:
                atlas = open_atlas(file, backed="r", verify=False)
                cells = open_cells(file, atlas.uns["provenance"]["dataset"])
                name = f"{cells.name} in {path.resolve().stem}"
                found[name] = OpenedAtlas(atlas, replace(cells, name=name))
        return found

    @property
    def has_maps(self) -> bool:
        """Whether maps can be computed."""
        return self.settings.atlas is None

    @cached_property
    def pictures(self) -> Pictures:
        """The images of all cells, by ``cell_id``."""
        from cytosae.report.pictures import Pictures

        return Pictures(
            [*(self.atlas(name).cells for name in self.names), *(one.cells for one in self.beside.values())]
        )

    def place_of(self, cell: str) -> tuple[OpenedAtlas, int]:
        """The atlas that a cell is in, and its row there."""
        for atlas in (*map(self.atlas, self.names), *self.beside.values()):
            row = atlas.atlas.obs_names.get_indexer([cell])[0]
            if row >= 0:
                return atlas, int(row)
        raise InputError(f"There is no cell {cell[:80]!r} here; a cell is named by the SHA-256 of its file.")

    @property
    def sae(self) -> SparseAutoencoder:
        """The SAE, loaded when a page first needs it."""
        with self.lock:
            return self.study.sae()

    @cached_property
    def directions(self) -> NDArray[np.float32]:
        """Decoder rows of the SAE, each of length 1; shape (m, d)."""
        decoder = self.sae.W_dec.detach().cpu().float()
        return (decoder / decoder.norm(dim=1, keepdim=True).clamp(min=1e-12)).numpy()

    @property
    def backbone(self) -> AnyBackbone:
        """The backbone, loaded when a page first needs it."""
        with self.lock:
            return self.study.backbone

    def _of_study(self, name: str) -> OpenedAtlas:
        from cytosae.atlas import open_atlas

        return OpenedAtlas(
            open_atlas(self.study.place("atlas", name), backed="r", verify=False),
            self.study.cells(name),
            accepted=self.accepted,
            random=self.study.random_latents(name),
            looks=self.study.looks(name),
            fingerprint=self.fingerprint(name),
        )

    @cached_property
    def _alone(self) -> OpenedAtlas:
        from cytosae.atlas import open_atlas, open_cells

        file = self.settings.atlas or Path()
        atlas = open_atlas(file, backed="r", verify=False)
        cells = open_cells(file, atlas.uns["provenance"]["dataset"], images=self.settings.images)
        return OpenedAtlas(atlas, cells, fingerprint=read_artifact(file, "atlas", verify=False).fingerprint)

    def changed(self) -> bool:
        """Whether the study is no longer the one that was opened; looked up every few seconds."""
        if time.monotonic() - self._looked > LOOK_EVERY:
            self._looked = time.monotonic()
            try:
                self._changed = self._read_fingerprints() != self._fingerprints
            except ArtifactError:
                self._changed = True
        return self._changed

    def _read_fingerprints(self) -> Mapping[str, str]:
        if self.settings.atlas is not None:
            return {"atlas": read_artifact(self.settings.atlas, "atlas", verify=False).fingerprint}
        return {str(holding.path): holding.fingerprint for holding in index(self.study.path)}

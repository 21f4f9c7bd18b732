"""The opened study that every page reads: atlases and cell tables at once, models when a page needs them."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from cytosae.common.artifact import read_artifact
from cytosae.common.errors import ArtifactError, InputError
from cytosae.explorer.explorer_settings import ExplorerSettings
from cytosae.pipeline import Study, index

if TYPE_CHECKING:
    from cytosae.backbones import Backbone
    from cytosae.report.pictures import Pictures
    from cytosae.sae import SparseAutoencoder
    from cytosae.views import OpenedDataset


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

    def __init__(self, settings: ExplorerSettings) -> None:
        self.settings = settings
        self.lock = threading.RLock()
        self._datasets: dict[str, OpenedDataset] = {}
        self._fingerprints = self._read_fingerprints()
        self._looked, self._changed = time.monotonic(), False
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
        return (self.settings.study or self.settings.atlas or Path()).resolve().name

    @property
    def names(self) -> list[str]:
        """Data sets that have an atlas, in the order of the study."""
        return [name for name in self.study.datasets if self.study.place("atlas", name).is_file()]

    def dataset(self, name: str | None = None) -> OpenedDataset:
        """The opened artifacts of a data set, the first one if none is named."""
        from cytosae.views import OpenedDataset

        name = name or self.names[0]
        if name not in self.names:
            raise InputError(f"There is no data set {name!r} here; there are: {', '.join(self.names)}.")
        with self.lock:
            if name not in self._datasets:
                study = self.study
                opened = study.atlas(name, backed="r"), study.cells(name), study.tokens(name), study.sae()
                self._datasets[name] = OpenedDataset(*opened)
            return self._datasets[name]

    @cached_property
    def pictures(self) -> Pictures:
        """The images of all cells, by ``cell_id``."""
        from cytosae.report.pictures import Pictures

        return Pictures([self.study.cells(name) for name in self.names])

    @property
    def sae(self) -> SparseAutoencoder:
        """The SAE, loaded when a page first needs it."""
        with self.lock:
            return self.study.sae()

    @property
    def backbone(self) -> Backbone:
        """The backbone, loaded when a page first needs it."""
        with self.lock:
            return self.study.backbone

    def changed(self) -> bool:
        """Whether the study is no longer the one that was opened; looked up every few seconds."""
        if time.monotonic() - self._looked > LOOK_EVERY:
            self._looked = time.monotonic()
            try:
                self._changed = self._read_fingerprints() != self._fingerprints
            except ArtifactError:
                self._changed = True
        return self._changed

    def reload(self) -> None:
        """Open everything anew."""
        with self.lock:
            for name in ("study", "pictures"):
                self.__dict__.pop(name, None)
            self._datasets.clear()
            self._fingerprints = self._read_fingerprints()
            self._looked, self._changed = time.monotonic(), False

    def _read_fingerprints(self) -> Mapping[str, str]:
        if self.settings.atlas is not None:
            return {"atlas": read_artifact(self.settings.atlas, "atlas", verify=False).fingerprint}
        return {str(holding.path): holding.fingerprint for holding in index(self.study.path)}

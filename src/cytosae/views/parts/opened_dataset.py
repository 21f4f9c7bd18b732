"""Cells as a page refers to them, and the opened artifacts of a data set that they come from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cytosae.atlas.finding.cell_neighbours import INDEXED
from cytosae.atlas.making.latent_table import STATISTICS
from cytosae.atlas.making.random_latents import at_frequency
from cytosae.atlas.meaning.concept_choice import sure_selectivity, usefulness
from cytosae.atlas.stored.matrix import read_array_rows
from cytosae.cells.focus.patch_grid import Grid
from cytosae.cells.table import COLUMNS as CELL_COLUMNS
from cytosae.common.progress import progress
from cytosae.views.parts.number_words import whole
from cytosae.views.parts.page_parts import MadeFrom, known, series, text

if TYPE_CHECKING:
    from anndata import AnnData

    from cytosae.atlas.encoding.cell_codes import CellCodes
    from cytosae.cells import CellTable
    from cytosae.sae import SparseAutoencoder
    from cytosae.tokens import TokenStore

FULL_COLOUR = 0.98
"""Quantile of the active patches of the cells shown together at which a map has its full colour."""
CELLS_AT_ONCE = 64
HELD_CODES = 64 << 20
"""Most bytes that the activations of single cells take in memory: about a thousand cells at 32 active latents."""
NO_GROUPS = ("original_size", "alternative_labels", "file", "sublabel", "age")
PROFILED = {"label": "By class", "diagnosis": "By diagnosis", "patient": "By patient"}
"""Columns of cells by which a concept is always profiled, and their words."""
MOST_PROFILED, MOST_VALUES = 2000, 16
"""Most values of such a column, and of any other by which concepts are profiled."""


@dataclass(frozen=True)
class MapView:
    """Values on the patches of a cell, row by row from the upper left; ``grid`` rows and columns, ``top`` full colour.

    They are activations, or contributions of either sign.
    """

    grid: Grid
    values: tuple[float, ...]
    top: float


@dataclass(frozen=True)
class CellView:
    """A cell that is shown: a reference to its image by ``cell_id``, never the image.

    ``value`` is what it was chosen or ordered by, ``latent`` that of the map (None where it sums over latents),
    ``outline`` the structure of its mask whose edge is shown.
    """

    cell: str
    label: str | None = None
    value: float | None = None
    map: MapView | None = None
    latent: int | None = None
    words: str = ""
    outline: str = ""


@dataclass(frozen=True)
class OpenedAtlas:
    """An opened atlas and its cell table: all that is known where neither tokens nor the SAE are at hand.

    No map can be computed, so cells are shown without; `OpenedDataset` has them.
    """

    atlas: AnnData
    cells: CellTable
    accepted: Mapping[int, str] = field(default_factory=dict, kw_only=True)
    """Names that reviewers accepted, by latent."""
    random: pd.DataFrame | None = field(default=None, kw_only=True)
    """The same statistics of latents of random weights, where they are known (`cytosae.atlas.describe_random`)."""

    looks: pd.DataFrame | None = field(default=None, kw_only=True)
    """Colour and texture where latents light up (`cytosae.atlas.places.patch_looks.measure_looks`), where known."""
    followed: Mapping[int, str] = field(default_factory=dict, kw_only=True)
    """What pairs of drawn cells tell of concepts, in a sentence by latent, where they have been shown."""
    fingerprint: str | None = field(default=None, kw_only=True)
    """Of the atlas; an index of its cells, where one is kept, is found by it."""

    @property
    def name(self) -> str:
        """Name of the data set."""
        return self.cells.name

    @cached_property
    def absent(self) -> str:
        """Which images are not here, in a sentence; empty where all are."""
        there, n = len(self.cells.frame), self.atlas.n_obs
        if there == n:
            return ""
        if not there:
            return f"None of the images of {self.name} is here, so its cells are grey squares."
        return f"{whole(there)} of the {whole(n)} images of {self.name} are here; the others are grey squares."

    def pictured_first(self, cells: Sequence[str]) -> list[str]:
        """These cells, in their order, those whose image is here before the others."""
        return sorted(cells, key=lambda cell: cell not in self._pictured) if self.absent else list(cells)

    @cached_property
    def _pictured(self) -> frozenset[str]:
        return frozenset(map(str, self.cells.frame["cell_id"]))

    @cached_property
    def var(self) -> pd.DataFrame:
        """The atlas's table of latents with their usefulness, its index their numbers."""
        frame = pd.DataFrame(self.atlas.var).assign(usefulness=usefulness(self.atlas)["usefulness"])
        return frame.set_index(frame.index.astype(int))

    @cached_property
    def live(self) -> pd.DataFrame:
        """The rows of `var` whose latent is active on some cell."""
        live: Any = self.var[self.var["cells_active"] > 0]
        return live

    def ranked(self, column: str, *, ascending: bool) -> NDArray[np.intp]:
        """Rows of `live` in the order of a column (or "latent"); held, since pages ask for the same few orders."""
        if (column, ascending) not in self._ranked:
            of = self.live.index if column == "latent" else self.live[column]
            values = of.to_numpy(float)
            self._ranked[column, ascending] = np.argsort(values if ascending else -values, kind="stable")
        return self._ranked[column, ascending]

    @cached_property
    def _ranked(self) -> dict[tuple[str, bool], NDArray[np.intp]]:
        return {}

    def row(self, latent: int) -> dict[str, Any]:
        """What the atlas says of a latent, by column."""
        at = self.var.index.get_loc(latent)
        return {name: values[at] for name, values in self._columns.items()}

    def control(self, latent: int, column: str) -> float | None:
        """What random latents that are as often active have in a column of `var`; None where that is not known."""
        values = self.controls.get(column)
        return None if values is None else known(values[self.var.index.get_loc(latent)])

    @cached_property
    def controls(self) -> dict[str, NDArray[np.float64]]:
        """Columns of `var` that have a control, and what random latents as often active have in them, by row."""
        if self.random is None:
            return {}
        frequency = self.var["activation_frequency"].to_numpy(float)
        columns = [name for name, statistic in STATISTICS.items() if statistic.beside_random]
        return {name: at_frequency(self.random, frequency, name) for name in columns}

    @cached_property
    def by_class(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Rows of `live` by class, of each the most selective first (`sure_selectivity`), and the class of each."""
        names = [str(name) for name in self.atlas.uns["classes"]]
        of_class = np.asarray(pd.Categorical(self.live["top_class"], categories=names).codes, np.intp)
        score = sure_selectivity(self.live)
        able = np.flatnonzero(np.isfinite(score) & (of_class >= 0))
        order = able[np.lexsort((-score[able], of_class[able]))]
        return order, of_class[order]

    @cached_property
    def random_selectivity(self) -> NDArray[np.float64]:
        """Class selectivity of latents of random weights, by `sure_selectivity`; none where they are unknown."""
        if self.random is None:
            return np.zeros(0)
        score = sure_selectivity(self.random)
        able = np.flatnonzero(np.isfinite(score))
        return self.random["class_selectivity"].to_numpy(float)[able[np.argsort(-score[able], kind="stable")]]

    @cached_property
    def _columns(self) -> dict[str, NDArray[Any]]:
        """`var` by column: a row of a table of many types takes pandas a hundred times as long."""
        return {str(name): np.asarray(column.astype(object)) for name, column in self.var.items()}

    @cached_property
    def labels(self) -> dict[str, str | None]:
        """Label of each cell by ``cell_id``."""
        labels = self.atlas.obs["label"].astype(object)
        return {str(cell): text(label) for cell, label in zip(self.atlas.obs_names, labels, strict=True)}

    @cached_property
    def groups(self) -> dict[str, tuple[NDArray[np.integer], list[str]]]:
        """Columns of the cells that group them: name -> group of each cell, -1 for none, and the groups' names."""
        obs = pd.DataFrame(self.atlas.obs)
        others = [str(n) for n in obs.columns if n not in {*CELL_COLUMNS, *NO_GROUPS} and n not in PROFILED]
        found = {}
        for name in [*(name for name in PROFILED if name in obs), *others]:
            column = pd.Categorical(obs[name].astype(object))
            if 1 < len(column.categories) <= (MOST_PROFILED if name in PROFILED else MOST_VALUES):
                found[name] = np.asarray(column.codes, np.int64), [str(value) for value in column.categories]
        return found

    @cached_property
    def traits(self) -> dict[str, tuple[NDArray[np.integer], list[str]]]:
        """Those of `groups` that describe a cell, as its attributes do, and not whom or where it is from.

        What is the same in all cells of every patient (sex, laboratory) says nothing of a cell.
        """
        owners = self.groups["patient"][0] if "patient" in self.groups else np.zeros(0, np.int64)
        described = {name: of for name, of in self.groups.items() if name not in PROFILED}
        return {name: of for name, of in described.items() if not _is_of_owners(of[0], owners)}

    @cached_property
    def group_sizes(self) -> dict[str, NDArray[np.int64]]:
        """Cells of each group of `groups`."""
        return {
            name: np.bincount(codes[codes >= 0], minlength=len(values)) for name, (codes, values) in self.groups.items()
        }

    @cached_property
    def mean_tokens(self) -> Any:
        """Mean token of each cell (n, D): an array, or where that is large its place in the file of the atlas."""
        found = self.atlas.obsm["X_backbone"]
        return found if found.shape[0] * found.shape[1] > INDEXED else np.asarray(found)

    @cached_property
    def centre(self) -> NDArray[np.float32]:
        """Mean of the mean tokens, of 2,000 cells at most."""
        n = self.mean_tokens.shape[0]
        rows = np.unique(np.linspace(0, n - 1, min(n, 2000)).astype(int))
        return read_array_rows(self.mean_tokens, rows).mean(axis=0)

    @cached_property
    def drafts(self) -> dict[int, str]:
        """Draft names by latent, as far as they have been made (`cytosae.views.concepts.concept_names.name_of`)."""
        return {}

    def maps(self, pairs: Iterable[tuple[str, int]]) -> dict[tuple[str, int], NDArray[np.float32]]:
        """(cell_id, latent) -> (rows, columns) activations; none without tokens."""
        del pairs
        return {}

    def cell_views(
        self, cells: Sequence[str], values: Sequence[float], latent: int, maps: Mapping[Any, NDArray[Any]]
    ) -> tuple[CellView, ...]:
        """Cells with their maps of ``latent``, which share one scale, where there are maps."""
        shown = map_views([maps[cell, latent] for cell in cells]) if maps else [None] * len(cells)
        return tuple(
            CellView(cell, self.labels[cell], known(value), grid, latent)
            for cell, value, grid in zip(cells, values, shown, strict=True)
        )

    def reference_cells(self, latents: Sequence[int], n: int | None = None) -> dict[int, tuple[CellView, ...]]:
        """The reference cells of each latent, ``n`` at most, strongest first."""
        reference, names = self.atlas.uns["reference_cells"], self.atlas.obs_names
        cells = {k: [str(names[row]) for row in reference["rows"][k][:n] if row >= 0] for k in latents}
        maps = self.maps((cell, latent) for latent, own in cells.items() for cell in own)
        values = {latent: reference["values"][latent][: len(own)] for latent, own in cells.items()}
        return {latent: self.cell_views(own, values[latent], latent, maps) for latent, own in cells.items()}

    def fact(self, latent: int, column: str) -> Any:
        """What the atlas says of a latent."""
        return self.var.at[latent, column]

    def top_class(self, latent: int) -> str:
        """Class on which the latent's mean is largest; empty where none is known."""
        return text(self.fact(latent, "top_class")) or ""

    @property
    def made_from(self) -> tuple[MadeFrom, ...]:
        """Fingerprints of SAE, cells and tokens."""
        provenance = self.atlas.uns["provenance"]
        return tuple(MadeFrom(kind, str(provenance[kind])) for kind in ("sae", "cells", "tokens") if kind in provenance)


@dataclass(frozen=True)
class OpenedDataset(OpenedAtlas):
    """Opened artifacts of one data set: its atlas, cell table and tokens, and the SAE that the maps are computed by."""

    store: TokenStore
    sae: SparseAutoencoder

    @cached_property
    def strongest_patches(self) -> dict[int, dict[str, tuple[int, int]]]:
        """Latent -> (row, column) of its strongest patch in its first reference cells, as far as pages have asked."""
        return {}

    @cached_property
    def codes(self) -> CellCodes:
        """What lights up in each cell, held within `HELD_CODES`: a cell that is looked at is asked for many times."""
        from cytosae.atlas.encoding.cell_codes import CellCodes  # torch, which an atlas by itself does not need

        return CellCodes(self.store, self.sae, budget=HELD_CODES)

    @cached_property
    def row_in_store(self) -> dict[str, int]:
        """Row of each cell among the tokens."""
        return {str(cell): row for row, cell in enumerate(self.store.cell_ids)}

    def maps(self, pairs: Iterable[tuple[str, int]]) -> dict[tuple[str, int], NDArray[np.float32]]:
        """(cell_id, latent) -> (rows, columns) activations; each cell is read and encoded once."""
        from cytosae.atlas.places.maps import reference_maps  # torch, which an atlas by itself does not need

        latents_of: dict[str, list[int]] = {}
        for cell, latent in pairs:
            latents_of.setdefault(cell, []).append(latent)
        cells, made = sorted(latents_of, key=self.row_in_store.__getitem__), {}
        with progress(f"Maps of {self.name}", len(cells), "cells") as bar:
            for start in range(0, len(cells), CELLS_AT_ONCE):
                block = cells[start : start + CELLS_AT_ONCE]
                rows = {self.row_in_store[cell]: cell for cell in block}
                wanted = [(row, latent) for row, cell in rows.items() for latent in latents_of[cell]]
                found = reference_maps(self.store, wanted, sae=self.sae, codes=self.codes)
                made |= {(rows[row], latent): grid for (row, latent), grid in found.items()}
                bar.advance(len(block))
        return made


def _is_of_owners(codes: NDArray[np.integer], owners: NDArray[np.integer]) -> bool:
    """Whether all cells of an owner have one value; of owners with a cell each nothing is known."""
    if not len(owners):
        return False
    both = (codes >= 0) & (owners >= 0)
    values = np.unique(np.stack([codes[both], owners[both]]), axis=1).shape[1]
    return values == len(np.unique(owners[both])) < both.sum()


def map_views(grids: Sequence[NDArray[Any]], top: float | None = None) -> list[MapView]:
    """Maps that are shown together, on one scale: ``top``, or the `FULL_COLOUR` quantile of what is not 0 in them."""
    if top is None:
        sizes = np.abs(np.concatenate([grid.ravel() for grid in grids])) if grids else np.zeros(0)
        top = float(np.quantile(sizes[sizes > 0], FULL_COLOUR)) if (sizes > 0).any() else 0.0
    return [MapView(grid.shape, series(grid.ravel()), float(top)) for grid in grids]

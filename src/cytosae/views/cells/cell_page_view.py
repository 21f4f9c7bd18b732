"""One cell: what lights up in it and where, the concepts of patches that are pointed at, and cells like it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray

from cytosae.atlas.finding.cell_neighbours import nearest_cells
from cytosae.atlas.stored.matrix import read_array_rows
from cytosae.cells.focus.patch_grid import Grid
from cytosae.cells.table import COLUMNS as CELL_COLUMNS
from cytosae.common.errors import UsageError
from cytosae.views.cells.change_view import ChangeView
from cytosae.views.concepts.concept_names import name_of, reference_ids
from cytosae.views.parts.opened_dataset import OpenedAtlas, OpenedDataset
from cytosae.views.parts.page_parts import Definition, Fact, define, known, text

if TYPE_CHECKING:
    import torch

CONCEPTS = 12
"""Concepts of the whole cell that are shown."""
AT_PATCHES = 8
"""Concepts of the patches pointed at that are shown."""
REFERENCES = 4
ALIKE = 8
BY_INDEX = "Found through an index of many cells, which may miss one of the nearest; the cosines are exact."
"""What is said of cells that are alike where not all were compared."""


@dataclass(frozen=True)
class Seen:
    """What lights up in a cell: ``codes`` (T, m) by token, CLS first, ``mean`` (D,) its mean token.

    ``counted`` (T,) says which tokens count, as in the atlas, None for all; on the others there are no concepts.
    """

    codes: sp.csr_array
    mean: NDArray[np.float32]
    counted: NDArray[np.bool_] | None = None

    @property
    def patches(self) -> int:
        """Number of patches."""
        return len(self.codes.indptr) - 2

    def at(self, patches: Sequence[int]) -> NDArray[np.floating]:
        """Mean activation (m,) on these patches, numbered row by row from 0; zeros of none."""
        rows = self.codes[[1 + patch for patch in patches]]
        return np.asarray(rows.sum(axis=0)).ravel() / max(len(patches), 1)


@dataclass(frozen=True)
class Place:
    """A patch of a cell, by row and column on its grid."""

    cell: str
    row: int
    column: int


@dataclass(frozen=True)
class LitConcept:
    """A concept in this cell.

    ``activation`` is its mean over all tokens of the cell, or over the patches pointed at; ``peak`` is on its strongest
    patch; ``surprise`` the mean times -ln of its activation frequency; ``values`` its activations on the grid, row by
    row; ``elsewhere`` its strongest patch in each of its first reference cells.
    """

    latent: int
    name: str
    activation: float
    peak: float
    surprise: float
    values: tuple[float, ...]
    references: tuple[str, ...]
    elsewhere: tuple[Place, ...] = ()

    @property
    def written(self) -> str:
        """``values`` as text, with commas."""
        return ",".join(f"{value:g}" if value else "0" for value in self.values)


@dataclass(frozen=True)
class LikeCell:
    """A cell that is alike: cosine of mean tokens."""

    cell: str
    label: str | None
    likeness: float


@dataclass(frozen=True)
class CellPage:
    """A cell of a data set, or an image that is in none (``cell`` is then empty).

    ``grid`` has the rows and columns of patches; ``patches`` are those pointed at, numbered row by row from 0;
    ``at_patches`` the concepts that are strongest there; ``latent`` the concept whose map is to be shown first;
    ``change`` what happens when one is changed; ``alike_note`` says how cells alike were found if not by comparing all.
    """

    cell: str
    dataset: str
    title: str
    grid: Grid
    facts: tuple[Fact, ...]
    concepts: tuple[LitConcept, ...]
    patches: tuple[int, ...]
    at_patches: tuple[LitConcept, ...]
    alike: tuple[LikeCell, ...]
    alike_note: str = ""
    latent: int | None = None
    picture: str = ""
    change: ChangeView | None = None
    definitions: tuple[Definition, ...] = field(
        default_factory=lambda: define("Surprise", "Map", "Reference cells", "Cells active")
    )


def view_of_cell(
    dataset: OpenedDataset,
    seen: Seen,
    *,
    cell: str = "",
    title: str = "",
    patches: Sequence[int] = (),
    latent: int | None = None,
) -> CellPage:
    """Gather what the SAE sees in one cell.

    Parameters
    ----------
    dataset : OpenedDataset
        Where names, frequencies and cells alike come from.
    seen : Seen
        What lights up in the cell (`seen_in_store`, `seen_in_tokens`).
    cell : str
        The cell, where it is one of the data set.
    title : str
        What to call it.
    patches : sequence of int
        Patches that are pointed at.
    latent : int or None
        Concept whose map is shown first, None for the most surprising.
    """
    from cytosae.atlas.encoding.cell_codes import column_of
    from cytosae.atlas.encoding.token_activations import mean_activation

    codes, rarity = seen.codes, rarity_of(dataset)
    mean, there = mean_activation(codes, seen.counted), seen.at(patches)
    first, pointed = _strongest(mean * rarity, CONCEPTS), _strongest(there * rarity, AT_PATCHES)

    def lit(latent: int, activation: NDArray[np.floating]) -> LitConcept:
        shown = column_of(codes, latent)[1:]
        value = float(activation[latent])
        names = tuple(reference_ids(dataset, latent)[:REFERENCES])
        numbers = tuple(float(f"{v:.3g}") if v else 0.0 for v in shown.tolist())
        peak = float(shown.max(initial=0))
        return LitConcept(latent, name_of(dataset, latent), value, peak, value * float(rarity[latent]), numbers, names)

    alike, note = like_cells(dataset, seen.mean, but=cell)
    return CellPage(
        cell=cell,
        dataset=dataset.name,
        title=title or "One cell",
        grid=dataset.store.grid,
        facts=_facts(dataset, cell) if cell else (),
        concepts=tuple(lit(latent, mean) for latent in first),
        patches=tuple(patches),
        at_patches=_with_places(dataset, [lit(latent, there) for latent in pointed]),
        alike=alike,
        alike_note=note,
        latent=latent if latent is not None else next(iter(first), None),
    )


def rarity_of(dataset: OpenedDataset) -> NDArray[np.float64]:
    """-ln of the activation frequency (m,) of each latent: what its activation is multiplied by to give surprise."""
    frequency = dataset.var["activation_frequency"].reindex(range(dataset.sae.d_sae)).fillna(0).to_numpy(float)
    return -np.log(np.clip(frequency, 0.5 / max(dataset.atlas.n_obs, 1), 1))


def surprise_at(dataset: OpenedDataset, seen: Seen, patches: Sequence[int]) -> dict[int, float]:
    """Surprise on these patches of the concepts that have most there, by latent, most first."""
    surprise = seen.at(patches) * rarity_of(dataset)
    return {latent: float(surprise[latent]) for latent in _strongest(surprise, AT_PATCHES)}


def chosen_patches(said: str, n: int) -> list[int]:
    """Numbers of patches, of which there are ``n``, from text with commas; `UsageError` for one that there is not."""
    numbers = [number.strip() for number in said.split(",") if number.strip()]
    if not all(number.isdecimal() for number in numbers):
        raise UsageError(f"{said[:40]!r} are no numbers of patches; write e.g.: 119,120.")
    chosen = sorted({int(number) for number in numbers})
    if any(patch >= n for patch in chosen):
        raise UsageError(f"patch {chosen[-1]} is not on the grid; they are 0 to {n - 1}, row by row.")
    return chosen


def seen_in_store(dataset: OpenedDataset, cell: str) -> Seen:
    """What lights up in a cell of the data set, as it is held or from its stored tokens."""
    row = dataset.row_in_store[cell]
    counted = None if dataset.store.counted is None else dataset.store.counted[row]
    in_atlas = dataset.atlas.obs_names.get_indexer([cell])
    return Seen(dataset.codes.of(row), read_array_rows(dataset.mean_tokens, in_atlas)[0], counted)


def seen_in_tokens(dataset: OpenedDataset, tokens: torch.Tensor, counted: NDArray[np.bool_] | None) -> Seen:
    """What lights up in the tokens (T, D), CLS first, of an image; ``counted`` (T,) are those that count."""
    from cytosae.atlas.encoding.token_activations import encode_cells, mean_tokens

    mask = None if counted is None else counted[None]
    return Seen(encode_cells(dataset.sae, tokens[None], mask), mean_tokens(tokens[None], mask)[0], counted)


def like_cells(
    dataset: OpenedAtlas,
    mean: NDArray[np.float32],
    *,
    but: str = "",
    n: int = ALIKE,
    centre: NDArray[np.float32] | None = None,
) -> tuple[tuple[LikeCell, ...], str]:
    """The ``n`` cells, ``but`` one, with the largest cosine of mean tokens to ``mean`` (D,), less the mean of all.

    ``centre`` (D,) is taken from all instead of this mean. With the cells a sentence where not all were compared
    (`cytosae.atlas.finding.cell_neighbours`).
    """
    found = nearest_cells(
        *(dataset.mean_tokens, dataset.centre if centre is None else centre, mean, n + 1),
        fingerprint=dataset.fingerprint,
    )
    names = dataset.atlas.obs_names
    best = [(str(names[row]), cosine) for row, cosine in zip(found.rows, found.cosines, strict=True)]
    alike = [LikeCell(cell, dataset.labels[cell], float(f"{cosine:.6g}")) for cell, cosine in best if cell != but]
    return tuple(alike[:n]), BY_INDEX if found.approximate else ""


def find_places(dataset: OpenedDataset, latents: Sequence[int]) -> None:
    """Look for the strongest patch of latents in their first reference cells, and remember it with the data set."""
    from cytosae.atlas.places.maps import strongest_patches

    known_places, rows = dataset.strongest_patches, dataset.row_in_store
    new = {k: reference_ids(dataset, k)[:REFERENCES] for k in latents if k not in known_places}
    pairs = [(rows[cell], latent) for latent, cells in new.items() for cell in cells]
    found = strongest_patches(dataset.store, pairs, sae=dataset.sae) if pairs else {}
    for latent, cells in new.items():
        known_places[latent] = {cell: divmod(found[rows[cell], latent], dataset.store.grid[1]) for cell in cells}


def _strongest(values: NDArray[np.floating], n: int) -> list[int]:
    top = np.argsort(-values, kind="stable")[:n]
    return [int(latent) for latent in top if values[latent] > 0]


def _with_places(dataset: OpenedDataset, concepts: list[LitConcept]) -> tuple[LitConcept, ...]:
    """Each concept with its strongest patch in its first reference cells."""
    find_places(dataset, [concept.latent for concept in concepts])
    places = dataset.strongest_patches
    return tuple(
        replace(concept, elsewhere=tuple(Place(cell, *at) for cell, at in places[concept.latent].items()))
        for concept in concepts
    )


def _facts(dataset: OpenedDataset, cell: str) -> tuple[Fact, ...]:
    row: Any = pd.DataFrame(dataset.atlas.obs).loc[cell]
    shown = ["label", "cell_type", "diagnosis", "patient", *(name for name in row.index if name not in CELL_COLUMNS)]
    values = ((name, text(row[name])) for name in dict.fromkeys(shown) if name in row.index)
    facts = [Fact(str(name).replace("_", " ").capitalize(), value) for name, value in values if value is not None]
    width, height = known(row.get("width")), known(row.get("height"))
    return (*facts, Fact("Pixels", f"{width:.0f} × {height:.0f}")) if width and height else tuple(facts)

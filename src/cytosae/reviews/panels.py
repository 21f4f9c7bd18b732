"""Panels of a review: cells with maps of one latent, and of controls that look the same."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cytosae.cells.focus.patch_grid import side_of
from cytosae.common.errors import UsageError

if TYPE_CHECKING:
    import torch
    from anndata import AnnData

    from cytosae.atlas.stored.latent_columns import Columns
    from cytosae.sae import SparseAutoencoder
    from cytosae.tokens import TokenStore

Stratum = Literal["frequency", "class", "place", "verdict", "none"]
Kind = Literal["learned", "neuron", "random", "cells"]
KINDS: dict[str, str] = {
    "learned": "learned latents",
    "neuron": "raw neurons of the backbone",
    "random": "latents with random weights",
    "cells": "cells drawn at random",
}
ENOUGH_CELLS = 20
"""Active cells that a latent needs to be asked about."""
SEARCHED = 2000
"""Cells, drawn at random, among which a latent with random weights has its reference cells."""


@dataclass(frozen=True)
class Design:
    """What a session asks.

    Attributes
    ----------
    concepts : int
        Learned latents, as many from each stratum.
    stratum : "frequency", "class", "place", "verdict" or "none"
        By what they are drawn: thirds of activation frequency, top class, where they live, what
        `cytosae atlas verdicts` says of them (artefact or morphology), or not at all.
    controls : int
        Panels of each kind of control.
    repeats : int
        Learned panels that come a second time.
    references : int
        Reference cells of a panel.
    spread : int
        Further cells of a panel across the quantiles of activation.
    seed : int
        Of all that is drawn.
    """

    concepts: int = 40
    stratum: Stratum = "frequency"
    controls: int = 10
    repeats: int = 8
    references: int = 8
    spread: int = 4
    seed: int = 0

    def check(self) -> None:
        """Refuse what makes no session."""
        limits = {"concepts": (1, 500), "controls": (0, 100), "references": (2, 16), "spread": (0, 12)}
        for name, (low, high) in limits.items():
            if not low <= getattr(self, name) <= high:
                raise UsageError(f"{name} is {getattr(self, name)}; give {low} to {high}.")
        if not 0 <= self.repeats <= self.concepts:
            raise UsageError(f"repeats is {self.repeats}; give 0 to the number of concepts, {self.concepts}.")


@dataclass(frozen=True)
class Panel:
    """Cells with maps; ``kind``, ``unit`` and ``stratum`` are not for raters."""

    kind: Kind
    unit: int
    stratum: str
    cells: tuple[str, ...]
    maps: tuple[str, ...] = field(default=())
    """Each map as base64 of a byte for each patch, row by row, 255 the largest value of the panel."""
    side: int | list[int] = 16
    """The grid of patches (`side_of`)."""


def make_panels(
    atlas: AnnData,
    columns: Columns,
    store: TokenStore,
    sae: SparseAutoencoder,
    design: Design,
    verdicts: Mapping[int, str] | None = None,
) -> list[Panel]:
    """Panels of a session: learned latents by stratum, and as many of each control as the design says.

    ``verdicts`` are those of `cytosae atlas verdicts` by latent, where they have been found.

    Raises
    ------
    UsageError
        The design is no session, too few latents are active on `ENOUGH_CELLS` cells, or what they are to be drawn by is
        not known.
    """
    design.check()
    rng = np.random.default_rng(design.seed)
    names = np.asarray(atlas.obs_names, dtype=str)
    maker = _Maker(names, store, sae, design, rng)
    chosen = choose_concepts(atlas, design, rng, verdicts)
    made = []
    for latent, stratum in chosen:
        values = np.zeros(len(names), np.float32)
        rows, active = columns.of(latent)
        values[rows] = active
        made.append(maker.panel("learned", latent, stratum, values))
    share = float(np.mean([maker.active_share(panel) for panel in made]))
    tokens = np.asarray(atlas.obsm["X_backbone"], np.float32)
    for unit in rng.choice(tokens.shape[1], min(design.controls, tokens.shape[1]), replace=False):
        made.append(maker.panel("neuron", int(unit), "", tokens[:, unit] - tokens[:, unit].min(), share))
    made += maker.random_panels(design.controls)
    learned = made[: len(chosen)]
    made += [maker.random_cells(i, learned[int(rng.integers(len(learned)))]) for i in range(design.controls)]
    return made


def choose_concepts(
    atlas: AnnData, design: Design, rng: np.random.Generator, verdicts: Mapping[int, str] | None = None
) -> list[tuple[int, str]]:
    """Latents and their strata: as many from each as possible, the rest from those that have more."""
    var = pd.DataFrame(atlas.var)
    var = var.loc[var["cells_active"] >= min(ENOUGH_CELLS, atlas.n_obs // 4)]
    if len(var) < design.concepts:
        raise UsageError(f"{len(var)} latents are active on enough cells; ask for so many concepts at most.")
    strata = _strata(var, design.stratum, verdicts)
    of: dict[str, list[int]] = {}
    for latent, name in zip(var.index, strata, strict=True):
        of.setdefault(name, []).append(int(latent))
    waiting = {name: rng.permutation(latents).tolist() for name, latents in sorted(of.items())}
    chosen: list[tuple[int, str]] = []
    while len(chosen) < design.concepts:
        for name, latents in waiting.items():
            if latents and len(chosen) < design.concepts:
                chosen.append((int(latents.pop()), str(name)))
    return chosen


def _strata(var: pd.DataFrame, stratum: Stratum, verdicts: Mapping[int, str] | None) -> list[str]:
    """The stratum of each latent of ``var``."""
    if stratum == "frequency":
        order = np.argsort(np.argsort(var["activation_frequency"].to_numpy(), kind="stable"))
        return [("rare", "middling", "frequent")[3 * int(rank) // len(var)] for rank in order]
    if stratum == "verdict":
        if verdicts is None:
            raise UsageError(
                "No latent has a verdict yet; find them with: cytosae atlas verdicts STUDY/atlas/ATLAS --out "
                "STUDY/quality/DATASET_verdicts.csv."
            )
        return [verdicts.get(int(latent), "none") for latent in var.index]
    column = {"class": "top_class", "place": "lives_in"}.get(stratum)
    if column is None:
        return ["all"] * len(var)
    if column not in var:
        raise UsageError("Where the latents of this atlas live is not known; draw them by something else.")
    return [str(name) for name in var[column]]


class _Maker:
    """Makes the panels of one session."""

    def __init__(
        self,
        names: NDArray[Any],
        store: TokenStore,
        sae: SparseAutoencoder,
        design: Design,
        rng: np.random.Generator,
    ) -> None:
        self.names, self.store, self.sae, self.design, self.rng = names, store, sae, design, rng
        self.rows = {str(cell): row for row, cell in enumerate(store.cell_ids)}

    def panel(
        self, kind: Kind, unit: int, stratum: str, values: NDArray[np.floating[Any]], share: float | None = None
    ) -> Panel:
        """Reference cells and cells across quantiles of ``values`` (one a cell), with maps."""
        order = np.argsort(-values, kind="stable")
        order = order[values[order] > 0]
        top, rest = order[: self.design.references], order[self.design.references :]
        spread = (
            rest[np.linspace(0, len(rest) - 1, min(self.design.spread, len(rest))).astype(int)] if len(rest) else rest
        )
        cells = [str(self.names[row]) for row in (*top, *spread)]
        from cytosae.atlas import concept_map

        if share is None:
            grids = [concept_map(self._tokens(cell), unit, sae=self.sae, grid=self.store.grid) for cell in cells]
        else:
            grids = [_sparse(self._neuron(cell, unit), share) for cell in cells]
        return _panel(kind, unit, stratum, cells, grids)

    def random_panels(self, n: int) -> list[Panel]:
        """Panels of latents with random weights that are active on enough of the cells that are searched."""
        import torch

        from cytosae.sae.model.randomised import randomised

        if n == 0:
            return []
        control = randomised(self.sae, self.design.seed)
        rows = self.rng.permutation(len(self.names))[:SEARCHED]
        means = np.zeros((len(rows), control.d_sae), np.float32)
        with torch.no_grad():
            for i, row in enumerate(rows):
                means[i] = control.encode(self._tokens(str(self.names[row]))).mean(0).numpy()
        alive = np.flatnonzero((means > 0).sum(0) >= min(ENOUGH_CELLS, len(rows) // 4))
        learned, self.sae = self.sae, control
        made = []
        for unit in self.rng.permutation(alive)[:n]:
            values = np.zeros(len(self.names), np.float32)
            values[rows] = means[:, unit]
            made.append(self.panel("random", int(unit), "", values))
        self.sae = learned
        return made

    def random_cells(self, number: int, like: Panel) -> Panel:
        """Cells drawn at random, each with the map of another latent: they have nothing in common.

        Maps are as strong, one after the other, as those of the learned panel ``like``: their strength tells nothing.
        """
        import torch

        from cytosae.atlas import concept_map

        n = min(self.design.references + self.design.spread, len(self.names))
        cells = [str(cell) for cell in self.rng.choice(self.names, n, replace=False)]
        grids = []
        for cell in cells:
            with torch.no_grad():
                means = self.sae.encode(self._tokens(cell))[1:].mean(0).numpy()
            active = np.flatnonzero(means > 0)
            unit = int(self.rng.choice(active)) if len(active) else like.unit
            grids.append(concept_map(self._tokens(cell), unit, sae=self.sae, grid=self.store.grid))
        strongest = [max(base64.b64decode(text), default=255) for text in like.maps] or [255]
        scaled = [grid * strongest[i % len(strongest)] / max(float(grid.max()), 1e-9) for i, grid in enumerate(grids)]
        return _panel("cells", number, "", cells, scaled)

    def active_share(self, panel: Panel) -> float:
        """Share of patches of a panel's cells that are active."""
        return float(np.mean([np.frombuffer(base64.b64decode(text), np.uint8) > 0 for text in panel.maps]))

    def _tokens(self, cell: str) -> torch.Tensor:
        row = self.rows[cell]
        return self.store.read(row, row + 1)[0].float()

    def _neuron(self, cell: str, unit: int) -> NDArray[np.float32]:
        return self._tokens(cell)[1:, unit].numpy().reshape(self.store.grid)


def _sparse(grid: NDArray[np.float32], share: float) -> NDArray[np.float32]:
    """A neuron's values on the grid, cut so that as many patches are lit as by a learned latent."""
    floor = np.quantile(grid, 1 - min(max(share, 1 / grid.size), 1.0))
    return np.maximum(grid - floor, 0) + np.where(grid >= floor, 1e-6, 0).astype(np.float32)


def _panel(kind: Kind, unit: int, stratum: str, cells: list[str], grids: list[NDArray[np.float32]]) -> Panel:
    top = max((float(grid.max()) for grid in grids), default=0.0) or 1.0
    coded = tuple(
        base64.b64encode(np.ceil(255 * np.clip(grid / top, 0, 1)).astype(np.uint8).tobytes()).decode() for grid in grids
    )
    return Panel(kind, unit, stratum, tuple(cells), coded, side_of(grids[0].shape) if grids else 0)

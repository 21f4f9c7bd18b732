"""A data set as it is shown: its cells, what became of its files, its latents and a gallery of concepts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cytosae.atlas.meaning.concept_choice import select_concepts
from cytosae.atlas.stored.matrix import stored_entries
from cytosae.views.concepts.concept_view import ConceptView, views_of_concepts
from cytosae.views.parts.number_words import whole
from cytosae.views.parts.opened_dataset import OpenedAtlas
from cytosae.views.parts.page_parts import Table, known, series, table_of
from cytosae.views.parts.plots import Axis, Scatter

LISTED_FILES = 200
"""Skipped files and conflicting duplicates that are listed; all of them are in the cell table."""


@dataclass(frozen=True)
class DatasetView:
    """One data set: its cells, files that could not be used, copies under two labels, latents, and useful concepts.

    ``latents_per_cell`` and ``label_entropy`` (nats) are medians over cells, and over live latents.
    """

    name: str
    layout: str
    cells: int
    labelled: int
    patients: int
    duplicates: int
    classes: Table | None
    skipped_files: int
    skipped: Table | None
    conflicts: Table | None
    alive: int
    latents: int
    latents_per_cell: float | None
    label_entropy: float | None
    scatter: Scatter
    concepts: tuple[ConceptView, ...]


def view_of_dataset(dataset: OpenedAtlas, concepts: int, others: Sequence[OpenedAtlas] = ()) -> DatasetView:
    """One data set with its ``concepts`` most useful concepts, and how these do on ``others``."""
    cells, var = dataset.cells, dataset.var
    obs = pd.DataFrame(dataset.atlas.obs)
    labels, copies = obs["label"].dropna().astype(str), cells.duplicates
    differ = copies.query("labels_differ")[["kept", "kept_label", "dropped", "dropped_label"]]
    counts = sorted(labels.value_counts().items(), key=lambda item: (-item[1], str(item[0])))
    alive = var["cells_active"].to_numpy() > 0
    chosen = select_concepts(dataset.atlas, concepts)
    return DatasetView(
        name=dataset.name,
        layout=cells.layout,
        cells=len(obs),
        labelled=len(labels),
        patients=int(obs["patient"].nunique()),
        duplicates=len(copies),
        classes=table_of(pd.DataFrame(counts, columns=pd.Index(["label", "cells"]))),
        skipped_files=len(cells.skipped),
        skipped=table_of(pd.DataFrame(cells.skipped[["path", "reason"]].head(LISTED_FILES))),
        conflicts=table_of(pd.DataFrame(differ.head(LISTED_FILES))),
        alive=int(alive.sum()),
        latents=dataset.atlas.n_vars,
        latents_per_cell=_latents_per_cell(dataset),
        label_entropy=known(pd.Series(var["label_entropy"][alive]).dropna().median()),
        scatter=_scatter(dataset, chosen),
        concepts=views_of_concepts(dataset, chosen, others=others),
    )


def _latents_per_cell(dataset: OpenedAtlas) -> float | None:
    """Median over cells; None where only the entries of reference cells are known."""
    partial = dataset.atlas.uns["provenance"].get("known_cells")
    return known(np.median(stored_entries(dataset.atlas.X))) if dataset.atlas.n_obs and not partial else None


def _scatter(dataset: OpenedAtlas, chosen: Sequence[int]) -> Scatter:
    """Live latents by activation frequency and mean activation, coloured by label entropy where there are labels."""
    live = dataset.var.query("cells_active > 0 and mean_activation > 0")
    labelled = live["label_entropy"].count() > 0
    return Scatter(
        words=(
            f"{whole(len(live))} live latents of {whole(dataset.atlas.n_vars)} on {dataset.name}. Each hexagon is a "
            f"bin{', coloured by the mean label entropy of their reference cells' if labelled else ''}; the "
            "margins count them. Rings: the concepts shown."
        ),
        x=Axis("activation frequency (share of cells)", log=True),
        y=Axis("mean activation (cells on which it is active)", log=True),
        latents=tuple(int(latent) for latent in live.index),
        xs=series(live["activation_frequency"]),
        ys=series(live["mean_activation"]),
        ringed=tuple(chosen),
        colours=series(live["label_entropy"]) if labelled else (),
        colour_words="label entropy (nats, mean of bin)" if labelled else "",
    )

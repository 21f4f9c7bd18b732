"""Sentences about localisation that say it as it is, whoever wins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cytosae.atlas.maps import reference_maps
from cytosae.atlas.mask_agreement import shows
from cytosae.cells import load_image, load_mask
from cytosae.common.errors import CytosaeError
from cytosae.report import figures

if TYPE_CHECKING:
    from cytosae.atlas import Localisation
    from cytosae.report.content import DatasetReport
    from cytosae.sae import SparseAutoencoder

NAMES = {
    "SAE latent": "best SAE latent",
    "backbone neuron": "best raw backbone neuron",
    "principal component": "best principal component",
    "fixed map": "fixed map (the typical place of the structure, the same on every cell)",
}


EXAMPLES = 8
"""Held-out cells shown."""


@dataclass(frozen=True)
class ExampleRow:
    """The best latent of one structure on held-out cells: (picture address, words) of each."""

    structure: str
    latent: int
    pictures: list[tuple[str, str]]


@dataclass(frozen=True)
class LocalisationView:
    """Localisation as shown: rows of the table, a plot, and a sentence per structure."""

    rows: list[dict[str, Any]]
    ceiling: dict[str, float]
    sentences: list[str]
    plot: str
    by_dataset: list[dict[str, Any]]
    n_search: int
    n_test: int
    confidence: float
    examples: list[ExampleRow]


def localisation_view(
    result: Localisation, datasets: Sequence[DatasetReport], sae: SparseAutoencoder
) -> LocalisationView:
    """Gather a localisation result with its plain sentences and a few held-out cells."""
    structures = list(dict.fromkeys(result.table["structure"]))
    per_dataset = result.by_dataset.pivot_table(
        index=["structure", "family"], columns="dataset", values="iou", sort=False
    )
    return LocalisationView(
        rows=result.table.to_dict(orient="records"),
        ceiling=result.ceiling,
        sentences=[sentence(pd.DataFrame(result.table[result.table["structure"] == s]), s) for s in structures],
        plot=figures.interval_plot(result.table, result.ceiling),
        by_dataset=per_dataset.reset_index().to_dict(orient="records") if per_dataset.shape[1] > 1 else [],
        n_search=result.n_search,
        n_test=result.n_test,
        confidence=result.config.confidence,
        examples=_examples(result, datasets, sae),
    )


def sentence(rows: pd.DataFrame, structure: str) -> str:
    """What the held-out cells say about one structure: best family, the SAE's place, and whether it beats chance."""
    ordered = rows.sort_values("iou", ascending=False)
    best, latent = ordered.iloc[0], rows[rows["family"] == "SAE latent"].iloc[0]
    score = f"IoU {latent['iou']:.2f} [{latent['low']:.2f}, {latent['high']:.2f}]"
    if best["family"] == "SAE latent":
        second = ordered.iloc[1]
        how = "clearly ahead of" if latent["low"] > second["high"] else "ahead, within the intervals, of"
        text = (
            f"The {structure} is best marked by a single SAE latent (number {latent['unit']}, {score}), {how} the "
            f"{NAMES[second['family']]} ({second['iou']:.2f})."
        )
    else:
        how = "within the intervals of each other" if latent["high"] >= best["low"] else "a clear difference"
        text = (
            f"A single SAE latent does not win for the {structure}: the {NAMES[best['family']]} reaches IoU "
            f"{best['iou']:.2f} [{best['low']:.2f}, {best['high']:.2f}], the best latent (number {latent['unit']}) "
            f"{score}, {how}."
        )
    if latent["gain_low"] > 0:
        return f"{text} The latent beats chance (its maps against other cells' masks: {latent['chance']:.2f})."
    return (
        f"{text} The latent is not shown to follow the cell at hand: against other cells' masks its maps score "
        f"{latent['chance']:.2f}."
    )


def _examples(result: Localisation, datasets: Sequence[DatasetReport], sae: SparseAutoencoder) -> list[ExampleRow]:
    """Held-out cells in their order, evenly spaced, not picked by how well they do."""
    by_name = {dataset.name: dataset for dataset in datasets}
    shown = [(by_name[name], cell) for name, cells in result.held_out.items() if name in by_name for cell in cells]
    shown = [shown[i] for i in np.unique(np.linspace(0, len(shown) - 1, EXAMPLES).astype(int))] if shown else []
    latents = result.table[result.table["family"] == "SAE latent"].set_index("structure")["unit"].astype(int).to_dict()
    rows = []
    for structure, latent in latents.items():
        cells = [_example_cell(dataset, cell, latent, sae) for dataset, cell in shown]
        found = [cell for cell in cells if cell is not None]
        top = max((float(cell_map.max()) for _, _, cell_map in found), default=0.0)
        pictures = []
        for picture, mask, cell_map in found:
            drawn = figures.outline(figures.overlay(picture, cell_map, top), shows(mask, structure))
            words = f"Held-out cell with the {structure} outlined and the map of latent {latent}"
            pictures.append((figures.picture_uri(drawn, quality=82), words))
        if pictures:
            rows.append(ExampleRow(str(structure), latent, pictures))
    return rows


def _example_cell(
    dataset: DatasetReport, cell: str, latent: int, sae: SparseAutoencoder
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    row = {name: i for i, name in enumerate(dataset.store.cell_ids)}[cell]
    place = int(np.flatnonzero((dataset.cells.frame["cell_id"] == cell).to_numpy())[0])
    path = dataset.cells.mask_path(place)
    try:
        picture = figures.thumbnail(load_image(dataset.cells.image_path(place)))
        mask = None if path is None else load_mask(path)
    except (CytosaeError, OSError):
        return None  # moved since: the numbers stand without the picture
    if mask is None:
        return None
    return picture, mask, reference_maps(dataset.store, [(row, latent)], sae=sae)[row, latent]

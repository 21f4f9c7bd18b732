"""Agreement of single units with nucleus and cytoplasm as it is shown, in sentences that say it whoever wins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cytosae.views.parts.number_words import listed, whole
from cytosae.views.parts.opened_dataset import CellView, OpenedDataset, map_views
from cytosae.views.parts.page_parts import Number, Shown, Table, table_of
from cytosae.views.parts.plots import Axis, IntervalPanel, IntervalRow, Intervals

if TYPE_CHECKING:
    from cytosae.atlas import Localisation

NAMES = {
    "SAE latent": "best SAE latent",
    "backbone neuron": "best raw backbone neuron",
    "principal component": "best principal component",
    "fixed map": "fixed map (the typical place of the structure, the same on every cell)",
}

EXAMPLES = 8
"""Held-out cells shown."""

SOURCE_COLUMN = "mask_source"
"""Column of a cell table that says where its masks come from; "drawn" where image and mask were drawn together."""


@dataclass(frozen=True)
class ExampleRow:
    """The best latent of one structure on held-out cells, whose masks are outlined; ``words`` say whose masks."""

    structure: str
    latent: int
    words: str
    cells: tuple[CellView, ...]


@dataclass(frozen=True)
class LocalisationView:
    """How well single units mark the structures of masks: what was found, held-out cells, the numbers."""

    sentences: tuple[str, ...]
    examples: tuple[ExampleRow, ...]
    plot: Intervals
    table: Table | None
    by_dataset: Table | None


def view_of_localisation(result: Localisation, datasets: Sequence[OpenedDataset]) -> LocalisationView:
    """Gather a localisation result with its plain sentences and a few held-out cells."""
    table = result.table
    structures = [str(name) for name in dict.fromkeys(table["structure"])]
    of = {name: pd.DataFrame(table[table["structure"] == name]) for name in structures}
    split = result.by_dataset.pivot_table(index=["structure", "family"], columns="dataset", values="iou", sort=False)
    panels = [IntervalPanel(name, _interval_rows(of[name]), result.ceiling[name]) for name in structures]
    return LocalisationView(
        sentences=tuple(sentence(of[name], name) for name in structures),
        examples=_examples(result, datasets),
        plot=Intervals(
            f"Dot and line: mean IoU on {whole(result.n_test)} held-out cells with its "
            f"{whole(100 * result.config.confidence)} % bootstrap interval. Orange tick: the same maps against other "
            "cells' masks. Dashed: the best that any choice of whole patches can reach.",
            Axis("IoU on held-out cells"),
            tuple(panels),
        ),
        table=_table(result),
        by_dataset=table_of(split.reset_index(), "IoU on each data set.") if split.shape[1] > 1 else None,
    )


def sentence(rows: pd.DataFrame, structure: str) -> str:
    """What the held-out cells say about one structure: best family, the SAE's place, and whether it beats chance."""
    ordered = rows.sort_values("iou", ascending=False)
    best, latent = ordered.iloc[0], rows[rows["family"] == "SAE latent"].iloc[0]
    score = f"IoU {latent['iou']:.2f} [{latent['low']:.2f}, {latent['high']:.2f}]"
    if best["family"] == "SAE latent":
        second = ordered.iloc[1]
        how = "clearly ahead of" if latent["low"] > second["high"] else "ahead, within the intervals, of"
        words = (
            f"The {structure} is best marked by a single SAE latent (number {latent['unit']}, {score}), {how} the "
            f"{NAMES[second['family']]} ({second['iou']:.2f})."
        )
    else:
        how = "within the intervals of each other" if latent["high"] >= best["low"] else "a clear difference"
        words = (
            f"A single SAE latent does not win for the {structure}: the {NAMES[best['family']]} reaches IoU "
            f"{best['iou']:.2f} [{best['low']:.2f}, {best['high']:.2f}], the best latent (number {latent['unit']}) "
            f"{score}, {how}."
        )
    if latent["gain_low"] > 0:
        return f"{words} The latent beats chance (its maps against other cells' masks: {latent['chance']:.2f})."
    return (
        f"{words} The latent is not shown to follow the cell at hand: against other cells' masks its maps score "
        f"{latent['chance']:.2f}."
    )


def mask_words(datasets: Sequence[OpenedDataset]) -> str:
    """Where the masks of these data sets come from, as far as their cell tables say."""
    return listed(list(dict.fromkeys(_source_words(dataset) for dataset in datasets)))


def _source_words(dataset: OpenedDataset) -> str:
    frame = dataset.cells.frame
    masked = frame[frame["mask"].notna()]
    told = sorted({str(one) for one in masked[SOURCE_COLUMN] if not pd.isna(one)}) if SOURCE_COLUMN in masked else []
    if told == ["drawn"]:
        return "as it was drawn, image and mask from one drawing"
    origin = f", by their table: {listed(told)}" if told else ""
    return f"by the masks that came with the images{origin}"


def _interval_rows(rows: pd.DataFrame) -> tuple[IntervalRow, ...]:
    return tuple(
        IntervalRow(
            str(row["family"]),
            Number(float(row["iou"]), float(row["low"]), float(row["high"])),
            float(row["chance"]),
            strong=row["family"] == "SAE latent",
        )
        for row in rows.to_dict("records")
    )


def _table(result: Localisation) -> Table | None:
    rows = result.table
    units = [(int(unit), " (−)" if sign == "-" else "") for unit, sign in zip(rows["unit"], rows["sign"], strict=True)]
    frame = pd.DataFrame(
        {
            "Structure": rows["structure"],
            "Candidates": rows["family"] + "s",
            "Unit (sign)": [f"{unit}{sign}" if unit >= 0 else "–" for unit, sign in units],
            "IoU, search": rows["search_iou"],
            **_interval(rows, "IoU, held out", "iou", "low", "high"),
            "Other cell's mask": rows["chance"],
            "Random patches": rows["chance_area"],
            **_interval(rows, "Gain over other cell's mask", "gain", "gain_low", "gain_high"),
        }
    )
    caption = (
        f"Unit and threshold were chosen by search on {whole(result.n_search)} cells (one threshold for all cells), "
        f"everything else is measured on the {whole(result.n_test)} others."
    )
    shown: dict[str, Shown] = dict.fromkeys(("IoU, search", "Other cell's mask", "Random patches"), "two")
    return table_of(frame, caption, shown=shown, strong=(rows["family"] == "SAE latent").tolist())


def _interval(rows: pd.DataFrame, words: str, *columns: str) -> dict[str, Any]:
    """Columns under the names by which a table knows an interval."""
    return {f"{words}{end}": rows[column] for end, column in zip(("", "_low", "_high"), columns, strict=True)}


def _examples(result: Localisation, datasets: Sequence[OpenedDataset]) -> tuple[ExampleRow, ...]:
    """Held-out cells in their order, evenly spaced, not picked by how well they do."""
    by_name = {dataset.name: dataset for dataset in datasets}
    shown = [(by_name[name], cell) for name, cells in result.held_out.items() if name in by_name for cell in cells]
    shown = [shown[i] for i in np.unique(np.linspace(0, len(shown) - 1, EXAMPLES).astype(int))] if shown else []
    latents = result.table[result.table["family"] == "SAE latent"].set_index("structure")["unit"].astype(int).to_dict()
    words = mask_words([dataset for dataset in datasets if dataset.name in {one.name for one, _ in shown}])
    maps = {}
    for dataset in datasets:
        own = [cell for one, cell in shown if one is dataset]
        maps |= dataset.maps((cell, latent) for cell in own for latent in set(latents.values()))
    rows = []
    for structure, latent in latents.items() if shown else ():
        grids = [maps[cell, latent] for _, cell in shown]
        views = map_views(grids, max(float(grid.max()) for grid in grids))
        cells = tuple(
            CellView(cell, dataset.labels[cell], map=view, latent=latent, outline=str(structure))
            for (dataset, cell), view in zip(shown, views, strict=True)
        )
        rows.append(ExampleRow(str(structure), latent, words, cells))
    return tuple(rows)

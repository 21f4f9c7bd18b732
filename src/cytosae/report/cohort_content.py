"""What the pages about patients share: what stands behind a model, pictures of cells, cards of concepts, formats."""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from cytosae.atlas.maps import reference_maps
from cytosae.cells import load_image
from cytosae.common.artifact import package_version, write_file_artifact
from cytosae.common.errors import CytosaeError, UsageError
from cytosae.report import figures
from cytosae.report.content import (
    DatasetReport,
    Pictures,
    ReferenceView,
    reference_headline,
)
from cytosae.report.html import THIN, number, render, resource, whole

if TYPE_CHECKING:
    from cytosae.report.marks import Mark
    from cytosae.sae import SparseAutoencoder

LARGE = 192
"""Pixels on a side of the cells that are shown large."""


@dataclass(frozen=True)
class Evidence:
    """What stands behind a model: said in the first lines of every page.

    Attributes
    ----------
    groups : (class, number of patients), in the order compared
    dataset : name of the data set
    performance : one or more whole sentences: how well it does, with interval, and how that was measured
    caveats : sentences that a reader must not miss, such as what the confounders do alone
    """

    groups: tuple[tuple[str, int], ...]
    dataset: str
    performance: str
    caveats: tuple[str, ...] = ()

    @property
    def compared(self) -> str:
        """What was compared, and how many patients, as a sentence."""
        parts = [f"{name} ({_patients(n)})" for name, n in self.groups]
        if len(parts) == 1:
            return f"{parts[0]} of {self.dataset}."
        return f"Compared: {', '.join(parts[:-1])} and {parts[-1]} of {self.dataset}."


@dataclass(frozen=True)
class Table:
    """A table as shown: heads, which columns are numbers, and rows."""

    head: Sequence[str]
    rows: Sequence[TableRow]
    numeric: frozenset[int] = frozenset()
    caption: str = ""


@dataclass(frozen=True)
class TableRow:
    """Words of one row; ``strong``: in bold; ``family``: a line above it, naming what follows."""

    cells: Sequence[str]
    strong: bool = False
    family: str = ""


@dataclass(frozen=True)
class ConceptCard:
    """One concept as shown: numbers, reference cells, cells of a patient; ``mark`` says why it is to be doubted."""

    latent: int
    rank: int
    headline: str
    facts: list[tuple[str, str]]
    references: list[ReferenceView]
    dataset: str
    mark: Mark | None = None
    own: Sequence[ReferenceView] = ()
    own_words: str = ""


class CellPictures(Pictures):
    """Pictures and maps of a data set's cells by ``cell_id``, each image decoded once."""

    row_in_store: dict[str, int]

    def __init__(self, dataset: DatasetReport, sae: SparseAutoencoder) -> None:
        super().__init__(dataset, sae)
        self.row_in_store = {cell: row for row, cell in enumerate(dataset.store.cell_ids)}
        self._large: dict[str, NDArray[np.uint8]] = {}

    def large(self, cell_id: str) -> NDArray[np.uint8]:
        """The whole cell, [`LARGE`, `LARGE`, 3] uint8; grey where its image is gone."""
        if cell_id not in self._large:
            try:
                image = load_image(self.dataset.cells.image_path(self.row_of_cell[cell_id]))
            except (CytosaeError, OSError, KeyError):
                image = np.full((8, 8, 3), 200, np.uint8)
            self._large[cell_id] = figures.thumbnail(image, LARGE)
        return self._large[cell_id]

    def small(self, cell_id: str, size: int = figures.THUMBNAIL) -> NDArray[np.uint8]:
        """The whole cell, [size, size, 3] uint8."""
        return figures.thumbnail(self.large(cell_id), size)

    def maps_of(self, pairs: Iterable[tuple[str, int]]) -> dict[tuple[str, int], NDArray[np.float32]]:
        """(cell_id, latent) -> map, each cell encoded once."""
        wanted = list(pairs)
        rows = [(self.row_in_store[cell], latent) for cell, latent in wanted]
        made = reference_maps(self.dataset.store, rows, sae=self.sae)
        return {pair: made[row] for pair, row in zip(wanted, rows, strict=True)}

    def label(self, cell_id: str) -> str | None:
        """Label of a cell in the table."""
        label = self.dataset.cells.frame["label"].iloc[self.row_of_cell[cell_id]]
        return None if pd.isna(label) else str(label)

    def with_maps(
        self, cells: Sequence[str], values: Sequence[float], latent: int | None, maps: Mapping[Any, Any]
    ) -> list[ReferenceView]:
        """Views of cells with their maps of ``latent`` (empty ones where it is None), which share one scale."""
        nothing = np.zeros((2, 2), np.float32)
        grids = [nothing if latent is None else maps[cell, latent] for cell in cells]
        active = np.concatenate([grid.ravel() for grid in grids]) if grids else np.zeros(0)
        top = float(np.quantile(active[active > 0], 0.98)) if (active > 0).any() else 0.0
        views = []
        for cell, value, grid in zip(cells, values, grids, strict=True):
            picture = self.small(cell)
            overlay = figures.picture_uri(figures.overlay(picture, grid, top))
            views.append(ReferenceView(figures.picture_uri(picture), overlay, self.label(cell), value, cell, ""))
        return views

    def headline(self, latent: int) -> str:
        """What the latent's reference cells have in common."""
        return reference_headline(self.views(latent))

    def frequency(self, latent: int) -> float:
        """Share of the data set's cells on which the latent is active."""
        value: Any = self.var["activation_frequency"][str(latent)]
        return float(value)

    def top_class(self, latent: int) -> str:
        """Class of the data set on which the latent's mean is largest."""
        value: Any = self.var["top_class"][str(latent)]
        return "" if pd.isna(value) else str(value)


def patch_crop(picture: NDArray[np.uint8], row: int, column: int, side: int, *, around: int = 2) -> NDArray[np.uint8]:
    """A patch amid ``around`` patches on each side (the edge repeated), outlined; [96, 96, 3] uint8."""
    step = 96 / (2 * around + 1)
    scaled = figures.thumbnail(picture, round(side * step))
    pad = round(around * step)
    padded = np.pad(scaled, ((pad, pad), (pad, pad), (0, 0)), mode="edge")
    y, x = round(row * step), round(column * step)
    crop = np.asarray(Image.fromarray(padded[y : y + 96, x : x + 96]).resize((96, 96)))
    square = np.zeros((96, 96), dtype=bool)
    square[pad : 96 - pad, pad : 96 - pad] = True
    return figures.outline(crop, square)


def write_page(
    out: Path,
    template: str,
    context: Mapping[str, Any],
    *,
    evidence: Evidence,
    links: Mapping[str, str],
    created: datetime.datetime | None,
    config: Any,
    inputs: Mapping[str, str],
) -> Path:
    """Fill ``template`` and write it as an artifact of kind "report", whole or not at all."""
    created = created or datetime.datetime.now(datetime.UTC)
    common = {
        "package": package_version(),
        "created": f"{created.day} {created:%B %Y}",
        "css": Markup(resource("report.css") + resource("cohort.css")),  # noqa: S704  our own files
        "evidence": evidence,
        "links": [(words, relative_link(link)) for words, link in links.items()],
        **{function.__name__: function for function in (signed, fixed, exact, tiny)},
    }
    html = render(template, {**common, **context})
    with write_file_artifact(out, "report", config=config, inputs=inputs) as temporary:
        temporary.write_text(html, encoding="utf-8")
    return out


def relative_link(link: str) -> str:
    """``link`` itself, where it leads to a page beside this one; a page must work wherever its folder is moved."""
    if not link or link.startswith(("/", "\\")) or ":" in link or "\\" in link:
        raise UsageError(f"The link {link!r} is not relative; give the other page's path relative to this one.")
    return link


def provenance_rows(dataset: DatasetReport, more: Sequence[tuple[str, str]] = ()) -> list[tuple[str, str]]:
    """Fingerprints of what a page was made from."""
    provenance = dataset.atlas.uns["provenance"]
    names = {"sae": "SAE", "cells": "Cells", "tokens": "Tokens"}
    return [(words, str(provenance[name])) for name, words in names.items() if name in provenance] + list(more)


def provenance_inputs(dataset: DatasetReport) -> dict[str, str]:
    """The same for the artifact's record."""
    provenance = dataset.atlas.uns["provenance"]
    return {name: str(provenance[name]) for name in ("sae", "cells", "tokens") if name in provenance}


def signed(value: float | None, digits: int = 3) -> str:
    """A number with its sign: +0.0123, −4.50."""
    text = number(value, digits)
    return text if value is None or not math.isfinite(value) or value <= 0 else f"+{text}"


def fixed(value: float | None, places: int = 4) -> str:
    """A signed number with fixed places, so that a column can be added up by eye."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:+.{places}f}".replace("-", "−") if round(value, places) else f"{0:.{places}f}"


def exact(value: float) -> str:
    """All digits, for those who add up by machine."""
    return repr(float(value))


def tiny(value: float) -> str:
    """A residual: one digit and its power of ten."""
    return "less than 10⁻¹²" if value < 1e-12 else number(value, 1)


def interval(value: float, low: float, high: float, places: int = 2) -> str:
    """A value with its interval: 0.84 (0.76 to 0.91)."""
    if not math.isfinite(value):
        return "–"
    text = f"{value:.{places}f}".replace("-", "−")
    if not (math.isfinite(low) and math.isfinite(high)):
        return text
    return f"{text} ({between(low, high, places)})"


def between(low: float, high: float, places: int = 2) -> str:
    """An interval: 0.76 to 0.91."""
    return f"{low:.{places}f} to {high:.{places}f}".replace("-", "−") if math.isfinite(low + high) else "–"


def p_value(value: float) -> str:
    """A probability of chance: 0.034, < 0.001."""
    if not math.isfinite(value):
        return "–"
    return f"<{THIN}0.001" if value < 0.001 else f"{value:.3f}"


def _patients(n: int) -> str:
    return f"{whole(n)} patient{'s' if n != 1 else ''}"

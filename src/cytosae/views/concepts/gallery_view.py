"""All concepts of a data set: filtered, sorted and shown a page at a time, with where each lies among the others."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cytosae.atlas.making.latent_table import STATISTICS
from cytosae.common.names import spreadsheet_text
from cytosae.views.concepts.class_heat import ClassHeat, heat_of
from cytosae.views.concepts.concept_names import CENTRAL, headline, name_of, reference_ids
from cytosae.views.parts.opened_dataset import OpenedAtlas
from cytosae.views.parts.page_parts import RANDOM, Definition, Fact, Shown, define, known, text

SORTS: dict[str, tuple[str, str, bool]] = {
    "usefulness": ("most useful first", "usefulness", False),
    "frequency": ("on most cells first", "activation_frequency", False),
    "rarity": ("on fewest cells first", "activation_frequency", True),
    "strength": ("strongest first", "mean_activation", False),
    "purity": ("reference cells most alike first", "label_entropy", True),
    "central": ("in the middle of the image first", "central_share", False),
    "selectivity": ("most selective for a class first", "class_selectivity", False),
    "place_bound": ("those that depend most on the place in the image first", "position_dependence", False),
    "number": ("by number", "latent", True),
}
"""Name -> words, the column sorted by, and whether it ascends."""
Sort = Literal[
    "usefulness", "frequency", "rarity", "strength", "purity", "central", "selectivity", "place_bound", "number"
]
Shape = Literal["pictures", "table"]
COLUMNS: tuple[tuple[str, str, Shown, str], ...] = (
    ("Cells active", "activation_frequency", "percent", "frequency"),
    ("Mean activation", "mean_activation", "number", "strength"),
    ("Label entropy", "label_entropy", "two", "purity"),
    ("Class selectivity", "class_selectivity", "two", "selectivity"),
    ("Position dependence", "position_dependence", "number", "place_bound"),
    ("Central share", "central_share", "percent", "central"),
    ("Usefulness", "usefulness", "number", "usefulness"),
)
"""Columns of the table: words, what of the atlas, how it is printed, and the order that its head leads to."""
PLACES = {"centre": "mostly in the middle of the image", "edge": "mostly at its edge"}
Where = Literal["centre", "edge", ""]
Verdict = Literal["named", "unnamed", ""]
REFERENCES = 6
BINS = 40
CHUNK = 1 << 15
"""Characters of CSV that are sent at a time."""
WORDS = (*(words for words, *_ in COLUMNS), "Reference cells")


@dataclass(frozen=True)
class GalleryQuery:
    """What is asked of the gallery; empty and None ask for nothing.

    ``verdict`` asks for concepts that reviewers have named, or have not; ``low_frequency`` to ``high_activation`` bound
    the activation frequency (0 to 1) and the mean activation; ``shape`` is how they are shown; without ``background``
    those that live beside the cells are left out.
    """

    dataset: str = ""
    sort: Sort = "usefulness"
    top_class: str = ""
    place: Where = ""
    q: str = ""
    page: int = 1
    size: int = 24
    low_frequency: float | None = None
    high_frequency: float | None = None
    low_activation: float | None = None
    high_activation: float | None = None
    verdict: Verdict = ""
    shape: Shape = "pictures"
    background: bool = True


@dataclass(frozen=True)
class ConceptRow:
    """A concept in the table: its name, its class, where it lives, and the figures of `COLUMNS`."""

    latent: int
    name: str
    top_class: str
    lives_in: str
    facts: tuple[Fact, ...]


@dataclass(frozen=True)
class ConceptCard:
    """A concept in the gallery: its number, what its reference cells are, some of them, and the numbers that matter."""

    latent: int
    name: str
    headline: str
    references: tuple[str, ...]
    facts: tuple[Fact, ...]


@dataclass(frozen=True)
class Density:
    """How many concepts lie in each cell of a grid of activation frequency by mean activation, both logarithmic.

    ``counts`` row by row from the lowest mean activation; ``matching`` of those that were asked for. Edges are decimal
    logarithms.
    """

    x_low: float
    x_high: float
    y_low: float
    y_high: float
    bins: int
    counts: tuple[int, ...]
    matching: tuple[int, ...]


@dataclass(frozen=True)
class GalleryView:
    """A page of the gallery, as ``cards`` or as ``rows``, and what lies around it."""

    query: GalleryQuery
    dataset: str
    datasets: tuple[str, ...]
    classes: tuple[str, ...]
    alive: int
    total: int
    pages: int
    cards: tuple[ConceptCard, ...]
    rows: tuple[ConceptRow, ...]
    density: Density
    heat: ClassHeat
    absent: str = ""
    definitions: tuple[Definition, ...] = field(default_factory=lambda: define(*WORDS))


def view_of_gallery(atlas: OpenedAtlas, query: GalleryQuery, *, datasets: tuple[str, ...] = ()) -> GalleryView:
    """The page of the gallery that is asked for; a page beyond the last is empty."""
    var, keep = atlas.live, _matches(atlas, query)
    order = _ranked(atlas, keep, query)
    shown = [int(latent) for latent in order[(query.page - 1) * query.size : query.page * query.size]]
    table = query.shape == "table"
    return GalleryView(
        query=query,
        dataset=atlas.name,
        datasets=datasets or (atlas.name,),
        classes=tuple(str(name) for name in atlas.atlas.uns["classes"]),
        alive=len(var),
        total=len(order),
        pages=max(1, -(-len(order) // query.size)),
        cards=() if table else tuple(card_of(atlas, latent) for latent in shown),
        rows=tuple(row_of(atlas, latent) for latent in shown) if table else (),
        density=_density(var, keep),
        heat=heat_of(atlas, keep),
        absent=atlas.absent,
    )


def ordered(atlas: OpenedAtlas, query: GalleryQuery) -> NDArray[np.integer]:
    """All latents that match, in the order that is asked for; those without the value come last."""
    return _ranked(atlas, _matches(atlas, query), query)


def _ranked(atlas: OpenedAtlas, keep: NDArray[np.bool_], query: GalleryQuery) -> NDArray[np.integer]:
    _, column, ascending = SORTS[query.sort]
    order = atlas.ranked(column, ascending=ascending)
    return atlas.live.index.to_numpy()[order[keep[order]]]


def row_of(atlas: OpenedAtlas, latent: int) -> ConceptRow:
    """A concept as a row of the table."""
    row = atlas.row(latent)
    facts = tuple(
        Fact(words, known(row[column]), shown, atlas.control(latent, column), RANDOM)
        for words, column, shown, _ in COLUMNS
    )
    lives = text(row["lives_in"]) if "lives_in" in row else None
    return ConceptRow(latent, name_of(atlas, latent), text(row["top_class"]) or "", lives or "", facts)


def table_csv(atlas: OpenedAtlas, query: GalleryQuery) -> Iterator[str]:
    """All concepts that match, as lines of CSV; figures as they are, not as they are printed."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    columns = [column for _, column, *_ in COLUMNS]
    beside = [column for column in columns if column in STATISTICS and STATISTICS[column].beside_random]
    random = [f"{column}_with_random_weights" for column in beside]
    writer.writerow(["latent", "name", "top_class", "lives_in", *columns, *random])
    for latent in ordered(atlas, query):
        row = row_of(atlas, latent)
        words = [spreadsheet_text(said) for said in (row.name, row.top_class, row.lives_in)]
        figures = [*(fact.value for fact in row.facts), *(atlas.control(latent, column) for column in beside)]
        writer.writerow([latent, *words, *("" if figure is None else figure for figure in figures)])
        if buffer.tell() > CHUNK:
            yield buffer.getvalue()
            buffer.seek(0)
            buffer.truncate()
    yield buffer.getvalue()


def card_of(atlas: OpenedAtlas, latent: int, references: int = REFERENCES) -> ConceptCard:
    """A concept as a card."""
    cells = reference_ids(atlas, latent)
    row = atlas.row(latent)
    facts = (
        Fact("Cells active", known(row["activation_frequency"]), "percent"),
        Fact("Label entropy", known(row["label_entropy"]), "two", atlas.control(latent, "label_entropy"), RANDOM),
        Fact("Mean activation", known(row["mean_activation"]), "number"),
        Fact("Central share", known(row["central_share"]), "percent"),
    )
    labels = [atlas.labels[cell] for cell in cells]
    return ConceptCard(
        latent, name_of(atlas, latent), headline(labels), tuple(atlas.pictured_first(cells)[:references]), facts
    )


def _matches(atlas: OpenedAtlas, query: GalleryQuery) -> NDArray[np.bool_]:
    """Which live latents are asked for."""
    var = atlas.live
    keep = np.ones(len(var), bool)
    if query.top_class:
        keep &= _of_class(var, lambda name: name == query.top_class)
    if query.place:
        central = var["central_share"].to_numpy(float)
        keep &= central >= CENTRAL if query.place == "centre" else central < CENTRAL
    if query.verdict:
        named = np.isin(var.index.to_numpy(), list(atlas.accepted))
        keep &= named if query.verdict == "named" else ~named
    for column, low, high in (
        ("activation_frequency", query.low_frequency, query.high_frequency),
        ("mean_activation", query.low_activation, query.high_activation),
    ):
        values = var[column].to_numpy(float)
        keep &= values >= (0 if low is None else low)
        keep &= values <= (np.inf if high is None else high)
    if query.q:
        keep &= _says(atlas, query.q)
    if not query.background:
        keep &= ~beside_the_cells(atlas, var.index.to_numpy())
    return keep


def beside_the_cells(atlas: OpenedAtlas, latents: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Which of these latents live in the background; none where that is not known."""
    if "lives_in" not in atlas.var:
        return np.zeros(len(latents), bool)
    lives: Any = atlas.var["lives_in"].reindex(latents)
    return (lives == "background").to_numpy(bool, na_value=False)


def _says(atlas: OpenedAtlas, words: str) -> NDArray[np.bool_]:
    """Latents of these numbers, or whose class or name, drafts and attributes included, has these words."""
    var = atlas.live
    numbers = {int(word) for word in words.replace(",", " ").split() if word.isascii() and word.isdigit()}
    if numbers:
        return np.isin(var.index.to_numpy(), list(numbers))
    lowered = words.casefold().strip()
    named = np.array([lowered in name_of(atlas, latent).casefold() for latent in var.index.tolist()], bool)
    return named | _of_class(var, lambda name: lowered in name.casefold())


def _of_class(var: pd.DataFrame, wanted: Callable[[str], bool]) -> NDArray[np.bool_]:
    """Latents whose class has a name that is wanted."""
    top = pd.Categorical(var["top_class"])
    named = np.array([*(wanted(str(name)) for name in top.categories), False])
    return named[np.asarray(top.codes)]


def _density(var: pd.DataFrame, matching: NDArray[np.bool_]) -> Density:
    with np.errstate(divide="ignore"):
        x, y = (np.log10(var[c].to_numpy(float)) for c in ("activation_frequency", "mean_activation"))
    fine = np.isfinite(x) & np.isfinite(y)
    x, y, matching = x[fine], y[fine], matching[fine]
    (x_low, x_high), (y_low, y_high) = (
        (float(v.min()) - 0.02, float(v.max()) + 0.02) if len(v) else (-4.0, 0.0) for v in (x, y)
    )
    across = (BINS * (x - x_low) / (x_high - x_low)).astype(int)
    up = (BINS * (y - y_low) / (y_high - y_low)).astype(int)
    counts, found = (np.bincount(BINS * up[of] + across[of], minlength=BINS**2) for of in (slice(None), matching))
    return Density(x_low, x_high, y_low, y_high, BINS, tuple(counts.tolist()), tuple(found.tolist()))

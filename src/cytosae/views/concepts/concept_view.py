"""A concept as it is shown: its reference cells with maps, the numbers that matter, and why it is to be doubted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from cytosae.atlas.making.latent_table import STATISTICS
from cytosae.views.concepts.concept_names import headline, name_of
from cytosae.views.parts.marks import Mark, Marks
from cytosae.views.parts.opened_dataset import CellView, OpenedAtlas
from cytosae.views.parts.page_parts import Fact, Shown, facts_of, known, text
from cytosae.views.parts.plots import Bar

CARRIED = 3
"""Reference cells shown of a concept on each other data set."""


@dataclass(frozen=True)
class CarriedView:
    """How a concept does on another data set; ``cells_active`` 0 where it never fires there."""

    dataset: str
    cells_active: int
    activation_frequency: float
    mean_activation: float | None
    top_class: str | None
    references: tuple[CellView, ...]


@dataclass(frozen=True)
class ConceptView:
    """One concept: its name or draft of one, what its reference cells are, these cells with maps, and its numbers.

    ``facts`` are the numbers that matter, ``more`` all others; ``mark`` says why it is to be doubted; ``profile`` is
    its mean activation on each class; ``carried`` is how it does on other data sets; ``own`` are cells that the page is
    about, with maps of this concept; ``followed`` is what pairs of drawn cells tell.
    """

    latent: int
    rank: int
    dataset: str
    name: str
    headline: str
    references: tuple[CellView, ...]
    facts: tuple[Fact, ...] = ()
    more: tuple[Fact, ...] = ()
    mark: Mark | None = None
    profile: tuple[Bar, ...] = ()
    carried: tuple[CarriedView, ...] = ()
    own: tuple[CellView, ...] = ()
    own_words: str = ""
    followed: str = ""


def views_of_concepts(
    dataset: OpenedAtlas,
    latents: Sequence[int],
    *,
    facts: Mapping[int, tuple[Fact, ...]] | None = None,
    marks: Marks | None = None,
    others: Sequence[OpenedAtlas] = (),
    references: int | None = None,
) -> tuple[ConceptView, ...]:
    """Concepts in this order.

    ``facts`` are the numbers that matter on this page: what the atlas says of a concept then stands behind them, and
    alone where there are none. ``others`` are data sets on which the same concepts are shown as well, ``references``
    the reference cells of each (None for all that the atlas has).
    """
    marks = marks or Marks()
    found = dataset.reference_cells(latents, references)
    elsewhere = [(other, other.reference_cells(latents, CARRIED)) for other in others]
    views = []
    for rank, latent in enumerate(latents, start=1):
        few, more = atlas_facts(dataset, latent)
        if facts is not None:
            few, more = (*facts[latent], *marks.facts(latent)), (*few, *more)
        views.append(
            ConceptView(
                latent=latent,
                rank=rank,
                dataset=dataset.name,
                name=name_of(dataset, latent),
                headline=headline([cell.label for cell in found[latent]]),
                references=found[latent],
                facts=few,
                more=more,
                mark=marks.of(latent),
                profile=profile(dataset, latent),
                followed=dataset.followed.get(latent, ""),
                carried=tuple(_carried(other, latent, cells[latent]) for other, cells in elsewhere),
            )
        )
    return tuple(views)


PLACES: dict[str, tuple[str, Shown]] = {
    "nucleus_share": ("Activation in nuclei", "percent"),
    "cytoplasm_share": ("Activation in the rest of cells", "percent"),
    "elsewhere_share": ("Activation elsewhere", "percent"),
}


def atlas_facts(dataset: OpenedAtlas, latent: int) -> tuple[tuple[Fact, ...], tuple[Fact, ...]]:
    """What the atlas says of a concept: what matters first, and the rest (docs/atlas.md defines them)."""
    shown: dict[bool, dict[str, tuple[str, Shown]]] = {True: {}, False: {}}
    for name, statistic in STATISTICS.items():
        if statistic.title:
            shown[statistic.first][name] = (statistic.title, statistic.shown)
    few = {**shown[True], "lives_in": ("Lives in", "text")}
    more = {**shown[False], **PLACES, "usefulness": ("Usefulness", "number")}
    row = dataset.row(latent)
    control = partial(dataset.control, latent)
    return facts_of(row, few, control), facts_of(row, more, control)


def profile(dataset: OpenedAtlas, latent: int) -> tuple[Bar, ...]:
    """Mean activation on each class, largest first; empty where the atlas knows none."""
    means = np.asarray(dataset.atlas.varm["class_mean"])[dataset.var.index.get_loc(latent)]
    if np.isnan(means).all():
        return ()
    bars = [Bar(str(name), known(mean)) for name, mean in zip(dataset.atlas.uns["classes"], means, strict=True)]
    return tuple(sorted(bars, key=lambda bar: (-(bar.value or 0.0), bar.name)))


def _carried(dataset: OpenedAtlas, latent: int, references: tuple[CellView, ...]) -> CarriedView:
    return CarriedView(
        dataset=dataset.name,
        cells_active=int(dataset.fact(latent, "cells_active")),
        activation_frequency=float(dataset.fact(latent, "activation_frequency")),
        mean_activation=known(dataset.fact(latent, "mean_activation")),
        top_class=text(dataset.fact(latent, "top_class")),
        references=references,
    )

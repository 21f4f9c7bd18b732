"""The map of concepts: where each lies among the others, what kind it is, and those of a region as cards."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cytosae.views.concepts.concept_names import CENTRAL
from cytosae.views.concepts.gallery_view import ConceptCard, card_of
from cytosae.views.parts.opened_dataset import OpenedAtlas

By = Literal["direction", "cells"]
Coloured = Literal["class", "place"]
WORDS = {
    "direction": "Near each other: concepts whose directions in the model are alike.",
    "cells": "Near each other: concepts that are on the same cells.",
}
CARDS = 24
MOST_GROUPS = 12
"""Groups that have a colour of their own; the others share one."""
OTHERS = "others"


@dataclass(frozen=True)
class Layout:
    """Places of the live latents of a data set, in [0, 1], y upwards."""

    latents: tuple[int, ...]
    xs: tuple[float, ...]
    ys: tuple[float, ...]


@dataclass(frozen=True)
class MapQuery:
    """What is asked of the map; the bounds of a region are in [0, 1], ``group`` is a class or a place."""

    dataset: str = ""
    by: By = "direction"
    colour: Coloured = "class"
    group: str = ""
    left: float | None = None
    right: float | None = None
    bottom: float | None = None
    top: float | None = None


@dataclass(frozen=True)
class MapGroup:
    """Concepts of one colour: their name, and how many they are."""

    name: str
    concepts: int


@dataclass(frozen=True)
class ConceptMap:
    """All live concepts as points: ``of_group`` says the group of each, by its place in ``groups``.

    ``cards`` are the most useful concepts of the region that is asked for, of which there are ``inside``.
    """

    query: MapQuery
    dataset: str
    datasets: tuple[str, ...]
    words: str
    layout: Layout
    groups: tuple[MapGroup, ...]
    of_group: tuple[int, ...]
    inside: int
    cards: tuple[ConceptCard, ...]
    has_directions: bool


def layout_of(atlas: OpenedAtlas, by: By, decoder: NDArray[np.floating] | None = None) -> Layout:
    """Lay out the live concepts, by the rows of ``decoder`` (m, d) or by the cells that they are on; takes a while."""
    from cytosae.atlas.finding.concept_layout import layout_by_cells, layout_by_direction

    latents = atlas.live.index.to_numpy()
    if not len(latents):
        return Layout((), (), ())
    if by == "direction" and decoder is not None:
        placed = layout_by_direction(decoder[latents])
    else:
        placed = layout_by_cells(atlas.atlas.X, latents)
    low, high = placed.min(0), placed.max(0)
    x, y = ((placed - low) / np.maximum(high - low, 1e-9)).T
    return Layout(tuple(map(int, latents)), _short(x), _short(y))


def view_of_map(
    atlas: OpenedAtlas,
    layout: Layout,
    query: MapQuery,
    *,
    datasets: tuple[str, ...] = (),
    has_directions: bool = True,
) -> ConceptMap:
    """The map, and the concepts of the region and group that ``query`` asks for."""
    groups, codes = _grouped(atlas, layout, query.colour)
    chosen = latents_inside(atlas, layout, query)
    best = atlas.var.loc[chosen, "usefulness"].sort_values(ascending=False, kind="stable").index[:CARDS]
    return ConceptMap(
        query=query,
        dataset=atlas.name,
        datasets=datasets or (atlas.name,),
        words=WORDS[query.by],
        layout=layout,
        groups=groups,
        of_group=tuple(int(code) for code in codes),
        inside=len(chosen),
        cards=tuple(card_of(atlas, int(latent)) for latent in best),
        has_directions=has_directions,
    )


def latents_inside(atlas: OpenedAtlas, layout: Layout, query: MapQuery) -> list[int]:
    """Latents of the region and the group that are asked for, by number."""
    x, y = np.array(layout.xs), np.array(layout.ys)
    inside = np.ones(len(x), bool)
    for values, low, high in ((x, query.left, query.right), (y, query.bottom, query.top)):
        inside &= (values >= (0 if low is None else low)) & (values <= (1 if high is None else high))
    if query.group:
        groups, codes = _grouped(atlas, layout, query.colour)
        names = [group.name for group in groups]
        inside &= codes == (names.index(query.group) if query.group in names else -1)
    return [latent for latent, within in zip(layout.latents, inside, strict=True) if within]


def _grouped(atlas: OpenedAtlas, layout: Layout, colour: Coloured) -> tuple[tuple[MapGroup, ...], NDArray[np.intp]]:
    """The groups that have a colour, and which of them each latent of the layout is in."""
    names = [str(name) for name in _groups(atlas, colour).reindex(list(layout.latents))]
    counts = Counter(names)
    shown = [name for name, _ in counts.most_common(MOST_GROUPS)] if colour == "class" else sorted(counts)
    codes = np.array([shown.index(name) if name in shown else len(shown) for name in names], np.intp)
    found = [MapGroup(name, counts[name]) for name in shown]
    if (codes == len(shown)).any():
        found.append(MapGroup(OTHERS, int((codes == len(shown)).sum())))
    return tuple(found), codes


def _groups(atlas: OpenedAtlas, colour: Coloured) -> Any:
    """Group of every latent, by the class that it is strongest on or by where it lives."""
    var = atlas.var
    if colour == "class":
        return var["top_class"].astype(object).fillna("no class")
    if "lives_in" in var:
        return var["lives_in"].astype(object).fillna("not known")
    where = np.where(var["central_share"].to_numpy(float) >= CENTRAL, "middle of the image", "towards its edge")
    return pd.Series(where, index=var.index, dtype=object)


def _short(values: NDArray[np.floating]) -> tuple[float, ...]:
    return tuple(float(f"{value:.4f}") for value in values)

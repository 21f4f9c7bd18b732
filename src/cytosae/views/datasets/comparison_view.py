"""Two atlases side by side: which latents are on both data sets, on which cells, and what is found on one only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from cytosae.atlas.comparing.carried_latents import FOLD, MARKS, UNUSUAL, AtlasComparison
from cytosae.atlas.comparing.matching import Matching
from cytosae.atlas.meaning.concept_choice import usefulness
from cytosae.views.concepts.concept_view import ConceptView, views_of_concepts
from cytosae.views.concepts.gallery_view import ConceptCard, card_of
from cytosae.views.datasets.study_view import NOTICE
from cytosae.views.parts.number_words import fixed, percent, whole
from cytosae.views.parts.opened_dataset import CellView, OpenedAtlas
from cytosae.views.parts.page_parts import Fact, Head, MadeFrom, Page, Shown, Table, define, known, series, table_of
from cytosae.views.parts.plots import Axis, Chart, Scatter, Series

PLOTTED = 50_000
"""Latents of a scatter."""
LISTED = 20
"""Latents of a table."""
CELLS = 12
"""Unusual cells that are shown."""
PAIRS = 12
"""Pairs of latents of two SAEs that are shown with their cells."""
WORDS = ("Cells active", "Mean activation", "Reference cells", "Label entropy")


@dataclass(frozen=True, kw_only=True)
class ComparisonView(Page):
    """What two data sets have in common under one SAE, ``a`` and ``b`` their names.

    ``carried`` are concepts of a with their reference cells on b; ``unusual`` are cells of b; ``matched`` is about two
    SAEs on the same cells, and then there is nothing else but the tables.
    """

    a: str
    b: str
    facts: tuple[Fact, ...]
    frequencies: Scatter | None = None
    means: Scatter | None = None
    aucs: Chart | None = None
    marking: Table | None = None
    only_a: Table | None = None
    only_b: Table | None = None
    carried: tuple[ConceptView, ...] = ()
    unusual: tuple[CellView, ...] = ()
    unusual_words: str = ""
    matched: Table | None = None


@dataclass(frozen=True)
class MatchedPair:
    """A latent of one SAE and the one of another that it is paired with, and how alike they are."""

    likeness: float
    a: ConceptCard
    b: ConceptCard


def view_of_comparison(
    found: AtlasComparison,
    a: OpenedAtlas,
    b: OpenedAtlas,
    *,
    concepts: int = 12,
    unreconstructed: Mapping[str, tuple[float, float]] | None = None,
) -> ComparisonView:
    """Two atlases of one SAE; ``unreconstructed`` are figures of each data set: median, 99th percentile of cells."""
    table, figures = found.table, found.figures
    shared: Any = table[(table["frequency_a"] > 0) & (table["frequency_b"] > 0)]
    chosen = _carried(found, a, concepts)
    return ComparisonView(
        head=Head(
            kicker="One dictionary on two data sets",
            title=f"{a.name} and {b.name}",
            byline=f"{whole(a.atlas.n_obs)} and {whole(b.atlas.n_obs)} cells · {whole(len(table))} latents",
            verdict=_verdict(found, a.name, b.name),
            warnings=_warnings(found),
            notice=NOTICE,
        ),
        tiles=_tiles(found),
        definitions=define(*WORDS),
        made_from=_made_from(a, b),
        a=a.name,
        b=b.name,
        facts=_facts(found, unreconstructed or {}),
        frequencies=_scatter(shared, "frequency", found),
        means=_scatter(shared, "mean", found),
        aucs=_auc_chart(found),
        marking=_marking(found),
        only_a=_only(found, "a"),
        only_b=_only(found, "b"),
        carried=views_of_concepts(a, chosen, others=[b]) if chosen else (),
        unusual=_unusual(found, b),
        unusual_words=(
            f"{percent(figures['unusual_b'])} of the cells of {b.name} have active latents that are rarer on {a.name} "
            f"than those of all but {percent(1 - UNUSUAL)} of the cells of {a.name}."
            if len(found.cells)
            else ""
        ),
    )


def view_of_matching(
    matchings: Mapping[str, Matching], a: OpenedAtlas, b: OpenedAtlas, *, alike: float = 0.7
) -> ComparisonView:
    """Two different SAEs: pairs of latents by ``matchings``, such as profiles over cells and directions."""
    facts = []
    for words, matching in matchings.items():
        likeness = matching.table["likeness"]
        facts.append(
            Fact(f"mean {words} of pairs", known(matching.mean), "two", known(matching.by_chance), "by chance")
        )
        facts.append(Fact(f"pairs with a {words} of {alike:g} or more", int((likeness >= alike).sum()), "count"))
    first, matching = next(iter(matchings.items()))
    return ComparisonView(
        head=Head(
            kicker="Two dictionaries on the same cells",
            title=f"{a.name} and {b.name}",
            byline=f"{whole(a.atlas.n_vars)} and {whole(b.atlas.n_vars)} latents",
            verdict=(
                f"Each latent of one dictionary is paired with one of the other so that their {first} adds up to the "
                f"most: the mean is {fixed(matching.mean)}, by chance {fixed(matching.by_chance)}."
            ),
            notice=NOTICE,
        ),
        tiles=tuple(facts),
        definitions=define(*WORDS),
        made_from=_made_from(a, b),
        a=a.name,
        b=b.name,
        facts=tuple(facts),
        matched=table_of(matching.table.head(LISTED), f"The most alike pairs by {first}."),
    )


def pairs_of(matchings: Mapping[str, Matching], a: OpenedAtlas, b: OpenedAtlas) -> tuple[MatchedPair, ...]:
    """The most alike pairs that are active on the cells of both, with their reference cells."""
    table: Any = next(iter(matchings.values())).table
    active = [
        one.var["cells_active"] > 0 if "cells_active" in one.var else one.var["activation_frequency"] > 0
        for one in (a, b)
    ]
    both = table[active[0].reindex(table["a"]).to_numpy() & active[1].reindex(table["b"]).to_numpy()].head(PAIRS)
    return tuple(
        MatchedPair(float(row["likeness"]), card_of(a, int(row["a"])), card_of(b, int(row["b"])))
        for row in both.to_dict("records")
    )


def _verdict(found: AtlasComparison, a: str, b: str) -> str:
    figures = found.figures
    return (
        f"{whole(figures['shared'])} of {whole(len(found.table))} latents are active on both data sets. How frequent "
        f"they are on {a} and on {b} is correlated with r = {figures['frequency_correlation']:.2f}, "
        f"how strong they are with r = {figures['mean_correlation']:.2f} (of the logarithms)."
    )


def _warnings(found: AtlasComparison) -> tuple[str, ...]:
    return (
        "A dictionary without training has such correlations too: a latent's bias and norm alone make it frequent and "
        "strong on any cells. Whether it means the same is told by the cell types below.",
        f"Frequencies are compared as if cells were independent; cells of one patient are not. A latent is called "
        f"specific only if it is {FOLD:g} times as frequent.",
    )


def _tiles(found: AtlasComparison) -> tuple[Fact, ...]:
    figures = found.figures
    tiles = [Fact("latents active on both", int(figures["shared"]), "count")]
    for name, words, chance in (
        ("overlap", "overlap of the types of reference cells", "with another latent's"),
        ("auc", f"median AUC on {found.names[1]} for the marked type", "for another latent's type"),
    ):
        if known(figures[name]) is not None:
            control = known(figures[f"{name}_by_chance"])
            tiles.append(Fact(words, known(figures[name]), "two", control, chance))
    return tuple(tiles)


def _facts(found: AtlasComparison, unreconstructed: Mapping[str, tuple[float, float]]) -> tuple[Fact, ...]:
    a, b = found.names
    named: dict[str, tuple[str, Shown]] = {
        "alive_a": (f"latents active on {a}", "count"),
        "alive_b": (f"latents active on {b}", "count"),
        "shared": ("latents active on both", "count"),
        "frequency_correlation": ("correlation of log10 activation frequency", "number"),
        "mean_correlation": ("correlation of log10 mean activation", "number"),
        "marking": (f"latents that mark a cell type on {a}", "count"),
        "specific_a": (f"latents specific to {a}", "count"),
        "specific_b": (f"latents specific to {b}", "count"),
        "unusual_b": (f"cells of {b} with unusual latents", "percent"),
    }
    facts = [
        Fact(words, int(value) if shown == "count" else value, shown)
        for name, (words, shown) in named.items()
        if (value := known(found.figures[name])) is not None
    ]
    for name, (median, high) in unreconstructed.items():
        facts.append(Fact(f"norm not reconstructed on {name}, median of cells", median, "percent"))
        facts.append(Fact(f"… 99th percentile on {name}", high, "percent"))
    return tuple(facts)


def _scatter(shared: pd.DataFrame, what: str, found: AtlasComparison) -> Scatter | None:
    if shared.empty:
        return None
    r = found.figures[f"{what}_correlation"]
    title = "Activation frequency, a share of cells" if what == "frequency" else "Mean activation of active cells"
    drawn = shared if len(shared) <= PLOTTED else shared.sample(PLOTTED, random_state=0).sort_index()
    return Scatter(
        words=f"{title}, of {whole(len(drawn))} latents on both data sets; r = {r:.3f} of the logarithms. Line: equal.",
        x=Axis(f"on {found.names[0]}", log=True),
        y=Axis(f"on {found.names[1]}", log=True),
        latents=tuple(int(latent) for latent in drawn.index),
        xs=series(drawn[f"{what}_a"]),
        ys=series(drawn[f"{what}_b"]),
        guide="diagonal",
    )


def _auc_chart(found: AtlasComparison) -> Chart | None:
    aucs = np.sort(found.table["auc"].dropna().to_numpy())
    if len(aucs) < 2:
        return None
    shares = np.linspace(0, 1, min(len(aucs), 200))
    a, b = found.names
    return Chart(
        words=(
            f"{whole(len(aucs))} latents mark a cell type on {a} ({percent(MARKS)} or more of their reference cells). "
            f"Their AUC for this type on {b}, from the lowest to the highest; 0.5 is chance."
        ),
        x=Axis("share of these latents"),
        y=Axis(f"AUC on {b}"),
        series=(Series("latents", series(shares), series(np.quantile(aucs, shares)), strong=True),),
        level=0.5,
    )


def _marking(found: AtlasComparison) -> Table | None:
    rows: Any = found.table.dropna(subset=["marks", "overlap"])
    if rows.empty:
        return None
    by = rows.groupby("marks", observed=True)
    summary = pd.DataFrame({"latents": by.size(), "overlap": by["overlap"].mean(), "median AUC": by["auc"].median()})
    if rows["auc"].count() == 0:
        summary = summary.drop(columns="median AUC")
    summary = summary.sort_values("latents", ascending=False).reset_index(names="cell type")
    summary["cell type"] = summary["cell type"].astype(str)
    return table_of(summary, f"Latents by the cell type that they mark on {found.names[0]}.")


def _only(found: AtlasComparison, side: str) -> Table | None:
    rows: Any = found.table[found.table["specific"] == side].reset_index()
    other = "b" if side == "a" else "a"
    name = dict(zip("ab", found.names, strict=True))
    rows = rows.sort_values(f"frequency_{side}", ascending=False).head(LISTED)
    shown = rows[["latent", f"frequency_{side}", f"frequency_{other}", f"mean_{side}"]].rename(
        columns={
            f"frequency_{side}": f"cells of {name[side]}",
            f"frequency_{other}": f"cells of {name[other]}",
            f"mean_{side}": f"mean on {name[side]}",
        }
    )
    percents: dict[str, Shown] = {f"cells of {one}": "percent" for one in found.names}
    caption = f"Latents specific to {name[side]}, the most frequent first."
    return table_of(shown.reset_index(drop=True), caption, shown=percents)


def _carried(found: AtlasComparison, a: OpenedAtlas, n: int) -> list[int]:
    """Concepts of a that mark a type and carry it over best, the most useful first."""
    table: Any = found.table.assign(usefulness=usefulness(a.atlas)["usefulness"].to_numpy())
    fit = table["auc"] if table["auc"].notna().any() else table["overlap"]
    good = table[(fit > fit.quantile(0.9)) & table["marks"].notna()]
    picked = good.sort_values("usefulness", ascending=False).groupby("marks", observed=True).head(2)
    return [int(latent) for latent in picked.index[:n]]


def _unusual(found: AtlasComparison, b: OpenedAtlas) -> tuple[CellView, ...]:
    return tuple(
        CellView(str(cell), b.labels[str(cell)], known(value))
        for cell, value in found.cells["unusualness"].head(CELLS).items()
    )


def _made_from(a: OpenedAtlas, b: OpenedAtlas) -> tuple[MadeFrom, ...]:
    made = [MadeFrom(f"{one.name}/{part.name}", part.fingerprint) for one in (a, b) for part in one.made_from]
    return tuple(dict.fromkeys(made))

"""Artefacts suppressed: what linear probes can tell before and after, beside as many other latents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cytosae.evaluation.suppression import MEASURES, Suppression
from cytosae.views.datasets.study_view import NOTICE
from cytosae.views.parts.number_words import count, two
from cytosae.views.parts.page_parts import Column as TableColumn
from cytosae.views.parts.page_parts import Fact, Head, MadeFrom, Number, Page, Row, Table, define, known, table_of
from cytosae.views.parts.plots import Axis, IntervalPanel, IntervalRow, Intervals

STATES = {"before": "as they are", "after": "without artefacts", "random": "without as many others"}
ANSWERS = {"more": "yes, more", "less": "yes, less", "no": "no"}
PLOTTED = ("within", "across", "stain")


@dataclass(frozen=True, kw_only=True)
class SuppressionView(Page):
    """What suppression does; ``measures`` stand beside their control, ``plots`` are of the probes."""

    measures: Table
    plots: tuple[Intervals, ...]
    transfers: Table


def view_of_suppression(found: Suppression, *, dataset: str, made_from: tuple[MadeFrom, ...] = ()) -> SuppressionView:
    """The page of what `cytosae.evaluation.suppression.measure_suppression` found."""
    of: Any = found.table.set_index("measure")
    facts = found.facts
    transfers = table_of(found.transfers.rename(columns=STATES), "Balanced accuracy for cell type, stain by stain.")
    assert transfers is not None  # noqa: S101 - there are always two stains
    return SuppressionView(
        head=Head(
            kicker="Artefact or morphology?",
            title=f"Artefacts of {dataset} suppressed",
            byline=f"{count(len(facts['stains']), 'stain')}, {count(len(facts['types']), 'cell type')} in all of them",
            verdict=_verdict(of),
            notice=NOTICE,
        ),
        tiles=(
            Fact("latents suppressed, mean of the splits", known(round(facts["latents"])), "count"),
            Fact(
                "their share of cells on which they are active",
                known(facts["frequency"]),
                "percent",
                known(facts["random_frequency"]),
                "of those suppressed beside them",
            ),
            Fact("a guess of the stain", known(facts["chance"]), "two"),
        ),
        definitions=define("Artefact", "Suppressed"),
        made_from=made_from,
        measures=_measures(found),
        plots=tuple(_plot(of.loc[measure], MEASURES[measure]) for measure in PLOTTED),
        transfers=transfers,
    )


def _verdict(of: Any) -> str:
    across, stain = of.loc["across"], of.loc["stain"]
    way = {
        "more": "better than without as many other latents",
        "less": "worse than without as many other latents",
        "no": "no otherwise than without as many other latents",
    }
    return (
        f"Without the artefacts a probe for the cell type scores {two(across['after'])} in other stains instead of "
        f"{two(across['before'])}, {way[across['beyond']]} ({two(across['random'])}); the stain itself is told with "
        f"{two(stain['after'])} instead of {two(stain['before'])}."
    )


def _measures(found: Suppression) -> Table:
    columns = ["measure", *STATES.values(), "other than chance latents?"]
    rows = [
        Row(
            (
                MEASURES[row["measure"]],
                *(Number(known(row[s]), known(row[f"{s}_low"]), known(row[f"{s}_high"])) for s in STATES),
                ANSWERS[row["beyond"]],
            )
        )
        for row in found.table.to_dict("records")
    ]
    ways = ("text", "two", "two", "two", "text")
    caption = (
        "Means over random thirds of the patients; in brackets the least and the most of them, and for other latents "
        "the band that holds 95 % of the draws."
    )
    return Table(tuple(TableColumn(w, s) for w, s in zip(columns, ways, strict=True)), tuple(rows), caption)


def _plot(row: Any, words: str) -> Intervals:
    rows = tuple(
        IntervalRow(
            said, Number(*(known(row[f"{state}{end}"]) for end in ("", "_low", "_high"))), strong=state == "after"
        )
        for state, said in STATES.items()
    )
    title, axis = words.rsplit(", ", 1)
    return Intervals(f"Probes: {title}. Dots: means, lines: see the table.", Axis(axis), (IntervalPanel(title, rows),))

"""The quality of an SAE: on every measure its value beside those of controls that have learnt less or nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cytosae.evaluation.quality_table import MEASURES, SUBJECT, DictionaryQuality
from cytosae.views.number_words import count, whole
from cytosae.views.page_parts import Column as TableColumn
from cytosae.views.page_parts import Fact, Head, MadeFrom, Number, Page, Row, Shown, Table, define, known, table_of
from cytosae.views.plots import Axis, IntervalPanel, IntervalRow, Intervals
from cytosae.views.study_view import NOTICE

ANSWERS = {"yes": "yes", "no": "no", "open": "not told apart"}


@dataclass(frozen=True, kw_only=True)
class QualityView(Page):
    """Where learning beats the best control and where it does not; ``plots`` hold one panel for each measure."""

    verdicts: Table
    plots: tuple[Intervals, ...]
    table: Table


def view_of_quality(found: DictionaryQuality, *, dataset: str, made_from: tuple[MadeFrom, ...] = ()) -> QualityView:
    """The page of what `cytosae.evaluation.measure_quality` found."""
    wins, losses, _ = won_and_lost(found)
    table: Any = found.table.assign(measure=found.table["measure"].map(lambda name: MEASURES[name][0]))
    return QualityView(
        head=Head(
            kicker="Is it real?",
            title=f"Quality of the dictionary on {dataset}",
            byline=f"{count(found.facts['cells'], 'cell')} of {count(len(found.facts['classes']), 'type')}",
            verdict=sentence_of(found),
            notice=NOTICE,
        ),
        tiles=(
            Fact("measures on which learning wins", wins, "count"),
            Fact("on which a control wins", losses, "count"),
            Fact("norm of the mean token over the spread of tokens", known(found.facts["outlier_ratio"]), "two"),
        ),
        definitions=define("Explained variance", "L0"),
        made_from=made_from,
        verdicts=table_of_verdicts(found),
        plots=_plots(found),
        table=_table(table),
    )


def won_and_lost(found: DictionaryQuality) -> tuple[int, int, int]:
    """On how many measures the SAE is better than every control, a control is better, neither."""
    beats = found.verdicts["beats"].tolist()
    return beats.count("yes"), beats.count("no"), beats.count("open")


def sentence_of(found: DictionaryQuality) -> str:
    """The verdict in a sentence."""
    wins, losses, neither = won_and_lost(found)
    return (
        f"On {wins} of {wins + losses + neither} measures the dictionary is better than every control, on {losses} a "
        f"control is better, on {neither} they are not told apart."
    )


def table_of_verdicts(found: DictionaryQuality) -> Table:
    """One row a measure: the SAE beside the best control."""
    columns = ("measure", "the dictionary", "best control", "its value", "does learning win?")
    ways: tuple[Shown, ...] = ("text", "two", "text", "two", "text")
    rows = [
        Row((MEASURES[measure][0], known(sae), control, known(best), ANSWERS[beats]))
        for measure, sae, control, best, beats in found.verdicts.itertuples(index=False)
    ]
    return Table(tuple(TableColumn(w, s) for w, s in zip(columns, ways, strict=True)), tuple(rows))


def _plots(found: DictionaryQuality) -> tuple[Intervals, ...]:
    plots = []
    for measure, (words, better) in MEASURES.items():
        table: Any = found.table
        rows = table[(table["measure"] == measure) & table["value"].notna()]
        if not better or rows.empty:
            continue
        shown = [
            IntervalRow(
                str(row.family),
                Number(known(row.value), known(row.value_low), known(row.value_high)),
                strong=row.family == SUBJECT,
            )
            for row in rows.sort_values("value", ascending=False).itertuples()
        ]
        caption = (
            f"{words[:1].upper()}{words[1:]}. Dots: medians over random halves of the cells, lines: least and most."
        )
        plots.append(Intervals(caption, Axis(words.split(",")[0]), (IntervalPanel(words, tuple(shown)),)))
    return tuple(plots)


def _table(table: Any) -> Table:
    made = table_of(table, f"All measures of {whole(table['family'].nunique())} families of units.")
    assert made is not None  # noqa: S101 - there are always measures
    return made

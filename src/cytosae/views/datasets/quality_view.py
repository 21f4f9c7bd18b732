"""The quality of an SAE: on every measure its value beside those of controls that have learnt less or nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from cytosae.evaluation.quality_table import (
    MEASURES,
    OF_DICTIONARY,
    RANDOM_WEIGHTS,
    SUBJECT,
    DictionaryQuality,
    verdicts_of,
)
from cytosae.views.datasets.study_view import NOTICE
from cytosae.views.parts.number_words import count, listed, signed, whole
from cytosae.views.parts.page_parts import Column as TableColumn
from cytosae.views.parts.page_parts import (
    Fact,
    Head,
    MadeFrom,
    Number,
    Page,
    Row,
    Shown,
    Table,
    define,
    known,
    table_of,
)
from cytosae.views.parts.plots import Axis, IntervalPanel, IntervalRow, Intervals

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
        for measure, sae, control, best, _, _, beats in found.verdicts.itertuples(index=False)
    ]
    return Table(tuple(TableColumn(w, s) for w, s in zip(columns, ways, strict=True)), tuple(rows))


def view_of_qualities(found: Mapping[str, DictionaryQuality], *, made_from: tuple[MadeFrom, ...] = ()) -> QualityView:
    """The page of several data sets: on each and on every measure, by how much the SAE leads the best control."""
    best = {name: one.verdicts.set_index("measure") for name, one in found.items()}
    random = {name: verdicts_of(one.table, against=RANDOM_WEIGHTS).set_index("measure") for name, one in found.items()}
    measures = [m for m in MEASURES if m not in OF_DICTIONARY and any(m in one.index for one in best.values())]
    table: Any = pd.concat([one.table.assign(dataset=name) for name, one in found.items()], ignore_index=True)
    table["measure"] = [MEASURES[name][0] for name in table["measure"]]
    return QualityView(
        head=Head(
            kicker="Is it real?",
            title=f"Quality of the dictionary on {count(len(found), 'data set')}",
            byline=f"{count(sum(one.facts['cells'] for one in found.values()), 'cell')} of {listed(list(found))}",
            verdict=" ".join(
                (
                    _sentence_of_several("random weights that are as often active", random, measures),
                    _sentence_of_several("every control", best, measures),
                )
            ),
            notice=NOTICE,
        ),
        tiles=(
            Fact("measures on which it beats random weights everywhere", len(_wins(random, measures)[0]), "count"),
            Fact("on which it beats every control everywhere", len(_wins(best, measures)[0]), "count"),
        ),
        definitions=define("Explained variance", "L0"),
        made_from=made_from,
        verdicts=_table_of_leads(best, measures),
        plots=(
            _plot_of_leads("random weights that are as often active", random, measures),
            _plot_of_leads("the best of all controls", best, measures),
        ),
        table=_table(table[["dataset", *table.columns.drop("dataset")]]),
    )


def _table_of_leads(verdicts: Mapping[str, pd.DataFrame], measures: Sequence[str]) -> Table:
    def words(one: pd.DataFrame, measure: str) -> str | None:
        if measure not in one.index:
            return None
        row: Any = one.loc[measure]
        return f"{signed(known(row['sae'] - row['best']), 2)} ({ANSWERS[row['beats']]})"

    return Table(
        (TableColumn("measure"), *(TableColumn(name) for name in verdicts)),
        tuple(Row((MEASURES[m][0], *(words(one, m) for one in verdicts.values()))) for m in measures),
        "The dictionary's value less that of the best control, and whether learning wins. Which control, stands on "
        "the page of each data set, as do localisation and stability, which are of the dictionary as a whole.",
    )


def _plot_of_leads(control: str, verdicts: Mapping[str, pd.DataFrame], measures: Sequence[str]) -> Intervals:
    def lead(one: pd.DataFrame, measure: str) -> Number:
        if measure not in one.index:
            return Number(None)
        row: Any = one.loc[measure]
        return Number(known(row["sae"] - row["best"]), known(row["lead_low"]), known(row["lead_high"]))

    panels = {
        name: [IntervalRow(_short(MEASURES[m][0]), lead(one, m), strong=one["beats"].get(m) == "yes") for m in measures]
        for name, one in verdicts.items()
    }
    ends = [n for rows in panels.values() for row in rows for n in (row.number.low, row.number.high) if n is not None]
    reach = 1.08 * max((abs(end) for end in ends), default=1.0)
    return Intervals(
        f"The dictionary's lead over {control}: right of the line it is better, and in colour where it is so for every "
        "random half of the cells. Lines: what the halves leave open.",
        Axis("lead", reach=(-reach, reach)),
        tuple(IntervalPanel(name, tuple(rows), level=0) for name, rows in panels.items()),
    )


def _wins(verdicts: Mapping[str, pd.DataFrame], measures: Sequence[str]) -> tuple[list[str], list[str]]:
    """Measures on which the SAE wins on every data set, and on none."""
    wins = {m: [m in one.index and one.at[m, "beats"] == "yes" for one in verdicts.values()] for m in measures}
    return [m for m in measures if all(wins[m])], [m for m in measures if not any(wins[m])]


def _sentence_of_several(control: str, verdicts: Mapping[str, pd.DataFrame], measures: Sequence[str]) -> str:
    """On what the SAE beats a control wherever it was measured, and on what nowhere."""
    always, never = _wins(verdicts, measures)
    if len(never) == len(measures):
        return f"On no data set is the dictionary better than {control}, by any of {count(len(measures), 'measure')}."
    won, lost = (listed([_short(MEASURES[measure][0]) for measure in some]) for some in (always, never))
    nowhere = f"; by {lost} on none" if never else ""
    if not always:
        return f"By no measure is the dictionary better than {control} on every data set{nowhere}."
    return f"On every data set the dictionary is better than {control} by {won}{nowhere}."


def _short(words: str) -> str:
    """The words of a measure before the first comma or colon."""
    return words.split(",")[0].split(":")[0]


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

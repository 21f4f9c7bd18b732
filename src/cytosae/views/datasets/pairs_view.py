"""What concepts follow when one attribute of a drawn cell is changed, in sentences and on a page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from cytosae.cells.synthetic.drawn_pairs import PAIRED_ATTRIBUTES
from cytosae.evaluation.concept_pairs import LEVEL, VERDICTS, Answered, follow_counts
from cytosae.evaluation.config import PairsConfig
from cytosae.views.datasets.study_view import NOTICE
from cytosae.views.parts.number_words import count, percent, whole
from cytosae.views.parts.page_parts import Column as TableColumn
from cytosae.views.parts.page_parts import Fact, Head, MadeFrom, Number, Page, Row, Shown, Table, define, known

TOLD = 0.1
"""Share of a concept's response from which on what moves it next is named."""
LISTED = 20
"""Concepts that the page lists, those that follow one attribute most exclusively."""


@dataclass(frozen=True, kw_only=True)
class PairsView(Page):
    """What drawn pairs tell: attribute by attribute beside random weights, and the concepts that follow one."""

    attributes: Table
    verdicts: Table
    concepts: Table


def sentences(latents: pd.DataFrame) -> dict[int, str]:
    """Learned latent -> what drawn pairs tell of it, in a sentence that says what random latents do."""
    learned: Any = latents[latents["weights"] == "learned"]
    return {int(row["latent"]): sentence(row) for row in learned.to_dict("records")}


def sentence(row: Any) -> str:
    """A row of `Answered.latents` in a sentence."""
    if row["verdict"] == "none":
        return "No attribute that was changed moves it consistently (drawn pairs)."
    words, also = _words(row["attribute"]), _words(row["second"])
    next_ = f"; next, {also} ({percent(row['second_share'])})" if row["second_share"] >= TOLD else ""
    if row["verdict"] == "several":
        return (
            f"Moved by several things: most by {words} ({percent(row['specificity'])} of its response){next_} "
            "(drawn pairs)."
        )
    if row["verdict"] == "of_cell":
        own = _words(row["cell_attribute"])
        rest = f"; {words} moves it, too ({percent(row['specificity'])} of its response)"
        rest = "" if row["attribute"] == row["cell_attribute"] else rest
        return f"Of what a cell can show follows {own} and little else{rest} (drawn pairs{_beside(row)})."
    way = "" if row["effect"] > 0 else ", less with more of it"
    if row["verdict"] == "one":
        return f"Follows {words} and little else{way} (drawn pairs{_beside(row)})."
    return f"Follows mainly {words}{way} ({percent(row['specificity'])} of its response{next_}; drawn pairs)."


def _beside(row: Any) -> str:
    """How many of the random latents that are as often active come to the same verdict."""
    share = row[f"random_{row['verdict']}"]
    return f"; so do {percent(share)} of random latents" if share else "; no random latent does"


def view_of_pairs(found: Answered, config: PairsConfig, *, made_from: tuple[MadeFrom, ...] = ()) -> PairsView:
    """The page of what `cytosae.evaluation.concept_pairs.ask_pairs` found."""
    learned: Any = found.latents[found.latents["weights"] == "learned"]
    counts = follow_counts(found)
    totals = counts[["one", "of_cell", "random_one", "random_of_cell"]].sum()
    one, of_cell, random_one, random_of_cell = (float(total) for total in totals)
    pairs = count(config.pairs, "pair")
    return PairsView(
        head=Head(
            kicker="What does a concept follow?",
            title="Drawn cells of which one attribute is changed",
            byline=f"{count(len(counts), 'attribute')}, {pairs} of each, laboratory: {config.domain}",
            verdict=(
                f"Of {whole(len(learned))} concepts that are active on drawn cells, {whole(one)} follow one attribute "
                f"and little else, and {whole(of_cell)} more one of the cell’s attributes; of as many random latents "
                f"that are as often active, {whole(random_one)} and {whole(random_of_cell)} do."
            ),
            warnings=("Drawn cells are not real ones: what moves a concept here need not be what it shows there.",),
            notice=NOTICE,
        ),
        tiles=(
            Fact("concepts active on drawn cells", len(learned), "count"),
            Fact("follow one attribute and little else", one, "count", random_one, "random"),
            Fact("more, of the cell’s attributes alone", of_cell, "count", random_of_cell, "random"),
        ),
        definitions=define("Drawn pairs", "Effect in drawn pairs", "Specificity", "As many random latents"),
        made_from=made_from,
        attributes=_attributes(counts),
        verdicts=_verdicts(found),
        concepts=_concepts(learned),
    )


def _attributes(counts: pd.DataFrame) -> Table:
    rows = [
        Row((_words(name), PAIRED_ATTRIBUTES[name].about, *(known(row[key]) for key in ORDER)))
        for name, row in counts.to_dict("index").items()
    ]
    heads = ("attribute", "of the", "moves", "random", "is followed", "random", "of the cell’s alone", "random")
    caption = (
        f"Concepts that each attribute moves consistently (q ≤ {LEVEL}), that follow it and little else, and more that "
        "do where only attributes of the cell count; random: as many latents of random weights, as often active."
    )
    counted: list[Shown] = ["count" for _ in ORDER]
    ways: list[Shown] = ["text", "text", *counted]
    return Table(tuple(TableColumn(h, w) for h, w in zip(heads, ways, strict=True)), tuple(rows), caption)


ORDER = ("moved", "random_moved", "one", "random_one", "of_cell", "random_of_cell")


def _verdicts(found: Answered) -> Table:
    """Shares of the verdicts; random latents as they are, not matched."""
    said: dict[str, Any] = {str(weights): part["verdict"] for weights, part in found.latents.groupby("weights")}
    rows = [
        Row((words, *(float(said[weights].eq(name).mean()) for weights in ("learned", "random"))))
        for name, words in VERDICTS.items()
    ]
    heads = (TableColumn("a concept"), TableColumn("learned", "percent"), TableColumn("random", "percent"))
    return Table(heads, tuple(rows), "Shares of all latents that are active on a drawn cell.")


def _concepts(learned: pd.DataFrame) -> Table:
    alone = learned["verdict"].eq("one") & learned["attribute"].eq(learned["cell_attribute"])
    best: Any = learned[alone | learned["verdict"].eq("of_cell")]
    best = best.sort_values("cell_specificity", ascending=False, kind="stable")
    columns = ("cell_specificity", "random_cell_specificity", "specificity", "frequency")
    rows = [
        Row((str(row["latent"]), _words(row["cell_attribute"]), *(known(row[name]) for name in columns), sentence(row)))
        for row in best.head(LISTED).to_dict("records")
    ]
    heads = ("concept", "follows", "share of the cell’s attributes", "of random latents", "largest share of all")
    heads += ("active on drawn cells", "in a sentence")
    shares: list[Shown] = ["percent" for _ in columns]
    ways: list[Shown] = ["text", "text", *shares, "text"]
    caption = f"{whole(len(best))} concepts follow one attribute of the cell; the {whole(len(rows))} most specific."
    return Table(tuple(TableColumn(h, w) for h, w in zip(heads, ways, strict=True)), tuple(rows), caption)


def facts_of_pairs(row: Any) -> tuple[Fact, ...]:
    """A row of `Answered.latents` as facts, each with its control."""
    ends = Number(*(known(row[f"effect{end}"]) for end in ("", "_low", "_high")))
    return (
        Fact("Effect in drawn pairs", ends),
        Fact("Specificity", known(row["specificity"]), "percent", known(row["random_specificity"]), "random"),
        Fact(
            *("Specificity among the cell’s", known(row["cell_specificity"]), "percent"),
            *(known(row["random_cell_specificity"]), "random"),
        ),
    )


def _words(attribute: str) -> str:
    return PAIRED_ATTRIBUTES[attribute].words

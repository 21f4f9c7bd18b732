"""What every concept is called, and on what evidence: names, attributes beside the agreement of people, families."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from cytosae.views.datasets.study_view import NOTICE
from cytosae.views.parts.number_words import count, two, whole
from cytosae.views.parts.page_parts import Column as TableColumn
from cytosae.views.parts.page_parts import Fact, Head, MadeFrom, Number, Page, Row, Table, define, known, text

SHOWN_CONCEPTS, SHOWN_FAMILIES = 300, 60
"""Concepts and families that the page lists; the table beside it has all."""
GOES_WELL = 0.8
"""AUC from which on a concept is counted as going with an attribute well."""


@dataclass(frozen=True, kw_only=True)
class NamesView(Page):
    """Names of concepts with their evidence, and families of concepts that are used alike."""

    concepts: Table
    families: Table


def view_of_names(
    table: pd.DataFrame,
    *,
    dataset: str,
    followed: Mapping[int, str] | None = None,
    made_from: tuple[MadeFrom, ...] = (),
) -> NamesView:
    """The page of what `cytosae.views.concepts.name_table.table_of_names` found.

    Parameters
    ----------
    table : DataFrame
        Accepted names are listed first, then those that go with an attribute best.
    dataset : str
        Name of the data set.
    followed : mapping or None
        What drawn pairs tell of concepts, in a sentence by latent.
    """
    figures: Any = table.reindex(columns=["auc", "people"]).astype(float)
    auc, people = figures["auc"], figures["people"]
    well, reached = int((auc >= GOES_WELL).sum()), int((auc >= people).sum())
    drafts, families = int(table["draft"].sum()), int(table["family"].nunique())
    ceiling = f"; {whole(reached)} reach the agreement of people" if people.notna().any() else ""
    return NamesView(
        head=Head(
            kicker="What are concepts called?",
            title=f"Names of the concepts of {dataset}",
            byline=f"{count(len(table), 'concept')}, {whole(families)} families",
            verdict=(
                f"{whole(len(table) - drafts)} of {count(len(table), 'name')} are accepted by people, the others are "
                f"drafts; {whole(well)} concepts go with a human attribute with an AUC of {two(GOES_WELL)} or "
                f"more{ceiling}."
            ),
            warnings=("A draft says what the strongest cells have in common; that is no proof of what a concept is.",),
            notice=NOTICE,
        ),
        tiles=(
            Fact("names accepted by people", len(table) - drafts, "count"),
            Fact("go with a human attribute beyond chance", int(auc.notna().sum()), "count"),
            Fact("families of concepts that are used alike", families, "count"),
        ),
        definitions=define("Goes with", "AUC within types", "Agreement of people", "Family of concepts"),
        made_from=made_from,
        concepts=_concepts(table, auc, followed or {}),
        families=_families(table),
    )


def _concepts(table: pd.DataFrame, auc: pd.Series, followed: Mapping[int, str]) -> Table:
    order = table.assign(rank=auc.fillna(0)).sort_values(["draft", "rank"], ascending=[True, False], kind="stable")
    heads = [TableColumn("concept"), TableColumn("name"), TableColumn("is")]
    if "auc" in table:
        figures = ("AUC", "within types", "people")
        heads += [TableColumn("goes with"), *(TableColumn(words, "two") for words in figures)]
    heads += [TableColumn("family"), *([TableColumn("drawn pairs")] if followed else [])]
    rows = []
    for latent, row in order.head(SHOWN_CONCEPTS).to_dict("index").items():
        said: list[Any] = [str(latent), row["name"], "a draft" if row["draft"] else "accepted"]
        if "auc" in table:
            ends = Number(*(known(row[f"auc{end}"]) for end in ("", "_low", "_high")))
            said += [text(row["words"]) or "", ends, known(row["auc_within"]), known(row.get("people"))]
        said += [text(row["family_name"]) or ""] + ([followed.get(int(str(latent)), "")] if followed else [])
        rows.append(Row(tuple(said)))
    caption = f"{whole(len(rows))} of {count(len(table), 'concept')}: accepted names first, then by AUC."
    return Table(tuple(heads), tuple(rows), caption)


def _families(table: pd.DataFrame) -> Table:
    several: Any = table[table["family_size"] > 1]
    rows = []
    for _, part in sorted(several.groupby("family"), key=lambda pair: (-len(pair[1]), pair[0]))[:SHOWN_FAMILIES]:
        members = ", ".join(str(latent) for latent in part.index[:12]) + (", ..." if len(part) > 12 else "")
        rows.append(Row((str(part["family_name"].iloc[0]), len(part), members)))
    heads = (TableColumn("family"), TableColumn("concepts", "count"), TableColumn("they are"))
    found = int(several["family"].nunique())
    caption = f"The {whole(len(rows))} largest of {whole(found)} families of two concepts or more."
    return Table(heads, tuple(rows), caption)

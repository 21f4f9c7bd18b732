"""How many concepts a decision takes, beside what needs no learning; those it takes, and how firmly they are chosen."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cytosae.views.concepts.concept_view import ConceptView, views_of_concepts
from cytosae.views.parts.number_words import count, listed, percent, two
from cytosae.views.parts.page_parts import Fact, Table, known, measured, say, series, table_of
from cytosae.views.parts.plots import Axis, Chart, Series

if TYPE_CHECKING:
    from cytosae.cohort.classification.result import ClassificationResult
    from cytosae.views.patients.evidence import Shared

NUMBERS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
"""Numbers of concepts of the table; the chart has all."""


@dataclass(frozen=True)
class FewView:
    """AUROC against the number of concepts, and the concepts of the recommended decision where they are few.

    ``choice`` says how they were chosen and how firm that is; ``numbers`` are the values of the chart.
    """

    words: str
    curve: Chart | None
    numbers: Table | None
    choice: str
    concepts: tuple[ConceptView, ...]


def view_of_few(result: ClassificationResult, shared: Shared) -> FewView | None:
    """Gather it; None where a result has neither a curve nor few concepts."""
    if result.few.empty and result.few_concepts.empty:
        return None
    return FewView(
        words=curve_words(result),
        curve=None if result.few.empty else _curve(result),
        numbers=None if result.few.empty else _numbers(result),
        choice=_choice(result),
        concepts=_concepts(result, shared),
    )


def curve_words(result: ClassificationResult) -> str:
    """What the curve says in a sentence or two; empty without one."""
    if result.few.empty:
        return ""
    first, *others = (part for _, part in result.few.groupby("features", sort=False))
    best, enough = (first.loc[first["auroc"].idxmax()], first.loc[first["enough"].astype(bool)].iloc[0])
    k = int(enough["concepts"])
    said = (
        f"{count(k, 'concept')}, chosen and fitted inside the folds, {'reaches' if k == 1 else 'reach'} AUROC "
        f"{say(measured(enough, 'auroc'))}, within one standard error of the best of the curve ({two(best['auroc'])} "
        f"with {int(best['concepts'])})."
    )
    beside = [f"{part['features'].iloc[0]} {two(part.set_index('concepts').loc[k, 'auroc'])}" for part in others
              if k in part["concepts"].to_numpy()]  # fmt: skip
    return f"{said} As many of other features: {listed(beside)}." if beside else said


def _curve(result: ClassificationResult) -> Chart:
    drawn = []
    for place, (name, part) in enumerate(result.few.groupby("features", sort=False)):
        ends = (series(part["auroc_low"]), series(part["auroc_high"])) if place == 0 else ((), ())
        drawn.append(Series(str(name), series(part["concepts"]), series(part["auroc"]), *ends, strong=place == 0))
    words = (
        "AUROC in cross-validation against the number of features that a decision sums, all chosen from the training "
        "patients of each fold. Band: 95 % interval over patients. What has no learning in it (random weights) or no "
        "cell (painted out) is what concepts have to be better than. Dashed: chance."
    )
    return Chart(words, Axis("number of features"), Axis("AUROC"), tuple(drawn), level=0.5)


def _numbers(result: ClassificationResult) -> Table | None:
    shown = [k for k in NUMBERS if k in result.few["concepts"].to_numpy()]
    rows = []
    for name, part in result.few.groupby("features", sort=False):
        found = {int(row["concepts"]): row for row in part.to_dict("records")}
        rows.append({"Features": name} | {str(k): measured(found[k], "auroc") if k in found else None for k in shown})
    return table_of(
        pd.DataFrame(rows),
        "AUROC by number of features. In brackets: 95 % intervals over patients.",
        shown={str(k): "two" for k in shown},
    )


def _choice(result: ClassificationResult) -> str:
    table = result.few_concepts
    if table.empty:
        return ""
    n, joined = len(table), sum(len(family) > 1 for family in table["family"])
    words = (
        f"The recommended decision is the sum of {count(n, 'concept')} and nothing else. Their number is the smallest "
        "within one standard error of the best in inner folds."
    )
    if joined:
        stand = "stands" if joined == 1 else "stand"
        words += f" {joined} of them {stand} for a family of near-twins, which say the same of the patients."
    if np.isfinite(result.few_overlap):
        words += f" The sets chosen in two folds share {percent(result.few_overlap)} of their families on average."
    return words


def _concepts(result: ClassificationResult, shared: Shared) -> tuple[ConceptView, ...]:
    facts: dict[int, tuple[Fact, ...]] = {
        int(row["latent"]): _facts(row) for row in result.few_concepts.to_dict("records")
    }
    return views_of_concepts(shared.dataset, list(facts), facts=facts, marks=shared.marks) if facts else ()


def _facts(row: dict[Any, Any]) -> tuple[Fact, ...]:
    twins = [str(latent) for latent in row["family"] if latent != row["latent"]]
    weights = {re.sub("^weight_?", "", str(name)): row[name] for name in row if str(name).startswith("weight")}
    return (
        *(
            Fact(f"Weight{f' for {of}' if of else ''}, log odds per s.d.", known(weight), "signed")
            for of, weight in weights.items()
        ),
        Fact("Chosen in folds", known(row["folds"]), "percent"),
        Fact("Chosen in resamples of patients", known(row["resamples"]), "percent"),
        *((Fact("Near-twins", ", ".join(twins)),) if twins else ()),
    )

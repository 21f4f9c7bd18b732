"""What the answers of a session say: agreement, learned latents against controls, and careless raters."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select

from cytosae.reviews.agreement import (
    Estimate,
    Ratings,
    bootstrap,
    difference,
    intraclass_correlation,
    krippendorff_alpha,
    mean_jaccard,
    percent_agreement,
)
from cytosae.reviews.answers import Answer, find_session, to_answer
from cytosae.reviews.database import Database
from cytosae.reviews.panels import KINDS
from cytosae.reviews.review_tables import AnswerRow, PanelRow, RaterRow
from cytosae.reviews.vocabulary import families_of

GRADES = {"no": 0.0, "mixed": 1.0, "partly": 2.0, "yes": 3.0}
"""Answers in their order; "cannot say" is none."""
FEW = 3
"""Repeats, or controls, from which on a rater can be flagged by them."""
UNSTEADY = 0.5
"""A rater who answers fewer repeats than this share the same way is flagged."""
CREDULOUS = 0.5
"""A rater who sees one concept in more than this share of cells drawn at random is flagged."""


@dataclass(frozen=True)
class Rating:
    """A submitted answer, with what the panel was."""

    rater: str
    panel: str
    kind: str
    unit: int
    stratum: str
    repeat_of: str | None
    seconds: float
    version: int
    answer: Answer

    @property
    def grade(self) -> float:
        """0 (no) to 3 (yes); NaN for "cannot say"."""
        return GRADES.get(self.answer.verdict, float("nan"))


@dataclass(frozen=True)
class Agreement:
    """How far raters agree, on all panels shown first."""

    alpha: Estimate
    icc: Estimate
    percent: Estimate
    terms: Estimate
    families: Estimate


@dataclass(frozen=True)
class AgainstControl:
    """Learned latents beside one kind of control; grades from 0 (no) to 1 (one concept)."""

    kind: str
    words: str
    panels: int
    grade: float | None
    difference: Estimate


@dataclass(frozen=True)
class RaterResult:
    """A rater: steady on repeats, fooled by cells drawn at random, and why she is flagged (empty: she is not)."""

    name: str
    answered: int
    repeats: int
    same: float | None
    fooled: float | None
    median_seconds: float | None
    flags: tuple[str, ...]


@dataclass(frozen=True)
class Results:
    """Results of a session; ``careful`` is the agreement without flagged raters, None where it would be the same."""

    session: int
    title: str
    dataset: str
    panels: int
    answers: int
    agreement: Agreement
    careful: Agreement | None
    learned: float | None
    controls: tuple[AgainstControl, ...]
    raters: tuple[RaterResult, ...]


def read_ratings(database: Database, number: int) -> list[Rating]:
    """All submitted answers of a session, with what each panel was."""
    with database.reading() as session:
        find_session(session, number)
        panels = {p.id: p for p in session.scalars(select(PanelRow).where(PanelRow.session_id == number))}
        raters = {r.id: r.name for r in session.scalars(select(RaterRow).where(RaterRow.session_id == number))}
        rows = session.scalars(
            select(AnswerRow)
            .where(AnswerRow.rater_id.in_(raters), AnswerRow.state == "submitted")
            .order_by(AnswerRow.rater_id, AnswerRow.panel_id)
        )
        return [_rating(row, panels, raters[row.rater_id]) for row in rows]


def results_of(database: Database, number: int, *, repeats: int = 1000) -> Results:
    """Results of a session so far; ``repeats`` is how often panels are drawn anew for intervals."""
    ratings = read_ratings(database, number)
    with database.reading() as session:
        row = find_session(session, number)
        names = list(
            session.scalars(select(RaterRow.name).where(RaterRow.session_id == number).order_by(RaterRow.name))
        )
        panels = len(session.scalars(select(PanelRow.id).where(PanelRow.session_id == number)).all())
    raters = tuple(_rater(name, [r for r in ratings if r.rater == name]) for name in names)
    flagged = {rater.name for rater in raters if rater.flags}
    careful = [r for r in ratings if r.rater not in flagged]
    learned = _grades(ratings, "learned")
    return Results(
        session=number,
        title=row.title,
        dataset=row.dataset,
        panels=panels,
        answers=len(ratings),
        agreement=agreement_of(ratings, repeats),
        careful=agreement_of(careful, repeats) if flagged and careful else None,
        learned=_mean(learned),
        controls=tuple(_against(ratings, kind, learned, repeats) for kind in KINDS if kind != "learned"),
        raters=raters,
    )


def agreement_of(ratings: list[Rating], repeats: int = 1000) -> Agreement:
    """Agreement on panels shown first; descriptors are compared where a panel is said to be one concept, or partly."""
    first = [r for r in ratings if r.repeat_of is None]
    # in the order in which they were stored: the names of panels are drawn, and intervals are to be the same again
    raters, panels = sorted({r.rater for r in first}), list(dict.fromkeys(r.panel for r in first))
    grades: Ratings = np.full((len(raters), len(panels)), np.nan)
    verdicts: Ratings = np.full(grades.shape, np.nan)
    said: list[list[frozenset[str]]] = [[] for _ in panels]
    for r in first:
        at = raters.index(r.rater), panels.index(r.panel)
        grades[at], verdicts[at] = r.grade, -1.0 if np.isnan(r.grade) else r.grade
        if r.answer.verdict in ("yes", "partly"):
            said[at[1]].append(frozenset(r.answer.terms))
    families = [[families_of(terms) for terms in sets] for sets in said]
    rng, n = np.random.default_rng(0), len(panels)
    return Agreement(
        alpha=bootstrap(lambda i: krippendorff_alpha(grades[:, i]), n, rng, repeats),
        icc=bootstrap(lambda i: intraclass_correlation(grades[:, i]), n, rng, repeats),
        percent=bootstrap(lambda i: percent_agreement(verdicts[:, i]), n, rng, repeats),
        terms=bootstrap(lambda i: mean_jaccard([said[k] for k in i]), n, rng, repeats),
        families=bootstrap(lambda i: mean_jaccard([families[k] for k in i]), n, rng, repeats),
    )


def _rater(name: str, own: list[Rating]) -> RaterResult:
    by_panel = {r.panel: r for r in own}
    pairs = [(r, by_panel[r.repeat_of]) for r in own if r.repeat_of in by_panel]
    same = [again.answer.verdict == first.answer.verdict for again, first in pairs]
    fooled = [r.answer.verdict == "yes" for r in own if r.kind == "cells"]
    flags = []
    if len(same) >= FEW and np.mean(same) < UNSTEADY:
        flags.append(f"{sum(same)} of {len(same)} repeats answered the same way")
    if len(fooled) >= FEW and np.mean(fooled) > CREDULOUS:
        flags.append(f"one concept seen in {sum(fooled)} of {len(fooled)} panels of cells drawn at random")
    return RaterResult(
        name,
        len(own),
        len(same),
        float(np.mean(same)) if same else None,
        float(np.mean(fooled)) if fooled else None,
        float(np.median([r.seconds for r in own])) if own else None,
        tuple(flags),
    )


def _grades(ratings: list[Rating], kind: str) -> NDArray[np.float64]:
    """Mean grade of each panel of a kind over its raters, 0 to 1."""
    of: dict[str, list[float]] = {}
    for r in ratings:
        if r.kind == kind and r.repeat_of is None and not np.isnan(r.grade):
            of.setdefault(r.panel, []).append(r.grade / 3)
    return np.array([np.mean(grades) for grades in of.values()], float)


def _against(ratings: list[Rating], kind: str, learned: NDArray[np.float64], repeats: int) -> AgainstControl:
    grades = _grades(ratings, kind)
    found = difference(learned, grades, np.random.default_rng(0), repeats)
    return AgainstControl(kind, KINDS[kind], len(grades), _mean(grades), found)


def _mean(values: NDArray[np.float64]) -> float | None:
    return float(values.mean()) if len(values) else None


def _rating(row: AnswerRow, panels: dict[int, PanelRow], rater: str) -> Rating:
    panel = panels[row.panel_id]
    first = panels[panel.repeat_of].key if panel.repeat_of is not None else None
    return Rating(
        rater,
        panel.key,
        panel.kind,
        panel.unit,
        panel.stratum,
        first,
        row.seconds,
        row.version,
        to_answer(row.content),
    )

"""Raw ratings for others: CSV, JSON, and the items of the CLAIM checklist that a session answers."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import asdict
from typing import Any

from sqlalchemy import select

from cytosae.common.configuration import finite, to_plain
from cytosae.common.names import spreadsheet_text
from cytosae.reviews.agreement import Estimate
from cytosae.reviews.answers import find_session
from cytosae.reviews.database import Database
from cytosae.reviews.results import read_ratings, results_of
from cytosae.reviews.review_tables import AuditRow

COLUMNS = (
    *("rater", "panel", "kind", "unit", "stratum", "repeat_of", "verdict", "terms", "words", "place"),
    *("confidence", "misfits", "seconds", "version"),
)


def ratings_csv(database: Database, number: int) -> str:
    """Every submitted answer, a line each; terms and misfits are separated by ``;``, misfits counted from 1."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS)
    for r in read_ratings(database, number):
        a = r.answer
        writer.writerow(
            [
                *(spreadsheet_text(r.rater), r.panel, r.kind, r.unit, spreadsheet_text(r.stratum), r.repeat_of or ""),
                *(a.verdict, ";".join(a.terms), spreadsheet_text(a.words), a.place, a.confidence or ""),
                *(";".join(str(cell + 1) for cell in a.misfits), f"{r.seconds:.1f}", r.version),
            ]
        )
    return buffer.getvalue()


def ratings_json(database: Database, number: int) -> str:
    """Design, ratings, results and audit log of a session."""
    with database.reading() as session:
        row = find_session(session, number)
        log = session.scalars(select(AuditRow).where(AuditRow.session_id == number).order_by(AuditRow.id))
        audit = [{"at": line.at.isoformat(), "who": line.who, "what": line.what, **line.content} for line in log]
        about: dict[str, Any] = {"session": number, "title": row.title, "dataset": row.dataset, "atlas": row.atlas}
        design = row.design
    ratings = [asdict(r) for r in read_ratings(database, number)]
    told = {**about, "design": design, "ratings": ratings, "results": to_plain(results_of(database, number))}
    return json.dumps(finite({**told, "audit": audit}), indent=1, ensure_ascii=False)


def claim_checklist(database: Database, number: int) -> str:
    """The items of CLAIM that a review session answers, as Markdown; all others are left to the authors.

    References
    ----------
    Tejani et al. 2024, Checklist for Artificial Intelligence in Medical Imaging (CLAIM): 2024 update, Radiology:
    Artificial Intelligence 6(4):e240300. Items are named by what they ask, not by number.
    """
    found = results_of(database, number)
    with database.reading() as session:
        row = find_session(session, number)
        design, atlas = row.design, row.atlas
    agree, careful = found.agreement, found.careful
    flagged = [rater.name for rater in found.raters if rater.flags]
    lines = [
        f"# Reporting checklist (CLAIM 2024), filled from review session {number}: {_flat(found.title)}",
        "",
        "Only the items that the session itself answers; the study's own items are for its authors.",
        "",
        "| item | answer |",
        "|---|---|",
        f"| Data | {_flat(found.dataset)}; atlas {atlas} |",
        f"| Reference standard | judgement of {len(found.raters)} raters on {found.panels} panels, "
        "with the vocabulary of cytosae |",
        f"| How cases were chosen | {design['concepts']} latents by {design['stratum']}, seed {design['seed']} |",
        f"| Blinding | no labels, scores, names or other answers were shown; {design['controls']} panels of each "
        f"kind of control and {design['repeats']} hidden repeats were mixed in; every rater had an own random order |",
        "| Raters' qualification | to be filled by the authors |",
        f"| Inter-rater variability | Krippendorff's alpha (ordinal) {_said(agree.alpha)}; "
        f"ICC(2,1) {_said(agree.icc)}; "
        f"equal answers {_said(agree.percent)} |",
        f"| Agreement of descriptors | Jaccard of terms {_said(agree.terms)}; of families {_said(agree.families)} |",
        "| Intra-rater variability | "
        + "; ".join(
            f"{_flat(r.name)}: {r.same:.0%} of {r.repeats} repeats the same" for r in found.raters if r.same is not None
        )
        + " |",
        f"| Raters flagged as careless | {', '.join(map(_flat, flagged)) or 'none'}"
        + (f"; without them alpha is {_said(careful.alpha)}" if careful else "")
        + " |",
    ]
    lines += [
        f"| Learned latents less {c.words} | mean grade (0 no, 1 one concept) {_said(c.difference)} |"
        for c in found.controls
    ]
    return "\n".join(lines) + "\n"


def _said(estimate: Estimate) -> str:
    if estimate.value is None:
        return "cannot be computed"
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:.2f} (too few panels for an interval)"
    return f"{estimate.value:.2f} (95 % interval {estimate.low:.2f} to {estimate.high:.2f}, n = {estimate.n})"


def _flat(text: str) -> str:
    return text.replace("|", "/").replace("\n", " ")

"""What is decided once the answers are read, and the names that are accepted."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError

from cytosae.common.errors import ConflictError, InputError, UsageError
from cytosae.reviews.answers import find_session
from cytosae.reviews.database import Database, reviews_url, write_audit
from cytosae.reviews.results import read_ratings
from cytosae.reviews.review_tables import DecisionRow, PanelRow, SessionRow, now
from cytosae.reviews.vocabulary import check_terms, vocabulary


@dataclass(frozen=True)
class Said:
    """What one rater said of a latent."""

    rater: str
    verdict: str
    terms: tuple[str, ...]
    words: str
    confidence: int


@dataclass(frozen=True)
class Case:
    """A learned latent with what was said of it; ``version`` of the decision, 0 where there is none yet."""

    latent: int
    stratum: str
    said: tuple[Said, ...]
    disagree: bool
    accepted: bool | None
    name: str
    terms: tuple[str, ...]
    comment: str
    version: int


@dataclass(frozen=True)
class Decision:
    """What a coordinator decides of a latent; an accepted name is shown wherever the concept is."""

    accepted: bool
    name: str
    terms: tuple[str, ...] = ()
    comment: str = ""


@dataclass(frozen=True)
class AcceptedName:
    """The name that reviewers accepted for a latent."""

    latent: int
    dataset: str
    name: str
    terms: tuple[str, ...]
    session: int
    raters: int


def list_cases(database: Database, number: int) -> list[Case]:
    """Learned latents of a session: those whose raters disagree first."""
    said: dict[int, list[Said]] = {}
    for r in read_ratings(database, number):
        if r.kind == "learned" and r.repeat_of is None:
            words = tuple(vocabulary()[term].words for term in r.answer.terms)
            one = Said(r.rater, r.answer.verdict, words, r.answer.words, r.answer.confidence)
            said.setdefault(r.unit, []).append(one)
    with database.reading() as session:
        asked = select(PanelRow).where(PanelRow.session_id == number, PanelRow.kind == "learned")
        strata = {p.unit: p.stratum for p in session.scalars(asked.where(PanelRow.repeat_of.is_(None)))}
        made = select(DecisionRow).where(DecisionRow.session_id == number)
        decided = {row.latent: row for row in session.scalars(made)}
    cases = [_case(unit, stratum, said.get(unit, []), decided.get(unit)) for unit, stratum in strata.items()]
    return sorted(cases, key=lambda case: (not case.disagree, case.latent))


def decide(
    database: Database,
    number: int,
    latent: int,
    decision: Decision,
    *,
    version: int = 0,
    by: str = "",
) -> int:
    """Store what is decided of a latent; its new version.

    Raises
    ------
    UsageError
        A name is missing or too long.
    ConflictError
        It was decided otherwise since ``version`` was read.
    """
    accepted, name, comment = decision.accepted, decision.name.strip(), decision.comment
    if len(name) > 200 or len(comment) > 2000 or not name.isprintable() or "\0" in comment:
        raise UsageError("A name has at most 200 printable characters, a comment at most 2000.")
    if accepted and not name:
        raise UsageError("Give the name that is accepted.")
    values: dict[str, Any] = {
        "accepted": accepted,
        "name": name,
        "terms": list(check_terms(decision.terms)),
        "comment": comment,
        "decided_by": by,
        "changed": now(),
    }
    stale = ConflictError(f"Latent {latent} was decided by somebody else meanwhile; load the page again and compare.")
    with database.writing() as session:
        find_session(session, number)
        asked = (PanelRow.session_id == number, PanelRow.kind == "learned", PanelRow.unit == latent)
        if not 0 <= latent < 1 << 31 or session.scalar(select(PanelRow.id).where(*asked)) is None:
            raise InputError(f"Latent {latent} is not asked about in session {number}.")
        if version == 0:
            session.add(DecisionRow(session_id=number, latent=latent, version=1, **values))
            try:
                session.flush()
            except IntegrityError as problem:
                raise stale from problem
        else:
            same = (DecisionRow.session_id == number, DecisionRow.latent == latent, DecisionRow.version == version)
            done: Any = session.execute(update(DecisionRow).where(*same).values(version=version + 1, **values))
            if done.rowcount != 1:
                raise stale
        told = {"latent": latent, "accepted": accepted, "name": name, "terms": values["terms"], "comment": comment}
        write_audit(session, by, "decision", number, told)
    return version + 1


def accepted_names(study: Path | str, url: str | None = None) -> dict[int, AcceptedName]:
    """Latent -> the name that reviewers accepted, the latest session's; empty where nothing was reviewed.

    Parameters
    ----------
    study : Path
        Folder of the study.
    url : str or None
        Database of the reviews, None for the study's own.
    """
    if url is None and not (Path(study) / "reviews.sqlite").is_file():
        return {}
    database = Database(url or reviews_url(Path(study)))
    try:
        return names_in(database)
    finally:
        database.close()


def names_in(database: Database) -> dict[int, AcceptedName]:
    """Latent -> accepted name, of an opened database; a later session's decision stands, a refusal too."""
    with database.reading() as session:
        rows = session.execute(
            select(DecisionRow, SessionRow.dataset)
            .join(SessionRow, SessionRow.id == DecisionRow.session_id)
            .order_by(DecisionRow.session_id)
        ).all()
    latest = {row.latent: (row, dataset) for row, dataset in rows}
    raters = {number: read_ratings(database, number) for number in {row.session_id for row, _ in latest.values()}}
    found = {}
    for latent, (row, dataset) in sorted(latest.items()):
        if row.accepted:
            judged = {r.rater for r in raters[row.session_id] if r.kind == "learned" and r.unit == latent}
            found[latent] = AcceptedName(latent, dataset, row.name, tuple(row.terms), row.session_id, len(judged))
    return found


def _case(latent: int, stratum: str, said: list[Said], row: DecisionRow | None) -> Case:
    disagree = len({one.verdict for one in said}) > 1 or len({one.terms for one in said}) > 1
    if row is None:
        return Case(latent, stratum, tuple(said), disagree, None, "", (), "", 0)
    return Case(
        latent, stratum, tuple(said), disagree, row.accepted, row.name, tuple(row.terms), row.comment, row.version
    )

"""Sessions as they are lived: who is asked what in which order, and the answers."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC
from typing import Any, Literal

import numpy as np
from sqlalchemy import func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from cytosae.cells.focus.patch_grid import Grid, grid_of
from cytosae.common.errors import ConflictError, InputError, UsageError
from cytosae.reviews.database import Database, write_audit
from cytosae.reviews.panels import Design, Panel
from cytosae.reviews.review_tables import AnswerRow, PanelRow, RaterRow, SessionRow, now
from cytosae.reviews.vocabulary import check_terms

Verdict = Literal["yes", "partly", "mixed", "no", "cannot say"]
VERDICTS = ("yes", "partly", "mixed", "no", "cannot say")
PLACES = ("nucleus", "cytoplasm", "whole cell", "edge", "surroundings", "cannot say")
LONGEST = 2000


@dataclass(frozen=True)
class Answer:
    """What a rater says of a panel.

    Attributes
    ----------
    verdict : str
        One concept? One of `VERDICTS`; empty only in a draft.
    terms : tuple of str
        Of the vocabulary.
    words : str
        Free text.
    place : str
        Where in the image, one of `PLACES`, or empty.
    confidence : int
        1 (guessed) to 5 (certain), 0 where it is not said.
    misfits : tuple of int
        Cells, by their number on the panel from 0, that do not fit.
    """

    verdict: str = ""
    terms: tuple[str, ...] = ()
    words: str = ""
    place: str = ""
    confidence: int = 0
    misfits: tuple[int, ...] = ()

    def checked(self, *, cells: int, submitted: bool) -> Answer:
        """The answer as it is stored; refuses what the form does not offer."""
        if self.verdict not in (*VERDICTS, *(() if submitted else ("",))):
            raise UsageError("Say first whether the cells share one concept: yes, partly, mixed, no or cannot say.")
        if self.place not in (*PLACES, ""):
            raise UsageError(f"There is no place {self.place[:40]!r}; choose among: {', '.join(PLACES)}.")
        if not 0 <= self.confidence <= 5:
            raise UsageError(f"confidence is {self.confidence}; give 1 to 5.")
        if len(self.words) > LONGEST or "\0" in self.words:
            raise UsageError(f"The free text has at most {LONGEST} characters.")
        if any(not 0 <= cell < cells for cell in self.misfits):
            raise UsageError(f"The panel has cells 1 to {cells}; name misfits among them.")
        return Answer(
            self.verdict,
            check_terms(self.terms),
            self.words.strip(),
            self.place,
            self.confidence,
            tuple(sorted(set(self.misfits))),
        )


@dataclass(frozen=True)
class BlindPanel:
    """A panel as its rater sees it: nothing in it says what it shows, or what others said.

    ``images`` counts its cells; ``number`` of ``of`` in the rater's own order; ``version`` of the answer, 0 for none.
    """

    session: int
    title: str
    rater: str
    key: str
    number: int
    of: int
    submitted: int
    images: int
    previous: str | None
    next: str | None
    answer: Answer
    state: str
    version: int


@dataclass(frozen=True)
class Progress:
    """How far a rater is; ``next`` is the first panel without a submitted answer."""

    rater: str
    submitted: int
    panels: int
    next: str | None


@dataclass(frozen=True)
class SessionSummary:
    """A session in a list."""

    id: int
    title: str
    dataset: str
    created: str
    created_by: str
    panels: int
    raters: tuple[Progress, ...]


def create_session(
    database: Database,
    panels: Sequence[Panel],
    design: Design,
    *,
    title: str,
    dataset: str,
    atlas: str,
    raters: Sequence[str],
    by: str,
) -> int:
    """Store a session with its panels, hidden repeats, and an order of their own for every rater; its number."""
    names = [name.strip() for name in raters if name.strip()]
    if not names or len(set(names)) != len(names) or any(len(n) > 64 or not n.isprintable() for n in names):
        raise UsageError("Name at least one rater, each once, with at most 64 printable characters.")
    if not title.strip() or len(title) > 200 or not title.isprintable():
        raise UsageError("Give the session a title of at most 200 printable characters.")
    rng = np.random.default_rng(design.seed + 1)
    with database.writing() as session:
        row = SessionRow(title=title.strip(), dataset=dataset, atlas=atlas, design=asdict(design), created_by=by)
        session.add(row)
        session.flush()
        first = [_stored(row.id, panel) for panel in panels]
        session.add_all(first)
        session.flush()
        learned = [(stored, panel) for stored, panel in zip(first, panels, strict=True) if panel.kind == "learned"]
        again = [learned[i] for i in rng.permutation(len(learned))[: design.repeats]]
        repeats = [_stored(row.id, panel, stored.id) for stored, panel in again]
        session.add_all(repeats)
        shown = {repeat.key: stored.key for repeat, (stored, _) in zip(repeats, again, strict=True)}
        for name in names:
            order = _order([stored.key for stored in first], shown, rng)
            session.add(RaterRow(session_id=row.id, name=name, order=order))
        said = {"title": row.title, "raters": names, "panels": len(first) + len(repeats), "design": asdict(design)}
        write_audit(session, by, "session made", row.id, said)
        return row.id


def list_sessions(database: Database) -> list[SessionSummary]:
    """All sessions, the latest first."""
    with database.reading() as session:
        rows = session.scalars(select(SessionRow).order_by(SessionRow.id.desc())).all()
        return [_summary(session, row) for row in rows]


def session_summary(database: Database, number: int) -> SessionSummary:
    """One session."""
    with database.reading() as session:
        return _summary(session, find_session(session, number))


def blind_panel(database: Database, number: int, rater: str, key: str) -> BlindPanel:
    """A panel for a rater, with her own answer so far."""
    with database.reading() as session:
        asked = find_session(session, number)
        who, panel, answer = _found(session, number, rater, key)
        at = who.order.index(key)
        return BlindPanel(
            session=number,
            title=asked.title,
            rater=rater,
            key=key,
            number=at + 1,
            of=len(who.order),
            submitted=len(_submitted(session, who)),
            images=len(panel.content["cells"]),
            previous=who.order[at - 1] if at else None,
            next=who.order[at + 1] if at + 1 < len(who.order) else None,
            answer=to_answer(answer.content) if answer else Answer(),
            state=answer.state if answer else "",
            version=answer.version if answer else 0,
        )


def panel_cell(database: Database, number: int, key: str, image: int) -> tuple[str, str, Grid]:
    """Cell, map and its grid of one image of a panel."""
    with database.reading() as session:
        panel = session.scalar(select(PanelRow).where(PanelRow.session_id == number, PanelRow.key == key))
        if panel is None or not 0 <= image < len(panel.content["cells"]):
            raise InputError("There is no such image in this session.")
        content = panel.content
        return content["cells"][image], content["maps"][image], grid_of(content["side"])


def give_answer(
    database: Database,
    number: int,
    rater: str,
    key: str,
    answer: Answer,
    *,
    version: int,
    submitted: bool,
    seconds: float = 0.0,
) -> int:
    """Store an answer, as a draft or for good; its new version. When this returns, the answer is on disk.

    Raises
    ------
    UsageError
        The answer is none that the form offers.
    ConflictError
        The answer has changed since ``version`` was read, as in another window.
    """
    with database.writing() as session:
        who, panel, known = _found(session, number, rater, key)
        checked = answer.checked(cells=len(panel.content["cells"]), submitted=submitted)
        state = "submitted" if submitted else "draft"
        values = {"content": asdict(checked), "state": state, "seconds": min(max(seconds, 0.0), 1e5), "changed": now()}
        if known is None and version == 0:
            session.add(AnswerRow(rater_id=who.id, panel_id=panel.id, version=1, **values))
            try:
                session.flush()
            except IntegrityError as problem:
                raise _conflict() from problem
        else:
            same = (AnswerRow.rater_id == who.id, AnswerRow.panel_id == panel.id, AnswerRow.version == version)
            done: Any = session.execute(update(AnswerRow).where(*same).values(version=version + 1, **values))
            if done.rowcount != 1:
                raise _conflict()
        told = {"panel": key, "version": version + 1, "state": state, "answer": asdict(checked), "seconds": seconds}
        write_audit(session, rater, "answer", number, told)
    return version + 1


def to_answer(content: dict[str, Any]) -> Answer:
    """An answer from what is stored."""
    return Answer(**{**content, "terms": tuple(content["terms"]), "misfits": tuple(content["misfits"])})


def find_session(session: Session, number: int) -> SessionRow:
    """The row of a session."""
    row = session.get(SessionRow, number) if 0 < number < 1 << 31 else None
    if row is None:
        raise InputError(f"There is no review session {number}.")
    return row


def _found(session: Session, number: int, rater: str, key: str) -> tuple[RaterRow, PanelRow, AnswerRow | None]:
    who = session.scalar(select(RaterRow).where(RaterRow.session_id == number, RaterRow.name == _plain(rater)))
    if who is None:
        raise InputError("You are no rater of this session; ask its coordinator.")
    panel = session.scalar(select(PanelRow).where(PanelRow.session_id == number, PanelRow.key == _plain(key)))
    if panel is None or key not in who.order:
        raise InputError("There is no such panel in this session.")
    answer = session.scalar(select(AnswerRow).where(AnswerRow.rater_id == who.id, AnswerRow.panel_id == panel.id))
    return who, panel, answer


def _plain(text: str) -> str:
    return text.replace("\0", "\ufffd")  # which PostgreSQL would refuse


def _submitted(session: Session, who: RaterRow) -> set[str]:
    keys = select(PanelRow.key).join(AnswerRow, AnswerRow.panel_id == PanelRow.id)
    return set(session.scalars(keys.where(AnswerRow.rater_id == who.id, AnswerRow.state == "submitted")))


def _summary(session: Session, row: SessionRow) -> SessionSummary:
    panels = session.scalar(select(func.count()).where(PanelRow.session_id == row.id)) or 0
    raters = []
    for who in session.scalars(select(RaterRow).where(RaterRow.session_id == row.id).order_by(RaterRow.name)):
        done = _submitted(session, who)
        raters.append(Progress(who.name, len(done), panels, next((key for key in who.order if key not in done), None)))
    created = row.created.replace(tzinfo=row.created.tzinfo or UTC).isoformat(timespec="seconds")
    return SessionSummary(row.id, row.title, row.dataset, created, row.created_by, panels, tuple(raters))


def _stored(session_id: int, panel: Panel, repeat_of: int | None = None) -> PanelRow:
    return PanelRow(
        session_id=session_id,
        key=secrets.token_hex(8),
        kind=panel.kind,
        unit=panel.unit,
        stratum=panel.stratum,
        repeat_of=repeat_of,
        content={"cells": list(panel.cells), "maps": list(panel.maps), "side": panel.side},
    )


def _order(first: list[str], repeats: Mapping[str, str], rng: np.random.Generator) -> list[str]:
    """A random order in which each repeat lies about half a session away from its first showing."""
    order = [first[i] for i in rng.permutation(len(first))]
    for repeat, shown in repeats.items():
        half, jitter = len(order) // 2, len(order) // 8
        at = order.index(shown) + half + int(rng.integers(-jitter, jitter + 1))
        order.insert(at % (len(order) + 1), repeat)
    return order


def _conflict() -> ConflictError:
    return ConflictError("This answer was changed meanwhile, as in another window; load the page again and compare.")

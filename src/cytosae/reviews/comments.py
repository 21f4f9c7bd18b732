"""What people say of a concept, outside of review sessions."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select

from cytosae.common.errors import UsageError
from cytosae.reviews.database import Database, write_audit
from cytosae.reviews.review_tables import CommentRow

LONGEST = 2000


@dataclass(frozen=True)
class Comment:
    """What somebody said, and when (UTC); ``by`` is empty where there are no accounts and no name was given."""

    by: str
    at: str
    text: str


def add_comment(database: Database, dataset: str, latent: int, text: str, *, by: str = "") -> None:
    """Keep a comment on a concept; it can be answered by another one, not changed.

    Raises
    ------
    UsageError
        It is empty or too long, or has characters that cannot be shown.
    """
    text = text.strip().replace("\r\n", "\n")
    if not 1 <= len(text) <= LONGEST or not text.replace("\n", "").replace("\t", "").isprintable():
        raise UsageError(f"A comment has 1 to {LONGEST:,} printable characters.")
    if len(by) > 64 or not by.isprintable():
        raise UsageError("A name has at most 64 printable characters.")
    with database.writing() as session:
        session.add(CommentRow(dataset=dataset, latent=latent, text=text, said_by=by))
        write_audit(session, by, "comment", None, {"dataset": dataset, "latent": latent, "text": text})


def comments_on(database: Database, dataset: str, latent: int) -> tuple[Comment, ...]:
    """Comments on a concept, the oldest first."""
    asked = select(CommentRow).where(CommentRow.dataset == dataset, CommentRow.latent == latent).order_by(CommentRow.id)
    with database.reading() as session:
        return tuple(Comment(r.said_by, r.at.isoformat(timespec="minutes"), r.text) for r in session.scalars(asked))

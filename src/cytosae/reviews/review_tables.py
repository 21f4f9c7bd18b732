"""The tables of the reviews. Migrations make them (``migrations/versions``); a test holds the two together."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, CheckConstraint, DateTime, Float, ForeignKey, Integer, String, Text, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


def now() -> datetime:
    """This moment, in UTC."""
    return datetime.now(UTC)


class Base(DeclarativeBase):
    """All tables."""


class SessionRow(Base):
    """A review session: what is judged, by what design."""

    __tablename__ = "sessions"

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    title: Mapped[str] = mapped_column(String(200))
    dataset: Mapped[str] = mapped_column(String(200))
    atlas: Mapped[str] = mapped_column(String(64))
    """Fingerprint of the atlas that the panels were made from."""
    design: Mapped[dict[str, Any]] = mapped_column(JSON)
    created: Mapped[datetime] = mapped_column(DateTime(timezone=True), default=now)
    created_by: Mapped[str] = mapped_column(String(64))


class PanelRow(Base):
    """A panel: cells with maps, and (never shown to raters) what they are."""

    __tablename__ = "panels"
    __table_args__: Any = (UniqueConstraint("session_id", "key"),)

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    session_id: Mapped[int] = mapped_column(ForeignKey("sessions.id"), index=True)
    key: Mapped[str] = mapped_column(String(32))
    """Random name by which pages refer to it: nothing can be read from it."""
    kind: Mapped[str] = mapped_column(String(16))
    unit: Mapped[int] = mapped_column(Integer)
    stratum: Mapped[str] = mapped_column(String(200), default="")
    repeat_of: Mapped[int | None] = mapped_column(ForeignKey("panels.id"), default=None)
    content: Mapped[dict[str, Any]] = mapped_column(JSON)


class RaterRow(Base):
    """A rater of a session, with an order of panels of her own."""

    __tablename__ = "raters"
    __table_args__: Any = (UniqueConstraint("session_id", "name"),)

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    session_id: Mapped[int] = mapped_column(ForeignKey("sessions.id"), index=True)
    name: Mapped[str] = mapped_column(String(64))
    order: Mapped[list[str]] = mapped_column("panel_order", JSON)


class AnswerRow(Base):
    """A rater's answer to a panel; ``version`` counts its changes."""

    __tablename__ = "answers"
    __table_args__: Any = (
        UniqueConstraint("rater_id", "panel_id"),
        CheckConstraint("state IN ('draft', 'submitted')", name="state_is_known"),
    )

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    rater_id: Mapped[int] = mapped_column(ForeignKey("raters.id"), index=True)
    panel_id: Mapped[int] = mapped_column(ForeignKey("panels.id"), index=True)
    version: Mapped[int] = mapped_column(Integer)
    state: Mapped[str] = mapped_column(String(16))
    content: Mapped[dict[str, Any]] = mapped_column(JSON)
    seconds: Mapped[float] = mapped_column(Float, default=0.0)
    changed: Mapped[datetime] = mapped_column(DateTime(timezone=True), default=now)


class DecisionRow(Base):
    """What was decided of a latent after its answers were read; accepted ones name it."""

    __tablename__ = "decisions"
    __table_args__: Any = (UniqueConstraint("session_id", "latent"),)

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    session_id: Mapped[int] = mapped_column(ForeignKey("sessions.id"), index=True)
    latent: Mapped[int] = mapped_column(Integer)
    version: Mapped[int] = mapped_column(Integer)
    accepted: Mapped[bool] = mapped_column()
    name: Mapped[str] = mapped_column(String(200))
    terms: Mapped[list[str]] = mapped_column(JSON)
    comment: Mapped[str] = mapped_column(Text, default="")
    decided_by: Mapped[str] = mapped_column(String(64))
    changed: Mapped[datetime] = mapped_column(DateTime(timezone=True), default=now)


class KeptListRow(Base):
    """A list of concepts or cells that somebody keeps, and how it was made."""

    __tablename__ = "kept_lists"
    __table_args__: Any = (CheckConstraint("kind IN ('concepts', 'cells')", name="kind_is_known"),)

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    title: Mapped[str] = mapped_column(String(200))
    kind: Mapped[str] = mapped_column(String(16))
    dataset: Mapped[str] = mapped_column(String(200))
    atlas: Mapped[str] = mapped_column(String(64))
    """Fingerprint of the atlas whose numbers and cells these are."""
    made_from: Mapped[str] = mapped_column(Text)
    items: Mapped[list[str]] = mapped_column(JSON)
    created: Mapped[datetime] = mapped_column(DateTime(timezone=True), default=now)
    created_by: Mapped[str] = mapped_column(String(64))


class CommentRow(Base):
    """What somebody said of a concept."""

    __tablename__ = "comments"

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    dataset: Mapped[str] = mapped_column(String(200))
    latent: Mapped[int] = mapped_column(Integer, index=True)
    text: Mapped[str] = mapped_column(Text)
    at: Mapped[datetime] = mapped_column(DateTime(timezone=True), default=now)
    said_by: Mapped[str] = mapped_column(String(64))


class AuditRow(Base):
    """One thing that was done. Rows are only ever added: the database refuses to change or delete one."""

    __tablename__ = "audit"

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    at: Mapped[datetime] = mapped_column(DateTime(timezone=True), default=now)
    who: Mapped[str] = mapped_column(String(64))
    what: Mapped[str] = mapped_column(String(32))
    session_id: Mapped[int | None] = mapped_column(Integer, index=True, default=None)
    content: Mapped[dict[str, Any]] = mapped_column(JSON)

"""The database of the reviews: SQLite in the study, or PostgreSQL for several sites; what is acknowledged is kept."""

from __future__ import annotations

import os
import sqlite3
import threading
import weakref
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from importlib.resources import files
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.orm import Session

from cytosae.common.errors import ArtifactError, UsageError
from cytosae.common.unfinished import written_whole
from cytosae.reviews.review_tables import AuditRow

WAIT_SECONDS = 30.0
"""How long a write waits for another one before it is refused."""
ONE_AT_A_TIME = 0x6379746F
"""Number of the PostgreSQL lock under which servers that start together migrate one after the other."""


def reviews_url(study: Path) -> str:
    """URL of a study's own database of reviews."""
    return f"sqlite:///{study.resolve() / 'reviews.sqlite'}"


class Database:
    """An opened database of reviews, its tables made or migrated.

    A transaction that has been left without an error is on disk: SQLite runs in WAL mode with ``synchronous=FULL``,
    PostgreSQL with its own default.

    Parameters
    ----------
    url : str
        SQLAlchemy URL, such as ``sqlite:////data/reviews.sqlite`` or ``postgresql+psycopg://host/reviews``.

    Raises
    ------
    UsageError
        The URL is none, or of a database that is not supported.
    ArtifactError
        The database cannot be opened, or is of a newer version.
    """

    engine: sa.Engine

    def __init__(self, url: str) -> None:
        try:
            made = sa.make_url(url)
            if made.drivername == "postgresql":
                made = made.set(drivername="postgresql+psycopg")
            if made.get_backend_name() not in ("sqlite", "postgresql"):
                raise UsageError(f"{made.get_backend_name()} is not supported for reviews; use SQLite or PostgreSQL.")
            self.engine = _engine(made)
        except (ArgumentError, NoSuchModuleError) as problem:
            raise UsageError(
                "The URL of the reviews is not understood; give sqlite:///FILE or postgresql://."
            ) from problem
        except ModuleNotFoundError as problem:
            raise UsageError(
                f"{problem.name} is missing; install it with: pip install 'cytosae[postgres]'."
            ) from problem
        weakref.finalize(self, self.engine.dispose)  # an explorer that nobody closes leaves no connection open
        # SQLite has one writer: threads that wait here wait in turn, where its own waiting is by chance
        self._turn = threading.Lock() if made.get_backend_name() == "sqlite" else nullcontext()
        self._told = made.render_as_string(hide_password=True)
        self._migrate()

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A session that only reads."""
        with Session(self.engine.execution_options(only_reads=True)) as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """A transaction: committed, and on disk, when it is left; undone by an error."""
        with self._turn, Session(self.engine, expire_on_commit=False) as session, session.begin():
            yield session

    def backup(self, target: Path) -> Path:
        """Copy an SQLite database while it is used; the copy is of one moment, and appears whole.

        Raises
        ------
        UsageError
            The database is PostgreSQL, which has ``pg_dump``.
        """
        file = self.engine.url.database
        if self.engine.dialect.name != "sqlite" or not file:
            raise UsageError("Back up PostgreSQL with pg_dump, which works while it is used.")
        with written_whole(target) as unfinished:
            with closing(sqlite3.connect(file)) as source, closing(sqlite3.connect(unfinished)) as copy:
                source.backup(copy)
            with unfinished.open("rb+") as written:
                os.fsync(written.fileno())
        return target

    def close(self) -> None:
        """Give the connections back."""
        self.engine.dispose()

    def _migrate(self) -> None:
        from alembic import command  # half a second that a server without reviews need not wait for
        from alembic.config import Config
        from alembic.util.exc import CommandError

        config = Config()
        config.set_main_option("script_location", str(files("cytosae.reviews") / "migrations").replace("%", "%%"))
        try:
            with self.engine.begin() as connection:
                if self.engine.dialect.name == "postgresql":
                    connection.execute(sa.text("SELECT pg_advisory_xact_lock(:n)"), {"n": ONE_AT_A_TIME})
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
        except CommandError as problem:
            raise ArtifactError(
                f"{self._told} was written by a newer cytosae ({problem}); install that version."
            ) from problem
        except SQLAlchemyError as problem:
            reason = str(getattr(problem, "orig", problem)).strip().splitlines()[0]
            raise ArtifactError(f"{self._told} cannot be opened ({reason}); see that it can be reached.") from problem


def write_audit(session: Session, who: str, what: str, of: int | None, content: dict[str, Any]) -> None:
    """Add a line to the audit log, in the transaction of what it tells."""
    session.add(AuditRow(who=who, what=what, session_id=of, content=content))


def _engine(url: sa.URL) -> sa.Engine:
    if url.get_backend_name() != "sqlite":
        return sa.create_engine(url, pool_size=10, max_overflow=30, pool_pre_ping=True)
    engine = sa.create_engine(
        url, pool_size=10, max_overflow=40, connect_args={"timeout": WAIT_SECONDS, "check_same_thread": False}
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, record: Any) -> None:
        connection.isolation_level = None  # the driver would begin transactions by itself, and late
        cursor = connection.cursor()
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        # a read that turned into a write would fail at once instead of waiting
        only_reads = connection.get_execution_options().get("only_reads")
        connection.exec_driver_sql("BEGIN" if only_reads else "BEGIN IMMEDIATE")

    return engine

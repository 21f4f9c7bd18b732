"""Lists of concepts or cells that somebody keeps, with how they were made."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from sqlalchemy import select

from cytosae.common.artifact import package_version
from cytosae.common.errors import InputError, UsageError
from cytosae.common.names import spreadsheet_text
from cytosae.reviews.database import Database, write_audit
from cytosae.reviews.review_tables import KeptListRow

Kind = Literal["concepts", "cells"]
MOST = 50_000
"""Things on a list."""
BY_HAND = "by hand"
"""How a list was made that is put together one by one."""


@dataclass(frozen=True)
class ListOrigin:
    """What a list is of: data set, fingerprint of its atlas, and the address (path and query) or `BY_HAND`."""

    dataset: str
    atlas: str
    made_from: str = BY_HAND


@dataclass(frozen=True)
class KeptList:
    """A list; ``items`` are numbers of latents or ``cell_id``, ``created`` in UTC."""

    id: int
    title: str
    kind: Kind
    dataset: str
    atlas: str
    made_from: str
    created: str
    created_by: str
    items: tuple[str, ...]


def keep_list(
    database: Database, title: str, kind: Kind, items: Sequence[str | int], origin: ListOrigin, *, by: str = ""
) -> int:
    """Keep a list; its number. What is put together by hand goes to the list of that title, if there is one.

    Raises
    ------
    UsageError
        The title is empty, too long or not printable, or the list is empty or too long.
    """
    title, wanted = title.strip(), [str(item) for item in items]
    if not 1 <= len(title) <= 200 or not title.isprintable():
        raise UsageError("The name of a list has 1 to 200 printable characters.")
    if not wanted:
        raise UsageError("Nothing is on this list; ask for less.")
    with database.writing() as session:
        row = None
        if origin.made_from == BY_HAND:
            same = select(KeptListRow).where(
                KeptListRow.title == title,
                KeptListRow.kind == kind,
                KeptListRow.atlas == origin.atlas,
                KeptListRow.made_from == BY_HAND,
            )
            row = session.scalars(same.order_by(KeptListRow.id).limit(1).with_for_update()).first()
        known = [] if row is None else row.items
        together = list(dict.fromkeys([*known, *wanted]))
        if len(together) > MOST:
            raise UsageError(f"A list holds {MOST:,} things at most, and these are {len(together):,}; ask for less.")
        if row is None:
            row = KeptListRow(title=title, kind=kind, items=together, created_by=by, **asdict(origin))
            session.add(row)
        else:
            row.items = together
        session.flush()
        told = {"list": row.id, "title": title, "kind": kind, "added": len(together) - len(known)}
        write_audit(session, by, "list kept", None, {**told, "made_from": origin.made_from})
        return row.id


def read_lists(database: Database) -> list[KeptList]:
    """All lists, the newest first."""
    with database.reading() as session:
        return [_of(row) for row in session.scalars(select(KeptListRow).order_by(KeptListRow.id.desc()))]


def read_list(database: Database, number: int) -> KeptList:
    """One list.

    Raises
    ------
    InputError
        There is none of this number.
    """
    with database.reading() as session:
        row = session.get(KeptListRow, number)
        if row is None:
            raise InputError(f"There is no list {number}.")
        return _of(row)


def drop_list(database: Database, number: int, *, by: str = "") -> None:
    """Give a list up; the audit log keeps what it was."""
    with database.writing() as session:
        row = session.get(KeptListRow, number)
        if row is None:
            raise InputError(f"There is no list {number}.")
        told = {"list": number, "title": row.title, "kind": row.kind, "items": row.items, "made_from": row.made_from}
        write_audit(session, by, "list dropped", None, told)
        session.delete(row)


def list_csv(kept: KeptList) -> str:
    """A line each; how the list was made stands in every line, so that a part of the file still tells."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    named = ("title", "dataset", "atlas", "made_from", "created", "created_by")
    writer.writerow(["latent" if kept.kind == "concepts" else "cell_id", "list", *named[1:]])
    rest = [spreadsheet_text(getattr(kept, name)) for name in named]
    writer.writerows([item, *rest] for item in kept.items)
    return buffer.getvalue()


def list_json(kept: KeptList) -> str:
    """The list with how it was made."""
    items = [int(item) for item in kept.items] if kept.kind == "concepts" else list(kept.items)
    return json.dumps({**asdict(kept), "items": items, "cytosae": package_version()}, indent=1, ensure_ascii=False)


def _of(row: KeptListRow) -> KeptList:
    kind: Kind = "cells" if row.kind == "cells" else "concepts"
    created = row.created.isoformat(timespec="seconds")
    return KeptList(
        *(row.id, row.title, kind, row.dataset, row.atlas, row.made_from),
        created=created,
        created_by=row.created_by,
        items=tuple(row.items),
    )

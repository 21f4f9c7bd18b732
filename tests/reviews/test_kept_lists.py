"""Lists and comments are kept on both databases, and a database of the first version gets their tables."""

from __future__ import annotations

import threading
from importlib.resources import files

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from sqlalchemy import select

from cytosae.common.errors import InputError, UsageError
from cytosae.reviews import Database
from cytosae.reviews.comments import add_comment, comments_on
from cytosae.reviews.kept_lists import ListOrigin, drop_list, keep_list, read_list, read_lists
from cytosae.reviews.review_tables import AuditRow

ORIGIN = ListOrigin("smear", "f" * 64, "/concepts?sort=rarity")
BY_HAND = ListOrigin("smear", "f" * 64)


def test_a_list_comes_back_as_it_was_kept_and_its_end_is_told(database):
    number = keep_list(database, " Vacuoles ", "concepts", [5, 3, 5], ORIGIN, by="Ada")
    kept = read_list(database, number)
    assert (kept.title, kept.kind, kept.items, kept.created_by) == ("Vacuoles", "concepts", ("5", "3"), "Ada")
    assert (kept.dataset, kept.atlas, kept.made_from) == ("smear", "f" * 64, "/concepts?sort=rarity")
    assert keep_list(database, "Vacuoles", "concepts", [9], ORIGIN) != number
    drop_list(database, number, by="Bob")
    with pytest.raises(InputError, match="no list"):
        read_list(database, number)
    with database.reading() as session:
        told = [(line.who, line.what) for line in session.scalars(select(AuditRow).order_by(AuditRow.id))]
    assert told == [("Ada", "list kept"), ("", "list kept"), ("Bob", "list dropped")]


def test_what_two_people_put_on_a_list_at_once_is_all_there(database):
    keep_list(database, "Ours", "concepts", [0], BY_HAND)
    workers = [
        threading.Thread(target=keep_list, args=(database, "Ours", "concepts", [i], BY_HAND)) for i in range(1, 9)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    (kept,) = read_lists(database)
    assert sorted(map(int, kept.items)) == list(range(9))


@pytest.mark.parametrize(
    ("title", "items"), [("", [1]), ("  ", [1]), ("a\nb", [1]), ("x" * 201, [1]), ("none", []), ("many", range(50_001))]
)
def test_a_list_that_says_nothing_is_refused(tmp_path, title, items):
    database = Database(f"sqlite:///{tmp_path / 'r.sqlite'}")
    with pytest.raises(UsageError):
        keep_list(database, title, "concepts", list(items), ORIGIN)
    assert read_lists(database) == []


def test_comments_are_told_in_order_and_of_their_concept_alone(database):
    for text in ("First.", "Second,\nof two lines."):
        add_comment(database, "smear", 7, text, by="Ada")
    add_comment(database, "other", 7, "Elsewhere.")
    add_comment(database, "smear", 8, "Of another.")
    found = comments_on(database, "smear", 7)
    assert [(comment.by, comment.text) for comment in found] == [("Ada", "First."), ("Ada", "Second,\nof two lines.")]


def test_a_database_of_the_first_version_gets_the_new_tables_and_keeps_what_it_has(url):
    config = Config()
    config.set_main_option("script_location", str(files("cytosae.reviews") / "migrations"))
    engine = sa.create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        connection.execute(
            sa.text("INSERT INTO audit (at, who, what, content) VALUES ('2026-01-01', 'Ada', 'answer', '{}')")
        )
    engine.dispose()
    opened = Database(url)
    assert keep_list(opened, "New", "cells", ["a"], ORIGIN) == 1
    with opened.reading() as session:
        assert [line.what for line in session.scalars(select(AuditRow).order_by(AuditRow.id))] == [
            "answer",
            "list kept",
        ]
    opened.close()

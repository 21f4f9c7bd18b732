"""Sessions, answers, results and decisions, on SQLite and PostgreSQL alike."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import select

from cytosae.common.errors import ArtifactError, ConflictError, InputError, UsageError
from cytosae.reviews import Database, accepted_names, results_of, reviews_url
from cytosae.reviews.answers import Answer, blind_panel, give_answer, list_sessions
from cytosae.reviews.decisions import Decision, decide, list_cases
from cytosae.reviews.review_export import claim_checklist, ratings_csv, ratings_json
from cytosae.reviews.review_tables import AuditRow, Base, PanelRow, RaterRow

from .conftest import make_session


def orders(database: Database) -> dict[str, list[str]]:
    with database.reading() as session:
        return {rater.name: rater.order for rater in session.scalars(select(RaterRow))}


def panels(database: Database) -> dict[str, PanelRow]:
    with database.reading() as session:
        return {panel.key: panel for panel in session.scalars(select(PanelRow))}


def answer_all(database: Database, number: int) -> None:
    """Ada and Bob see what is there; Cleo says yes to all, and no to what she has seen before."""
    known = panels(database)
    for rater, order in orders(database).items():
        for key in order:
            panel = known[key]
            verdict = "yes" if panel.kind == "learned" else "partly" if panel.unit == 0 else "no"
            if rater == "Cleo":
                verdict = "no" if panel.repeat_of else "yes"
            terms = ("vacuoles",) if rater != "Bob" else ("vacuoles", "auer_rods")
            give_answer(database, number, rater, key, Answer(verdict, terms), version=0, submitted=True, seconds=9)


def test_migrations_make_the_tables_that_the_program_uses(database):
    with database.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []


def test_every_rater_has_an_own_order_and_repeats_lie_far_from_their_first(database):
    make_session(database, 20)
    found, known = orders(database), panels(database)
    assert len({tuple(order) for order in found.values()}) == 3
    keys = {panel.id: panel.key for panel in known.values()}
    for order in found.values():
        assert sorted(order) == sorted(known)
        apart = [abs(order.index(k) - order.index(keys[p.repeat_of])) for k, p in known.items() if p.repeat_of]
        assert len(apart) == 4
        assert min(apart) >= len(order) // 4


def test_a_panel_says_nothing_of_what_it_is(database):
    number = make_session(database)
    seen = set()
    for key in orders(database)["Ada"]:
        shown = vars(blind_panel(database, number, "Ada", key)) | {"key": "", "number": 0, "previous": "", "next": ""}
        seen.add(json.dumps(shown, default=vars))
    assert len(seen) == 1


def test_an_answer_in_two_windows_is_not_overwritten(database):
    number = make_session(database)
    key = orders(database)["Ada"][0]
    yes, no = Answer("yes", words="first"), Answer("no")
    assert give_answer(database, number, "Ada", key, yes, version=0, submitted=False) == 1
    for stale in (0, 7):
        with pytest.raises(ConflictError):
            give_answer(database, number, "Ada", key, no, version=stale, submitted=True)
    assert blind_panel(database, number, "Ada", key).answer == yes
    assert blind_panel(database, number, "Bob", key).answer == Answer()  # sees nothing of it
    assert give_answer(database, number, "Ada", key, no, version=1, submitted=True) == 2
    assert blind_panel(database, number, "Ada", key).state == "submitted"


@pytest.mark.parametrize(
    "answer",
    [
        Answer("perhaps"),
        Answer(""),
        Answer("yes", place="elsewhere"),
        Answer("yes", confidence=6),
        Answer("yes", misfits=(3,)),
        Answer("yes", words="x" * 2001),
        Answer("yes", ("large_cell", "small_cell")),
    ],
)
def test_an_answer_that_the_form_does_not_offer_is_refused(tmp_path, answer):
    database = Database(f"sqlite:///{tmp_path / 'r.sqlite'}")
    number = make_session(database)
    with pytest.raises(UsageError):
        give_answer(database, number, "Ada", orders(database)["Ada"][0], answer, version=0, submitted=True)
    with pytest.raises(InputError):
        give_answer(database, number, "Eve", orders(database)["Ada"][0], Answer("yes"), version=0, submitted=True)
    database.close()


def test_the_audit_log_only_grows(database):
    number = make_session(database)
    give_answer(database, number, "Ada", orders(database)["Ada"][0], Answer("yes"), version=0, submitted=True)
    for statement in ("UPDATE audit SET who = 'x'", "DELETE FROM audit"):
        with pytest.raises(sa.exc.SQLAlchemyError, match="append-only"), database.writing() as session:
            session.execute(sa.text(statement))
    with database.reading() as session:
        assert [line.what for line in session.scalars(select(AuditRow).order_by(AuditRow.id))] == [
            "session made",
            "answer",
        ]


def test_results_tell_latents_from_controls_and_flag_the_careless(database):
    number = make_session(database)
    answer_all(database, number)
    found = results_of(database, number, repeats=200)
    flagged = {rater.name: rater.flags for rater in found.raters}
    assert flagged["Ada"] == flagged["Bob"] == ()
    assert len(flagged["Cleo"]) == 2
    assert found.careful.alpha.value == 1.0
    assert found.agreement.alpha.value < 0.5
    assert found.careful.terms.value == 0.5  # {vacuoles} and {vacuoles, Auer rods}
    assert found.learned == 1.0
    for control in found.controls:  # by hand: one panel (2 + 2 + 3) / 9, three (0 + 0 + 3) / 9
        assert control.grade == pytest.approx((7 / 9 + 3 * 3 / 9) / 4)
        assert control.difference.low > 0


def test_ratings_are_exported_whole(database):
    number = make_session(database)
    key = orders(database)["Ada"][0]
    said = Answer("yes", ("vacuoles",), '=cmd()|"x",\n', "nucleus", 4, (2, 0))
    give_answer(database, number, "Ada", key, said, version=0, submitted=True, seconds=3)
    [row] = csv.DictReader(io.StringIO(ratings_csv(database, number)))
    assert (row["rater"], row["panel"], row["verdict"], row["misfits"]) == ("Ada", key, "yes", "1;3")
    assert row["words"].startswith("'=")  # no formula for a spreadsheet
    told = json.loads(ratings_json(database, number))
    assert told["ratings"][0]["answer"]["words"] == '=cmd()|"x",'
    assert [line["what"] for line in told["audit"]] == ["session made", "answer"]
    assert "Krippendorff's alpha" in claim_checklist(database, number)


def test_accepted_names_are_read_and_two_coordinators_do_not_overwrite_each_other(tmp_path):
    database = Database(reviews_url(tmp_path))
    number = make_session(database)
    answer_all(database, number)
    assert list_cases(database, number)[0].disagree
    assert decide(database, number, 3, Decision(True, "Auer rods", ("auer_rods",)), by="c") == 1
    with pytest.raises(ConflictError):
        decide(database, number, 3, Decision(False, ""), by="d")
    decide(database, number, 4, Decision(False, "nothing"))
    with pytest.raises(InputError):
        decide(database, number, 99, Decision(True, "x"))
    [found] = accepted_names(tmp_path).values()
    assert (found.latent, found.name, found.raters) == (3, "Auer rods", 3)
    decide(database, number, 3, Decision(False, ""), version=1)
    assert accepted_names(tmp_path) == {}
    assert accepted_names(tmp_path / "nowhere") == {}
    database.close()


def test_a_backup_is_whole_while_answers_come_in(tmp_path):
    database = Database(f"sqlite:///{tmp_path / 'r.sqlite'}")
    number = make_session(database)
    with database.writing() as session:
        session.add(AuditRow(who="x", what="unfinished", content={}))
        session.flush()
        copy = database.backup(tmp_path / "copy.sqlite")
    answer_all(database, number)
    database.close()
    with sqlite3.connect(copy) as opened:
        assert opened.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert opened.execute("SELECT what FROM audit").fetchall() == [("session made",)]
    opened.close()
    again = Database(f"sqlite:///{copy}")
    assert [session.id for session in list_sessions(again)] == [number]
    again.close()


@pytest.mark.parametrize("wrong", ["nonsense", "mysql://x/y", "sqlite:////nowhere/at/all.sqlite"])
def test_a_database_that_cannot_be_opened_is_refused_in_a_sentence(wrong):
    with pytest.raises((UsageError, ArtifactError), match="reviews|cannot be opened"):
        Database(wrong)


def test_a_newer_database_is_refused(tmp_path: Path):
    file = tmp_path / "r.sqlite"
    Database(f"sqlite:///{file}").close()
    with sqlite3.connect(file) as opened:
        opened.execute("UPDATE alembic_version SET version_num = '9999'")
    opened.close()
    with pytest.raises(ArtifactError, match="newer cytosae"):
        Database(f"sqlite:///{file}")

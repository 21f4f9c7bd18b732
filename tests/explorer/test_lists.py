"""Lists are kept with how they were made, comments with who said them; neither can be forged or carries markup."""

from __future__ import annotations

import csv
import io
import json
import shutil

import pytest
from fastapi.testclient import TestClient

from cytosae.explorer import ExplorerSettings, create_app
from cytosae.explorer.accounts import add_account

HERE = "http://127.0.0.1:8765"
OWN = {"origin": HERE}
EVIL = '<img src=x onerror="alert(1)">'


@pytest.fixture(scope="module")
def client(study_of_smear, tmp_path_factory, cache) -> TestClient:
    path = shutil.copytree(study_of_smear, tmp_path_factory.mktemp("lists") / "study")
    return TestClient(create_app(ExplorerSettings(study=path)), base_url=HERE)


def test_to_look_makes_no_database(client):
    for path in ("/lists", "/concepts/5", "/api/lists", "/concepts"):
        assert client.get(path).status_code == 200
    assert client.get("/lists/1").status_code == 404
    assert not (client.app.state.settings.study / "reviews.sqlite").exists()


def test_what_the_gallery_shows_is_kept_in_its_order_and_exported_with_its_address(client):
    query = "sort=rarity&low_frequency=0.1&high_frequency="
    shown = client.get(f"/api/concepts?{query}&size=120").json()
    answer = client.post(f"/concepts/keep?{query}", data={"title": "Rare ones"}, headers=OWN)
    assert answer.status_code == 200
    assert "Rare ones" in answer.text
    kept = client.get(answer.url.path.replace("/lists", "/api/lists")).json()["kept"]
    assert len(kept["items"]) == shown["total"]
    assert [int(item) for item in kept["items"]][:120] == [card["latent"] for card in shown["cards"]]
    assert kept["made_from"] == f"/concepts?{query}"
    told = json.loads(client.get(f"{answer.url.path}/export/list.json").text)
    assert told["items"] == [int(item) for item in kept["items"]]
    assert len(told["atlas"]) == 64
    rows = list(csv.DictReader(io.StringIO(client.get(f"{answer.url.path}/export/list.csv").text)))
    assert [row["latent"] for row in rows] == kept["items"]
    assert {row["made_from"] for row in rows} == {f"/concepts?{query}"}
    assert client.get(kept["made_from"]).status_code == 200


def test_cells_that_a_search_finds_are_kept_whole(client):
    found = client.get("/api/search?q=has 5").json()
    answer = client.post("/search/keep?q=has%205", data={"title": "With 5"}, headers=OWN)
    kept = client.get(answer.url.path.replace("/lists", "/api/lists")).json()
    assert kept["kept"]["kind"] == "cells"
    assert len(kept["kept"]["items"]) == found["total"]
    assert kept["kept"]["items"][:5] == [cell["cell"] for cell in found["cells"][:5]]


def test_concepts_are_put_on_a_list_one_by_one(client):
    first = client.post("/concepts/7/keep", data={"title": "Mine"}, headers=OWN).url.path
    assert client.post("/concepts/3/keep", data={"title": "Mine"}, headers=OWN).url.path == first
    client.post("/concepts/7/keep", data={"title": "Mine"}, headers=OWN)
    kept = client.get(f"/api{first}").json()["kept"]
    assert (kept["items"], kept["made_from"]) == (["7", "3"], "by hand")
    assert client.post(f"{first}/drop", headers=OWN).url.path == "/lists"
    assert client.get(first).status_code == 404


def test_cells_are_put_on_a_list_one_by_one(client):
    cells = [found["cell"] for found in client.get("/api/search?q=has 5").json()["cells"][:2]]
    lists = {client.post(f"/cells/{c}/keep", data={"title": "Mine"}, headers=OWN).url.path for c in [*cells, cells[0]]}
    (path,) = lists
    kept = client.get(f"/api{path}").json()["kept"]
    assert (kept["kind"], kept["items"], kept["made_from"]) == ("cells", cells, "by hand")
    assert "Put this cell on a list" in client.get(f"/cells/{cells[0]}").text


def test_names_and_comments_are_shown_as_they_are_written(client):
    client.post("/concepts/5/comments", data={"text": f"Auer rods? {EVIL}", "name": EVIL[:60]}, headers=OWN)
    path = client.post("/concepts/5/keep", data={"title": EVIL}, headers=OWN).url.path
    comment = client.get("/api/concepts/5").json()["comments"][-1]
    assert comment["text"] == f"Auer rods? {EVIL}"
    assert comment["at"].startswith("20")
    for page in ("/concepts/5", "/lists", path):
        text = client.get(page).text
        assert EVIL not in text
        assert "&lt;img src=x" in text


@pytest.mark.parametrize("said", ["", "   ", "x" * 2001, "bell \x07", "nul \x00"])
def test_a_comment_that_cannot_be_shown_is_refused(client, said):
    before = client.get("/api/concepts/9").json()["comments"]
    assert client.post("/concepts/9/comments", data={"text": said}, headers=OWN).status_code in (400, 422)
    assert client.get("/api/concepts/9").json()["comments"] == before


@pytest.mark.parametrize(
    "path",
    [
        "/concepts/keep",
        "/concepts/map/keep",
        "/search/keep?q=has 5",
        "/concepts/5/keep",
        "/cells/5/keep",
        "/concepts/5/comments",
    ],
)
def test_a_write_that_comes_from_elsewhere_is_refused(client, path):
    before = client.get("/api/lists").json()
    for headers in ({}, {"origin": "http://evil.example"}, {"origin": HERE, "sec-fetch-site": "cross-site"}):
        data = {"title": "x", "text": "x"}
        assert client.post(path, data=data, headers=headers).status_code == 403
    assert client.get("/api/lists").json() == before


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/concepts/keep?sort=beauty", 422),
        ("/concepts/keep?class=none", 400),
        ("/concepts/99999/keep", 404),
        ("/cells/99999/keep", 404),
        ("/concepts/99999/comments", 404),
        ("/search/keep?q=lymph", 400),
        ("/concepts/keep?x=" + "a" * 3000, 400),
    ],
)
def test_what_cannot_be_kept_is_a_sentence(client, path, status):
    answer = client.post(path, data={"title": "x", "text": "x"}, headers=OWN)
    assert answer.status_code == status
    assert len(answer.text) > 20


def test_with_accounts_what_is_written_bears_the_name_and_readers_do_not_write(study_of_smear, tmp_path, cache):
    file, path = tmp_path / "accounts.json", shutil.copytree(study_of_smear, tmp_path / "study")
    for name, role in (("anna", "rater"), ("rob", "reader"), ("ben", "rater")):
        add_account(file, name, "long enough a password", role)
    app = create_app(ExplorerSettings(study=path, accounts=file))

    def signed_in(name: str) -> TestClient:
        made = TestClient(app, base_url=HERE)
        made.post("/login", data={"name": name, "password": "long enough a password"}, headers=OWN)
        return made

    anna, rob, ben = map(signed_in, ("anna", "rob", "ben"))
    assert rob.post("/concepts/5/comments", data={"text": "hello"}, headers=OWN).status_code == 403
    assert rob.post("/concepts/keep", data={"title": "hello"}, headers=OWN).status_code == 403
    anna.post("/concepts/5/comments", data={"text": "hello", "name": "somebody else"}, headers=OWN)
    assert [c["by"] for c in rob.get("/api/concepts/5").json()["comments"]] == ["anna"]
    number = anna.post("/concepts/5/keep", data={"title": "hers"}, headers=OWN).url.path
    assert ben.post(f"{number}/drop", headers=OWN).status_code == 403
    assert anna.post(f"{number}/drop", headers=OWN).status_code == 200
    assert TestClient(app, base_url=HERE).get("/api/lists").status_code == 401


@pytest.mark.parametrize(
    "path",
    [
        "/lists/0",
        "/lists/99999999999999999999",
        "/lists/1'%20OR%201=1",
        "/lists/..%2f..%2fstudy.toml",
        "/lists/1/export/..%2f..%2f..%2fstudy.toml",
        "/lists/1/export/reviews.sqlite",
        "/concepts.csv?dataset=../../study",
        "/concepts.csv?class=%00&sort=number%27",
        "/concepts/map?dataset=..%2F..%2Fsae",
        "/concepts/map?by=../cells",
        "/concepts/5/evidence?dataset=..%2Fsae",
        "/concepts/-1/evidence",
        "/concepts/5%2F..%2F..%2Fsae/evidence",
    ],
)
def test_a_hostile_address_reaches_no_file_and_no_failure(client, path):
    answer = client.get(path)
    assert answer.status_code in (400, 404, 405, 422)
    assert not any(secret in answer.text for secret in ("[cohort]", "/tmp/", "Traceback", "SELECT", "SQLite format"))

"""Reviews in the browser: three raters, one of them careless, by keyboard alone; roles, forgeries, hostile input."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path

import pytest
import uvicorn
from fastapi.testclient import TestClient

from cytosae.explorer import ExplorerSettings, create_app
from cytosae.explorer.accounts import add_account
from cytosae.reviews import accepted_names

HERE = "http://127.0.0.1:8765"
OWN = {"origin": HERE, "sec-fetch-site": "same-origin"}
FORM = {"title": "Smear", "concepts": "4", "controls": "3", "repeats": "3"}


@pytest.fixture(scope="session")
def reviewed(study_of_smear: Path, cache: None, tmp_path_factory: pytest.TempPathFactory) -> TestClient:
    """The explorer of a copy of the study in which a session was made."""
    study = tmp_path_factory.mktemp("reviewed") / "study"
    shutil.copytree(study_of_smear, study)
    client = TestClient(create_app(ExplorerSettings(study=study)), base_url=HERE)
    made = client.post("/reviews", data=FORM | {"raters": "Ada\nBob\nCleo"}, headers=OWN, follow_redirects=False)
    assert made.status_code == 303, made.text
    return client


def first_panel(client: TestClient, rater: str = "Ada") -> str:
    said = client.get("/api/reviews").json()["sessions"][-1]["raters"]
    return next(r["next"] for r in said if r["rater"] == rater)


def test_the_panel_page_is_blind(reviewed):
    key = first_panel(reviewed)
    page = reviewed.get(f"/reviews/1/panels/{key}?rater=Ada").text
    cells = list(reviewed.app.state.library.atlas().atlas.obs_names)
    assert not any(cell in page for cell in cells)
    inside = page.partition("<main")[2].partition("<fieldset>")[0].casefold()
    labels = {str(label).casefold() for label in reviewed.app.state.library.atlas().labels.values()}
    assert not any(word in inside for word in (*labels, "learned", "neuron", "random", "latent", "activation", "bob"))
    sizes = {len(reviewed.get(f"/reviews/1/{kind}/{key}/0.webp").content) > 100 for kind in ("pictures", "maps")}
    assert sizes == {True}


def test_controls_light_up_about_as_much_as_latents(reviewed):
    import base64

    import numpy as np
    from sqlalchemy import select

    from cytosae.reviews.review_tables import PanelRow

    share: dict[str, list[float]] = {}
    strongest: dict[str, list[list[int]]] = {}
    with reviewed.app.state.reviewing.of(reviewed.app.state.library).reading() as session:
        for panel in session.scalars(select(PanelRow)):
            lit = [np.frombuffer(base64.b64decode(m), np.uint8) > 0 for m in panel.content["maps"]]
            share.setdefault(panel.kind, []).append(float(np.mean(lit)))
            strongest.setdefault(panel.kind, []).append([max(base64.b64decode(m)) for m in panel.content["maps"]])
    means = {kind: np.mean(of) for kind, of in share.items()}
    assert set(means) == {"learned", "neuron", "random", "cells"}
    assert means["neuron"] == pytest.approx(means["learned"], rel=0.5)
    for found in strongest["cells"]:  # maps of random cells fade from the first to the last as those of some latent do
        assert any(np.allclose(found, known, atol=1) for known in strongest["learned"])


@pytest.mark.slow
def test_three_raters_complete_a_session_by_keyboard(reviewed, tmp_path):
    sync_api = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("Debian's chromium is not installed")
    app = reviewed.app
    config = uvicorn.Config(app, port=0, log_level="error", lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        thread.join(0.05)
    here = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    asked, failed = [], []
    kinds = kinds_of(reviewed)
    try:
        with sync_api.sync_playwright() as play:
            browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            page = browser.new_page()
            page.on("request", lambda request: asked.append(request.url))
            page.on("console", lambda said: failed.append(said.text) if said.type == "error" else None)
            for rater in ("Ada", "Bob", "Cleo"):
                page.goto(f"{here}/reviews/1/next?rater={rater}")
                for n in range(1, len(kinds) + 1):
                    page.get_by_text(f"Panel {n} of").wait_for()
                    page.wait_for_load_state("domcontentloaded")  # its script listens from here on
                    kind, again = kinds[page.url.partition("/panels/")[2].partition("?")[0]]
                    careless = "5" if again else "1"
                    page.keyboard.press(careless if rater == "Cleo" else "1" if kind == "learned" else "4")
                    if rater != "Cleo" and n == 1:
                        for press in ("Shift+4", "n", "t", *"auer rods", "Enter", "Escape", "x", "Space"):
                            page.keyboard.press(press)
                        page.locator("#note", has_text="Draft kept").wait_for()
                        page.reload()
                    page.keyboard.press("Enter")
                page.get_by_role("heading", name="Make a session").wait_for()
            page.goto(f"{here}/reviews/1/results")
            shown = page.inner_text("main")
            browser.close()
    finally:
        server.should_exit = True
        thread.join(10)
    assert failed == []
    assert all(url.startswith(here) for url in asked)
    told = json.loads(reviewed.get("/reviews/1/export/session.json").text)
    assert len(told["ratings"]) == 3 * len(kinds)
    flags = {rater["name"]: rater["flags"] for rater in told["results"]["raters"]}
    assert flags["Ada"] == flags["Bob"] == []
    assert flags["Cleo"]
    assert told["results"]["careful"]["alpha"]["value"] == 1.0
    assert flags["Cleo"][0] in shown
    rich = [r["answer"] for r in told["ratings"] if r["answer"]["terms"]]
    assert [(r["terms"], r["place"], r["confidence"], r["misfits"]) for r in rich] == [
        (["auer_rods"], "nucleus", 4, [0])
    ] * 2
    assert reviewed.get("/reviews/1/export/ratings.csv").text.count("\n") == 3 * len(kinds) + 1


def kinds_of(client: TestClient) -> dict[str, tuple[str, bool]]:
    from sqlalchemy import select

    from cytosae.reviews.review_tables import PanelRow

    with client.app.state.reviewing.of(client.app.state.library).reading() as session:
        return {p.key: (p.kind, p.repeat_of is not None) for p in session.scalars(select(PanelRow))}


def test_an_accepted_name_is_read_everywhere_and_escaped(reviewed):
    latent = reviewed.get("/api/reviews/1/decisions").json()[0]["latent"]
    name = "<script>alert(1)</script> rods"
    said = {"version": "0", "accepted": "true", "name": name, "terms": "auer_rods"}
    assert reviewed.post(f"/reviews/1/decisions/{latent}", data=said, headers=OWN).status_code == 200
    page = reviewed.get(f"/concepts/{latent}").text
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt; rods" in page
    assert reviewed.get(f"/api/concepts/{latent}").json()["name"] == name
    assert accepted_names(reviewed.app.state.settings.study)[latent].name == name
    assert reviewed.post(f"/reviews/1/decisions/{latent}", data=said, headers=OWN).status_code == 409
    said |= {"version": "1", "accepted": "false"}
    assert reviewed.post(f"/reviews/1/decisions/{latent}", data=said, headers=OWN).status_code == 200
    assert name not in reviewed.get(f"/api/concepts/{latent}").json()["name"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("panels/KEY?rater=Ada&version=0", {"verdict": "<b>"}),
        ("panels/KEY?rater=Eve&version=0", {"verdict": "yes"}),
        ("panels/KEY?rater=Ada&version=-1", {"verdict": "yes"}),
        ("panels/KEY?rater=Ada&version=99999999999999999999", {"verdict": "yes"}),
        ("panels/KEY?rater=Ada&version=0&state=gone", {"verdict": "yes"}),
        ("panels/KEY?rater=Ada&version=0&seconds=nan", {"verdict": "yes"}),
        ("panels/KEY?rater=Ada&version=0", {"verdict": "yes", "misfits": [10**30]}),
        ("panels/KEY?rater=Ada&version=0", {"verdict": "yes", "terms": ["x' OR 1=1 --"]}),
        ("panels/KEY?rater=Ada&version=0", {"verdict": "yes", "words": "x" * 5000}),
        ("panels/KEY?rater=Ada&version=0", {"verdict": "yes", "words": "\0"}),
        ("panels/KEY?rater=Ada&version=0", ["no", "object"]),
        ("panels/KEY?rater=Ada%00&version=0", {"verdict": "yes"}),
        ("panels/..%2f..%2fx?rater=Ada&version=0", {"verdict": "yes"}),
        ("panels/' OR 1=1 --?rater=Ada&version=0", {"verdict": "yes"}),
        ("panels/KEY?rater=Ada&version=0", {"verdict": "yes", "confidence": -3}),
    ],
)
def test_a_hostile_answer_is_refused_and_changes_nothing(reviewed, path, body):
    key = kinds_of(reviewed).popitem()[0]
    before = reviewed.get("/reviews/1/export/ratings.csv").text
    for number in ("1", "0", "-1", "99999999999999999999"):
        at = f"/api/reviews/{number}/{path.replace('KEY', key)}"
        answer = reviewed.post(at, json=body, headers=OWN)
        assert answer.status_code in (400, 404, 422), answer.text
        assert not any(secret in answer.text for secret in ("sqlite", "Traceback", "/home/", "/tmp/", "SELECT"))
    assert reviewed.post(f"/api/reviews/1/{path.replace('KEY', key)}", json=body).status_code == 403
    assert reviewed.get("/reviews/1/export/ratings.csv").text == before


@pytest.mark.parametrize("field", ["concepts", "controls", "repeats", "seed"])
@pytest.mark.parametrize("value", ["-1", "1000000000000", "x"])
def test_a_session_that_cannot_be_is_refused(reviewed, field, value):
    answer = reviewed.post("/reviews", data=FORM | {"raters": "A", field: value}, headers=OWN)
    assert answer.status_code in (400, 422)


@pytest.mark.parametrize("raters", ["", "A\nA", "x" * 65, "\x1b[31m"])
def test_raters_have_names(reviewed, raters):
    assert reviewed.post("/reviews", data=FORM | {"raters": raters}, headers=OWN).status_code in (400, 422)


@pytest.fixture(scope="module")
def by_role(reviewed, tmp_path_factory) -> dict[str, TestClient]:
    """A signed-in client for each role, on the reviewed study."""
    file = tmp_path_factory.mktemp("roles") / "accounts.json"
    people = {"Ada": "rater", "Mallory": "rater", "Rose": "reader", "Cora": "coordinator"}
    for name, role in people.items():
        add_account(file, name, "long enough to be safe", role)
    app = create_app(ExplorerSettings(study=reviewed.app.state.settings.study, accounts=file))
    found = {}
    for name in people:
        found[name] = TestClient(app, base_url=HERE)
        said = {"name": name, "password": "long enough to be safe"}
        assert found[name].post("/login", data=said, headers=OWN).status_code == 200
    return found


def test_a_role_reaches_so_far_and_no_further(reviewed, by_role):
    key = first_panel(reviewed) or kinds_of(reviewed).popitem()[0]
    at, body = f"/api/reviews/1/panels/{key}", {"verdict": "yes"}
    for path in ("/reviews/1/results", "/api/reviews/1/decisions", "/reviews/1/export/ratings.csv"):
        assert {who: by_role[who].get(path).status_code for who in by_role} == {
            **dict.fromkeys(("Ada", "Mallory", "Rose"), 403),
            "Cora": 200,
        }
    for who in ("Mallory", "Rose"):  # names in the address do not make one Ada
        assert by_role[who].get(f"{at}?rater=Ada").status_code in (403, 404)
        assert by_role[who].post(f"{at}?rater=Ada&version=0", json=body, headers=OWN).status_code in (403, 404)
        assert by_role[who].post("/reviews", data=FORM | {"raters": who}, headers=OWN).status_code == 403
    assert by_role["Ada"].get(f"{at}?rater=Bob").json()["rater"] == "Ada"
    assert "Bob" not in by_role["Ada"].get("/reviews").text


@pytest.mark.slow
def test_no_path_of_the_schema_makes_the_server_fail(reviewed):
    import schemathesis
    from hypothesis import HealthCheck, Phase, given, settings

    schema = schemathesis.openapi.from_dict(reviewed.app.openapi())
    failed: list[str] = []
    few = settings(
        max_examples=3,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    for found in schema.get_all_operations():
        operation = found.ok()

        @few
        @given(case=operation.as_strategy())
        def ask(case) -> None:
            sent = case.as_transport_kwargs(base_url=HERE)
            sent.pop("cookies", None)
            headers = dict(sent.pop("headers", {}) or {}) | OWN
            client = TestClient(reviewed.app, base_url=HERE, raise_server_exceptions=False)
            answer = client.request(headers=headers, **sent)
            if answer.status_code >= 500:
                failed.append(f"{case.method} {sent['url']}: {answer.status_code}")

        ask()
    assert failed == []

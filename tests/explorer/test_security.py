"""Hostile requests: none gets through, and none makes the server fail."""

from __future__ import annotations

import io
import time
import zlib
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from cytosae.common.errors import UsageError
from cytosae.explorer import ExplorerSettings, create_app
from cytosae.explorer.accounts import COOKIE, Accounts, add_account

HERE = "http://127.0.0.1:8765"
OWN = {"origin": HERE, "sec-fetch-site": "same-origin"}
SECRETS = ("root:", "study.toml", "/home/", "/tmp/", "Traceback", "site-packages")


def no_secret(text: str) -> bool:
    return not any(secret in text for secret in SECRETS)


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py",
        "/static/..%2fapp.py",
        "/static/%2e%2e/%2e%2e/cli/__init__.py",
        "/static/....//....//etc/passwd",
        "/static/%00",
        "/static//etc/passwd",
        "/pictures/../../../../etc/passwd.webp",
        "/pictures/%2e%2e%2f%2e%2e%2fetc%2fpasswd.webp",
        "/pictures/..%5c..%5cwindows.webp",
        "/pictures/accounts.json.webp",
        "/cells/..%2f..%2faccounts.json",
        "/cells/%2fetc%2fpasswd",
        "/cells/" + "a" * 5000,
        "/cells/%00",
        "/maps/..%2f..%2fetc/1.webp",
        "/patches/..%2fx/1/1.webp",
        "/concepts/..%2f..%2faccounts.json",
        "/concepts?dataset=../../etc/passwd",
        "/concepts?dataset=%00",
        "/api/cells/..%2f..%2faccounts.json",
        "/concepts/1?dataset=..%2F..%2Fsae",
    ],
)
def test_no_path_of_the_file_system_is_reached(explorer, path):
    answer = explorer.get(path)
    assert answer.status_code in (400, 404, 405, 422)
    assert no_secret(answer.text)


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8765", "127.0.0.1.evil.example", "127.0.0.1@evil.example", "", "0.0.0.0:8765"],
)
@pytest.mark.parametrize("path", ["/", "/api/concepts", "/static/explorer.css"])
def test_another_name_of_the_host_is_refused(explorer, host, path):
    assert explorer.get(path, headers={"host": host}).status_code == 421


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8765", 200),
        ("localhost:8765", 200),
        ("Lab.Example", 200),
        ("evil.example", 421),
        ("0.0.0.0:8765", 421),
    ],
)
def test_at_every_address_it_answers_to_its_own_names_and_those_it_is_told(study_of_smear, tmp_path, host, status):
    accounts = tmp_path / "accounts.json"
    add_account(accounts, "anna", "a long enough password", "reader")
    settings = ExplorerSettings(
        study=study_of_smear,
        host="0.0.0.0",
        answer_to=("lab.EXAMPLE",),
        accounts=accounts,
    )
    with TestClient(create_app(settings)) as client:
        assert client.get("/health", headers={"host": host}).status_code == status


@pytest.mark.parametrize("host", ["127.0.0.1:8765", "localhost:8765", "[::1]:8765", "LOCALHOST"])
def test_own_names_are_answered(explorer, host):
    assert explorer.get("/health", headers={"host": host}).text == "ok"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9999"},
        {"origin": "http://127.0.0.1:8765.evil.example"},
        {"origin": "http://evil.example", "sec-fetch-site": "same-origin"},
        {"origin": HERE, "sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"origin": "file://"},
        {"origin": "javascript:alert(1)"},
    ],
)
def test_a_write_from_elsewhere_is_refused(explorer, headers):
    files = {"image": ("x.png", b"", "image/png")}
    for path in ("/try", "/api/try"):
        assert explorer.post(path, files=files, headers=headers).status_code == 403


def png(size: tuple[int, int]) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, (200, 120, 160)).save(buffer, "PNG")
    return buffer.getvalue()


def bomb() -> bytes:
    """A PNG of a few kilobytes that claims 100,000 x 100,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    header = (100_000).to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 4096))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"GIF89a<script>alert(1)</script>",
        b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>",
        b"%PDF-1.4 fake",
        b"PK\x03\x04" + b"\0" * 100,
        b"\xff\xd8\xff\xe0" + b"\0" * 100,
        b"\x89PNG\r\n\x1a\n" + b"\0" * 64,
        b"II*\x00" + b"\xff" * 64,
        b"RIFF\xff\xff\xff\xffWEBPVP8 ",
        bomb(),
        b"import os; os.system('id')",
        b"\x80\x04\x95cposix\nsystem\n",
    ],
    ids=lambda data: repr(data[:12]),
)
def test_what_is_no_whole_image_is_refused_in_a_sentence(explorer, data):
    answer = explorer.post("/api/try", files={"image": ("<img src=x onerror=alert(1)>.png", data)}, headers=OWN)
    assert answer.status_code == 400
    assert answer.json()["detail"].endswith(".")
    assert no_secret(answer.text)
    page = explorer.post("/try", files={"image": ("<img src=x onerror=alert(1)>.png", data)}, headers=OWN)
    assert page.status_code == 400
    assert "<img src=x" not in page.text


def test_a_picture_with_a_script_behind_it_is_taken_for_the_picture(explorer):
    polyglot = png((40, 40)) + b"<script>alert(document.domain)</script>"
    answer = explorer.post("/try", files={"image": ("a<script>b.png", polyglot, "text/html")}, headers=OWN)
    assert answer.status_code == 200
    assert "<script>alert" not in answer.text
    assert "a&lt;script&gt;b.png" in answer.text


def test_too_large_a_request_is_refused_before_it_is_read(study_of_smear):
    small = TestClient(create_app(ExplorerSettings(study=study_of_smear, upload_bytes=1000)), base_url=HERE)
    data = b"x" * (2 << 20)
    assert small.post("/api/try", files={"image": ("x.png", data)}, headers=OWN).status_code == 413
    pieces = (b"x" * 65536 for _ in range(64))  # no length is announced
    headers = {**OWN, "content-type": "multipart/form-data; boundary=x"}
    assert small.post("/api/try", content=pieces, headers=headers).status_code == 413
    assert (
        small.post("/api/try", files={"image": ("x.png", png((64, 64)) + b"x" * 2000)}, headers=OWN).status_code == 400
    )
    assert small.post("/api/concepts", headers={**OWN, "content-length": "-5"}).status_code == 413


def test_too_many_pixels_are_refused(study_of_smear):
    small = TestClient(create_app(ExplorerSettings(study=study_of_smear, upload_pixels=1000)), base_url=HERE)
    answer = small.post("/api/try", files={"image": ("x.png", png((64, 64)))}, headers=OWN)
    assert (answer.status_code, "too many pixels" in answer.text) == (400, True)


@pytest.mark.parametrize("text", ["<script>alert(1)</script>", "'\"><img src=x onerror=alert(1)>", "{{ 7 * 7 }}"])
@pytest.mark.parametrize("path", ["/concepts?q={}", "/concepts?class={}", "/concepts?dataset={}", "/nothing/{}"])
def test_what_an_address_says_is_never_run(explorer, path, text):
    page = explorer.get(path.format(text))
    assert "<script>alert" not in page.text
    assert "<img src=x" not in page.text
    assert page.status_code < 500


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "TRACE", "OPTIONS"])
def test_other_methods_do_nothing(explorer, method):
    assert explorer.request(method, "/concepts", headers=OWN).status_code in (404, 405)


def test_a_browser_is_told_to_run_nothing_but_our_script(explorer):
    page = explorer.get("/concepts")
    policy = page.headers["content-security-policy"]
    nonce = policy.partition("'nonce-")[2].partition("'")[0]
    assert page.text.count(f'nonce="{nonce}"') == page.text.count("<script") == 1
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
    assert explorer.get("/concepts").headers["content-security-policy"] != policy
    assert " style=" not in page.text
    assert page.headers["x-content-type-options"] == "nosniff"
    assert page.headers["cache-control"] == "no-store"


@pytest.fixture(scope="module")
def guarded(study_of_smear: Path, tmp_path_factory: pytest.TempPathFactory) -> TestClient:
    """An explorer with accounts."""
    file = tmp_path_factory.mktemp("accounts") / "accounts.json"
    add_account(file, "anna", "correct horse battery", "rater")
    settings = ExplorerSettings(study=study_of_smear, accounts=file)
    return TestClient(create_app(settings), base_url=HERE, follow_redirects=False)


@pytest.mark.parametrize(
    "cookie", ["", "x", "a" * 5000, "../../etc", "' OR 1=1 --", "eyJhbGciOiJub25lIn0.eyJuYW1lIjoiYW5uYSJ9."]
)
def test_without_a_session_nothing_is_shown(guarded, cookie):
    headers = {"cookie": f"{COOKIE}={cookie}"} if cookie else {}
    for path in ("/", "/concepts", "/pictures/x.webp", "/openapi.json"):
        assert guarded.get(path, headers=headers).status_code == 303
    for path in ("/api/", "/api/concepts", "/api/cells/x"):
        assert guarded.get(path, headers=headers).status_code == 401
    assert guarded.post("/try", headers={**headers, **OWN}).status_code == 401


def test_who_has_not_signed_in_learns_nothing_of_the_study(guarded, study_of_smear):
    page = guarded.get("/login")
    assert page.status_code == 200
    assert "/concepts" not in page.text


def test_a_session_begins_under_a_new_token_and_ends(guarded):
    form = {"name": "anna", "password": "correct horse battery"}
    planted = {COOKIE: "planted-by-somebody-else"}
    answer = guarded.post("/login", data=form, headers={**OWN, "cookie": f"{COOKIE}=planted-by-somebody-else"})
    token = answer.cookies[COOKIE]
    assert token not in planted.values()
    said = answer.headers["set-cookie"].lower()
    assert "httponly" in said
    assert "samesite=strict" in said
    own = {"cookie": f"{COOKIE}={token}"}
    guarded.cookies.clear()
    assert guarded.get("/concepts", headers=own).status_code == 200
    assert "anna" in guarded.get("/", headers=own).text
    assert guarded.post("/logout", headers={**own, **OWN}).status_code == 303
    guarded.cookies.clear()
    assert guarded.get("/concepts", headers=own).status_code == 303


def test_guessing_is_slowed_down_and_names_are_not_told(guarded, tmp_path):
    answers = [guarded.post("/login", data={"name": n, "password": "wrong"}, headers=OWN) for n in ("anna", "nobody")]
    assert answers[0].status_code == answers[1].status_code == 401
    body = [answer.text.partition("<main")[2] for answer in answers]
    assert body[0] == body[1]
    for _ in range(5):
        guarded.post("/login", data={"name": "guessed", "password": "wrong"}, headers=OWN)
    assert guarded.post("/login", data={"name": "guessed", "password": "wrong"}, headers=OWN).status_code == 429


def test_a_session_ends_by_itself_and_with_its_account(tmp_path, monkeypatch):
    file = tmp_path / "accounts.json"
    add_account(file, "bo", "a long enough one", "reader")
    accounts = Accounts(file)
    token = accounts.sign_in("bo", "a long enough one")
    assert accounts.user_of(token).role == "reader"
    later = time.monotonic() + 9 * 3600
    with monkeypatch.context() as patch:
        patch.setattr(time, "monotonic", lambda: later)
        assert accounts.user_of(token) is None
    token = accounts.sign_in("bo", "a long enough one")
    file.write_text("{}")
    assert accounts.user_of(token) is None


def test_accounts_are_kept_as_hashes_for_their_owner_alone(tmp_path):
    file = tmp_path / "accounts.json"
    add_account(file, "bo", "a long enough one", "reader")
    assert "long enough" not in file.read_text()
    assert file.stat().st_mode & 0o077 == 0
    for name, password in (
        ("", "a long enough one"),
        ("x" * 65, "a long enough one"),
        ("bo", "short"),
        ("a\nb", "p" * 20),
    ):
        with pytest.raises(UsageError):
            add_account(file, name, password, "reader")
    with pytest.raises(UsageError, match="there is no role|There is no role"):
        file.write_text('{"bo": {"role": "king", "hash": "x"}}')
        Accounts(file)

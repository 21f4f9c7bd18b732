"""A server that is killed while 200 verdicts arrive has lost none that it acknowledged."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from reviews.conftest import make_session, postgresql, url  # noqa: F401  fixtures

from cytosae.reviews import Database
from cytosae.reviews.answers import blind_panel
from cytosae.reviews.review_tables import RaterRow

SERVER = """
import sys
from pathlib import Path
from cytosae.cli.explore import serve
from cytosae.cli.output import Output
from cytosae.explorer import ExplorerSettings
serve(ExplorerSettings(study=Path(sys.argv[1]), reviews_url=sys.argv[2], port=0), Output(as_json=True), browser=False)
"""


@pytest.mark.slow
def test_kill_9_loses_no_acknowledged_verdict(study_of_smear: Path, url: str):  # noqa: F811
    database = Database(url)
    number = make_session(database, 40, 2, tuple("ABCDE"))
    with database.reading() as session:
        asked = [(rater.name, key) for rater in session.query(RaterRow) for key in rater.order[:40]]
    assert len(asked) == 200
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(study_of_smear), url], stdout=subprocess.PIPE, text=True, bufsize=1
    )
    lines = []
    try:
        while not any('"address"' in line for line in lines):
            lines.append(server.stdout.readline())
            assert lines[-1], "the server ended"
        port = int("".join(lines).partition("127.0.0.1:")[2].partition("/")[0])
        kept: list[tuple[str, str]] = []
        enough, start = threading.Event(), threading.Barrier(200)

        def judge(rater: str, key: str) -> None:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            body = json.dumps({"verdict": "yes", "words": f"{rater} {key}"})
            headers = {"content-type": "application/json", "origin": f"http://127.0.0.1:{port}"}
            start.wait()
            try:
                path = f"/api/reviews/{number}/panels/{key}?rater={rater}&version=0&state=submitted"
                connection.request("POST", path, body, headers)
                answer = connection.getresponse()
                if answer.status == 200 and json.loads(answer.read()) == {"version": 1}:
                    kept.append((rater, key))
            except (OSError, http.client.HTTPException):
                pass
            finally:
                connection.close()
            if len(kept) >= 60:
                enough.set()

        threads = [threading.Thread(target=judge, args=who) for who in asked]
        for thread in threads:
            thread.start()
        assert enough.wait(120), len(kept)
        os.kill(server.pid, signal.SIGKILL)
        for thread in threads:
            thread.join()
    finally:
        server.kill()
        server.wait()
        server.stdout.close()
    assert 60 <= len(kept) < 200  # it was killed amid them
    database.close()
    again = Database(url)
    for rater, key in kept:
        found = blind_panel(again, number, rater, key)
        assert (found.state, found.answer.words) == ("submitted", f"{rater} {key}")
    again.close()

"""Sessions of made-up panels, on SQLite and on PostgreSQL."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cytosae.reviews import Database, Design
from cytosae.reviews.answers import create_session
from cytosae.reviews.panels import Panel

RATERS = ("Ada", "Bob", "Cleo")


def make_session(database: Database, n: int = 8, controls: int = 4, raters: tuple[str, ...] = RATERS) -> int:
    """A session of ``n`` learned latents and controls, without pictures."""
    kinds = [("learned", i) for i in range(n)]
    kinds += [(kind, i) for kind in ("neuron", "random", "cells") for i in range(controls)]
    panels = [Panel(kind, i, "rare", ("cell",) * 3, ("AA==",) * 3, 1) for kind, i in kinds]
    design = Design(concepts=n, controls=controls, repeats=min(4, n), seed=1)
    return create_session(
        database, panels, design, title="T", dataset="d", atlas="0" * 64, raters=raters, by="coordinator"
    )


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """URL of a PostgreSQL server of this run; skipped where Debian's package is absent."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    tools = found[-1].parent if found else Path(shutil.which("initdb") or "").parent
    if not (tools / "initdb").is_file():
        pytest.skip("PostgreSQL is not installed (Debian's package postgresql)")
    folder = Path(tempfile.mkdtemp(prefix="pg"))
    user = {"user": "postgres", "extra_groups": []} if os.getuid() == 0 else {}  # initdb refuses root
    if user:
        shutil.chown(folder, "postgres")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    quiet = {"check": True, "stdout": subprocess.DEVNULL, "cwd": folder, **user}
    data, options = folder / "data", f"-p {port} -c listen_addresses=127.0.0.1 -k {folder}"
    subprocess.run([tools / "initdb", "-D", data, "-A", "trust", "-U", "tester", "--no-sync"], **quiet)
    subprocess.run([tools / "pg_ctl", "-D", data, "-w", "-l", folder / "log", "-o", options, "start"], **quiet)
    try:
        yield f"postgresql://tester@127.0.0.1:{port}/postgres"
    finally:
        subprocess.run([tools / "pg_ctl", "-D", data, "-w", "-m", "immediate", "stop"], **quiet)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of an empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'reviews.sqlite'}"
    server = request.getfixturevalue("postgresql")
    import psycopg

    name = f"r{tmp_path.name}".lower().replace("-", "_").replace("[", "_").replace("]", "_")[:60]
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    return server.rpartition("/")[0] + f"/{name}"


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    """An opened, empty database of each kind."""
    opened = Database(url)
    yield opened
    opened.close()

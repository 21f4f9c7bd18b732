"""The wheel alone makes a working program: nothing is needed of the repository, and it is the same wheel every time."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ALONE = """
import sys

def _refuse(event, given):
    if event == "socket.connect" and isinstance(given[1], tuple) and given[1][0] not in ("127.0.0.1", "::1"):
        raise RuntimeError(f"the network was asked for {given[1]}")
    if event == "socket.getaddrinfo" and given[0] not in ("127.0.0.1", "::1", "localhost", None):
        raise RuntimeError(f"the network was asked for {given[0]}")

sys.addaudithook(_refuse)
"""
"""What every Python of the environment runs first: no other machine is to be asked for anything."""


def call(*words: object, **options: object) -> str:
    done = subprocess.run([str(w) for w in words], capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The wheel, built twice."""
    found = []
    for turn in range(2):
        folder = tmp_path_factory.mktemp(f"wheel{turn}")
        env = {**os.environ, "SOURCE_DATE_EPOCH": "1700000000"}
        call(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, cwd=ROOT, env=env)
        found += folder.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def program(wheels: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`cytosae` as installed from the wheel, its dependencies borrowed from this environment."""
    folder = tmp_path_factory.mktemp("installed") / "venv"
    call(sys.executable, "-m", "venv", "--without-pip", folder)
    site = Path(call(folder / "bin" / "python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    (site / "borrowed.pth").write_text("\n".join(place for place in sys.path if place.endswith("site-packages")))
    with zipfile.ZipFile(wheels[0]) as wheel:
        wheel.extractall(site)
    (site / "sitecustomize.py").write_text(ALONE)
    program = folder / "bin" / "cytosae"  # as pip writes it: processes that it starts import it, too
    start = "from cytosae.cli import main\nif __name__ == '__main__':\n    raise SystemExit(main())\n"
    program.write_text(f"#!{folder / 'bin' / 'python'}\n{start}")
    program.chmod(0o755)
    return program


def test_the_same_source_gives_the_same_wheel(wheels):
    assert wheels[0].name == wheels[1].name
    assert wheels[0].read_bytes() == wheels[1].read_bytes()


def test_the_wheel_is_small_and_holds_all_that_is_no_code(wheels):
    with zipfile.ZipFile(wheels[0]) as wheel:
        names = set(wheel.namelist())
    source = ROOT / "src"
    carried = {
        path.relative_to(source).as_posix()
        for path in (source / "cytosae").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert carried <= names
    assert wheels[0].stat().st_size < 32 << 20


@pytest.fixture
def stranger(tmp_path: Path) -> dict[str, str]:
    """The environment of a person who has nothing else: no cache, no home, no path to the repository."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return {**kept, "HOME": str(tmp_path), "CYTOSAE_CACHE": str(tmp_path / "cache")}


@contextmanager
def explorer(program: Path, study: Path, **options: object) -> Iterator[str]:
    """The address of `cytosae explore`, which is ended by Ctrl-C and has to end as it says."""
    words = [str(program), "explore", str(study), "--port", "0", "--no-browser", "--json"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options) as server:
        try:
            said = ""
            while line := server.stdout.readline():
                said += line
                if line.rstrip() == "}":
                    break
            assert said, server.stderr.read()[-2000:]
            yield json.loads(said)["address"]
            server.send_signal(signal.SIGINT)
            assert server.wait(60) == 130
            assert "Traceback" not in server.stderr.read()
        finally:
            server.kill()


def answer(address: str) -> str:
    with urllib.request.urlopen(address, timeout=120) as page:
        assert page.status == 200
        return page.read().decode()


@pytest.mark.slow
@pytest.mark.timeout(900)  # a busy machine starts six programs slowly
@pytest.mark.skipif(sys.platform == "win32", reason="the environment is laid out as on Linux and macOS")
def test_the_installed_program_goes_from_drawn_cells_to_the_explorer(program, stranger, tmp_path):
    options = {"cwd": tmp_path, "env": stranger}
    where = call(program.parent / "python", "-c", "import cytosae; print(cytosae.__file__)", **options)
    assert Path(where.strip()).is_relative_to(program.parents[1])
    made = json.loads(call(program, "demo", "--quick", "--json", **options))
    study = tmp_path / made["study"]
    for page in (made["report"], made["cohort"]):
        assert (tmp_path / page).stat().st_size > 50_000
    found = json.loads(call(program, "doctor", "--study", study, "--json", **options))["findings"]
    assert not [finding for finding in found if finding["state"] == "broken"]
    with explorer(program, study, **options) as address:
        concept = re.search(r'href="/concepts/(\d+)\?', answer(address))
        assert f"/concepts/{concept[1]}/evidence" in answer(f"{address}concepts/{concept[1]}")
        assert json.loads(answer(f"{address}api/patients"))

"""The wheel alone makes a working program: nothing is needed of the repository, and it is the same wheel every time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


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
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib"))
    with zipfile.ZipFile(wheels[0]) as wheel:
        wheel.extractall(site)
    program = folder / "bin" / "cytosae"
    program.write_text(f"#!{folder / 'bin' / 'python'}\nfrom cytosae.cli import main\nraise SystemExit(main())\n")
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


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="the environment is laid out as on Linux and macOS")
def test_the_installed_program_goes_from_drawn_cells_to_a_report(program, tmp_path):
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    where = call(program.parent / "python", "-c", "import cytosae; print(cytosae.__file__)", cwd=tmp_path, env=env)
    assert Path(where.strip()).is_relative_to(program.parents[1])
    call(program, "data", "synthesize", "smear", "--patients", 2, "--cells", 6, cwd=tmp_path, env=env)
    quick = ["--sae.expansion", 2, "--sae.train.steps", 6, "--sae.train.batch-tokens", 512, "--report.concepts", 3]
    out = call(program, "run", "smear", "--study", "study", "--json", *quick, cwd=tmp_path, env=env)
    assert Path(tmp_path / json.loads(out)["report"]).stat().st_size > 50_000
    found = json.loads(call(program, "doctor", "--study", "study", "--json", cwd=tmp_path, env=env))["findings"]
    assert not [finding for finding in found if finding["state"] == "broken"]

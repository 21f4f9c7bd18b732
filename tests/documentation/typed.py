"""What the pages tell people to type: which test runs it, or what stands for the names in it when it is run here."""

from __future__ import annotations

import getpass
import re
import shlex
import shutil
from pathlib import Path

import pytest
import uvicorn
from fuzz.readers import make_published

from cytosae.explorer.library import Library
from cytosae.pipeline import Study

ELSEWHERE = {
    r"data fetch": "tests/cli/test_fetching.py",
    r"data check (acevedo|bmc) ": "tests/cli/test_data.py",
    r"model fetch": "tests/cli/test_models.py",
    r"demo": "tests/packaging/test_wheel.py",
    r"bench concepts": "tests/evaluation/test_concepts.py",
    r"bench": "tests/cli/test_bench.py",
    r"run .*--recipe": "tests/cli/test_cli.py",
    r"run .*--train-on": "tests/cli/test_cli.py",
    r"train .*--sweep": "tests/cli/test_cli.py",
    r"atlas .*--atlas.format": "tests/pipeline/test_zarr_study.py",
    r"atlas merge .*\.zarr": "tests/atlas/stored/test_zarr_atlas.py",
    r"atlas quality": "tests/evaluation/test_quality.py",
    r"atlas suppress": "tests/evaluation/test_suppression.py",
    r"atlas pairs": "tests/explorer/test_followed.py",
    r"atlas names": "tests/views/test_name_table.py",
    r"atlas import-official": "tests/atlas/published/test_official_atlas.py",
    r"report --atlas": "tests/atlas/published/test_official_atlas.py",
    r"report --study": "tests/cli/test_cli.py",
    r"cohort .*--concepts approved": "tests/explorer/test_patients.py",
    r"cohort validate": "tests/cli/test_validate.py",
}
"""Beginning of a command -> the test that runs it: beside a server that is only pretended, or for minutes."""
MINUTES = {"--data", "--cohorts", "--sae", "--backbone"}
"""Options of `bench concepts` whose functions that test runs, since the command would take minutes with each."""

STAND_INS = {
    "IMAGES...": "IMAGES",
    "IMAGE": "cell.png",
    "PATIENT": "P001",
    "APL": "PML::RARA-like",
    "AML": "control",
    "SAE": "imported",
    "40": "4",  # a smear of patients
    "50": "5",
    "runs/demo": "DIR",
    "10.0.0.5": "127.0.0.1",
    "ATLAS.h5ad": "OTHER/atlas/IMAGES.h5ad",
    "FILE.h5ad": "OTHER/atlas/IMAGES.h5ad",
    "STUDY_A": "DIR",
    "STUDY_B": "OTHER",
    "my_study": "DIR",
    "STUDY/atlas/smears.h5ad": "DIR/atlas/IMAGES.h5ad",
    "STUDY/quality/smears_verdicts.csv": "verdicts.csv",
    "mll23.h5ad": "DIR/atlas/IMAGES.h5ad",
    "acevedo.h5ad": "OTHER/atlas/IMAGES.h5ad",
    "hehr.h5ad": "DIR/atlas/later.h5ad",
    "june/atlas/smears.h5ad": "DIR/atlas/IMAGES.h5ad",
    "may/atlas/smears.h5ad": "OTHER/atlas/IMAGES.h5ad",
}
"""Name in a command -> what there is on the stage."""
BEFORE = {
    "atlas merge": [
        "cytosae atlas share DIR/atlas/IMAGES.h5ad --site north --out north.h5ad",
        "cytosae atlas share DIR/atlas/later.h5ad --site south --out south.h5ad",
    ],
    "explore DIR --host": ["cytosae explore accounts anna --file accounts.json"],
}
"""Beginning of a command -> what is typed before it, on another page or at another site."""


def runs_elsewhere(line: str) -> str | None:
    """The test that runs a command, None where it is run here."""
    words = line.removeprefix("cytosae ")
    return next((test for beginning, test in ELSEWHERE.items() if re.match(beginning, words)), None)


def set_stage(folder: Path, tutorials: Path) -> None:
    """Let the names of commands stand for something in a folder, beside what the tutorials made."""
    for path in tutorials.iterdir():
        if path.name not in ("DIR", "runs", "smear"):
            (folder / path.name).symlink_to(path)
    shutil.copytree(tutorials / "DIR", folder / "OTHER")
    make_published(folder)


def on_stage(line: str) -> list[str]:
    """The words of a command with names of the stage, without "cytosae"."""
    return [STAND_INS.get(word, word) for word in shlex.split(line)[1:]]


def calls(line: str, study: Path) -> list[list[str]]:
    """What is called for a command: first what is typed before it; a server at a port that is free."""
    before = next((typed for start, typed in BEFORE.items() if line.startswith(f"cytosae {start}")), [])
    some_cell = Study(study).cells("IMAGES").frame["cell_id"].iloc[0][:12]
    made = [[some_cell if word == "56d1aa14b267" else word for word in on_stage(typed)] for typed in (*before, line)]
    return [[*call, "--port", "0", "--no-browser"] if is_server(call) else call for call in made]


def is_server(words: list[str]) -> bool:
    """Whether a command serves until it is stopped."""
    return words[0] == "explore" and words[1] != "accounts"


def serve_nobody(patch: pytest.MonkeyPatch) -> None:
    """A server that listens, and ends at once; a person who has a password ready."""
    for ahead in ("prepare", "prepare_places"):
        patch.setattr(Library, ahead, lambda library: None)
    patch.setattr(uvicorn.Server, "run", lambda server, sockets: [one.close() for one in sockets])
    patch.setattr(getpass, "getpass", lambda prompt: "twelve letters")

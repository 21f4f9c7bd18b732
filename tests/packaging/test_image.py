"""The container's recipes, read as text: what hadolint would say of them, and that they call what exists.

Rules: base images by tag and never `latest`; the last stage runs as somebody else than root, has a health check, a
command in exec form and an entry point; `pip` leaves no cache; nothing is piped from the network into a shell; no
secrets; what is copied exists and is not ignored; the command is one that cytosae understands.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from cytosae.cli.commands import app
from cytosae.explorer.security import OPEN

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def steps() -> list[tuple[str, str]]:
    """Instruction and arguments of every step, lines joined and comments left out."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.M)
    lines = re.sub(r"\\\n\s*", " ", text).splitlines()
    return [(name, rest) for name, _, rest in (line.strip().partition(" ") for line in lines) if name]


def last_stage(steps: list[tuple[str, str]]) -> dict[str, str]:
    start = max(i for i, (name, _) in enumerate(steps) if name == "FROM")
    return dict(steps[start:])


def test_bases_are_slim_and_named_by_version(steps):
    bases = [rest.split()[0] for name, rest in steps if name == "FROM"]
    assert all(re.fullmatch(r"python:3\.\d+-slim-\w+", base) for base in bases)


def test_the_last_stage_runs_as_somebody_with_a_health_check(steps):
    stage = last_stage(steps)
    assert stage["USER"] not in ("root", "0")
    assert f"--uid 1000 {stage['USER']}" in stage["RUN"]
    assert any(path in stage["HEALTHCHECK"] for path in OPEN if path == "/health")
    assert json.loads(stage["ENTRYPOINT"]) == ["cytosae"]


def test_the_command_is_one_that_cytosae_understands(steps):
    words = json.loads(last_stage(steps)["CMD"])
    assert words[0] == "explore"
    app.parse_args(words, exit_on_error=False, print_error=False)
    assert "--accounts" in words, "an address that others reach is refused without accounts"


def test_installing_is_by_constraints_without_cache_and_from_nothing_piped(steps):
    runs = [rest for name, rest in steps if name == "RUN"]
    assert all("--no-cache-dir" in run and "-c /tmp/constraints.txt" in run for run in runs if "pip install" in run)
    assert not any(re.search(r"(curl|wget)[^|]*\|\s*(ba)?sh", run) or "sudo" in run for run in runs)
    assert not any(re.search(r"TOKEN|PASSWORD|SECRET", rest) for name, rest in steps if name in ("ARG", "ENV"))
    assert ("ARG", "TORCH_INDEX=https://download.pytorch.org/whl/cpu") in steps


def test_what_is_copied_exists_and_is_let_through(steps):
    let_through = (ROOT / ".dockerignore").read_text().splitlines()
    assert let_through[0] == "*"
    for name, rest in steps:
        if name in ("COPY", "ADD") and "--from=" not in rest:
            assert name == "COPY"
            for source in rest.split()[:-1]:
                assert (ROOT / source).exists(), source
                assert f"!{source.removeprefix('./')}" in let_through


def test_the_recipe_for_clusters_is_made_of_the_image_and_runs_its_program():
    text = (ROOT / "apptainer.def").read_text()
    sections = dict(re.findall(r"^%(\w+)\n((?:    .*\n|\n)*)", text, re.M))
    assert text.startswith("Bootstrap: docker-daemon\nFrom: cytosae:latest\n")
    assert sections["runscript"].strip() == 'exec cytosae "$@"'
    assert "cytosae --version" in sections["test"]
    assert "/opt/cytosae/bin" in sections["environment"]

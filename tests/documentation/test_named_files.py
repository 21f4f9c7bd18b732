"""Files and commands that the pages name in the middle of a sentence are there."""

from __future__ import annotations

import re
import shlex

from documentation.blocks import FILES, ROOT

from cytosae.cli.commands import app

_FILE = re.compile(r"(?<![\w./-])(?:tests|examples|benchmarks|scripts)/[\w./-]*\w")


def test_files_of_the_repository_that_are_named_are_there():
    pages = [*FILES, ROOT / "SECURITY.md"]
    named = {(page.name, file) for page in pages for file in _FILE.findall(page.read_text(encoding="utf-8"))}
    assert len(named) > 50
    assert sorted((page, file) for page, file in named if not (ROOT / file).exists()) == []


def test_every_claim_of_the_paper_has_a_command_that_is_understood():
    text = (ROOT / "docs" / "paper.md").read_text(encoding="utf-8")
    claims = [row for row in text.partition("## ")[0].splitlines() if row.startswith("| ")][1:]
    assert len(claims) == 9  # as many as the paper makes
    for claim in claims:
        commands = re.findall(r"`(cytosae [^`]+)`", claim.split("|")[2])
        assert commands, claim
        for command in commands:
            app.parse_args(shlex.split(command)[1:], exit_on_error=False, print_error=False)

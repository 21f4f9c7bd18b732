"""The help: it comes without waiting for the libraries that compute, and leaves no word out."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys

import pytest
from cyclopts import App
from docstring_parser import DocstringStyle, parse
from rich.console import Console

from cytosae.cli import main
from cytosae.cli.commands import app

HEAVY = {"torch", "numpy", "scipy", "pandas", "sklearn", "anndata", "matplotlib", "numba", "timm", "PIL", "pyarrow"}
HEAVY |= {"lightning_fabric", "huggingface_hub", "safetensors", "tifffile", "imagecodecs", "jinja2", "h5py", "asyncio"}


def commands(group: App = app, words: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Words of every command, groups of commands included."""
    below = [name for name in group if not name.startswith("-")]
    return [words, *(found for name in below for found in commands(group[name], (*words, name)))]


COMMANDS = commands()


def test_the_help_loads_nothing_that_computes() -> None:
    asked = [["--version"], ["config"], *([*words, "--help"] for words in COMMANDS)]
    program = f"""
import sys
from cytosae.cli import main
for words in {asked!r}:
    assert main(words) == 0, words
    loaded = sorted({HEAVY!r} & set(sys.modules))
    assert not loaded, (words, loaded)
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


def shown(words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> str:
    # a width of its own: the program keeps the console of whatever was printed first in this process
    monkeypatch.setattr(app, "_console", Console(width=5000, force_terminal=False))
    assert main([*words, "--help"]) == 0
    return " ".join(capfd.readouterr().out.replace("│", " ").split())


def told(text: str) -> str:
    """What is to be read of a docstring: its words without the marks of code and stress."""
    return " ".join(re.sub(r"`+|\*\*", "", text).split())


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_the_help_says_every_word_of_the_docstrings_and_options(words, monkeypatch, capfd) -> None:
    found = app
    for word in words:
        found = found[word]
    document = parse(inspect.cleandoc(found.help or ""), style=DocstringStyle.NUMPYDOC)
    texts = [document.short_description, *(document.long_description or "").split("\n\n")]
    arguments = [] if found.default_command is None else found.assemble_argument_collection(parse_docstring=True)
    texts += [argument.parameter.help for argument in arguments if argument.show]
    text = shown(words, monkeypatch, capfd)
    missing = [words for words in texts if told(words or "") not in text]
    assert not missing
    assert all(argument.parameter.help for argument in arguments if argument.show)

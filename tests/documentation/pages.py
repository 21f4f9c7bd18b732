"""Tutorials: pages whose blocks run one after the other, each output that is asked for written under its block.

    <!-- output -->                           under a block: all that it prints
    <!-- output, 3 lines -->                  its first three lines
    <!-- output, 3 lines from "Warning" -->   three lines from the first one that begins so

Lines of `bash` must be commands of cytosae, which run in this process; blocks of `python` share their names, as cells
of a notebook do; any other block with a `title="FILE"` becomes that file.
"""

from __future__ import annotations

import io
import re
import shlex
from contextlib import redirect_stderr, redirect_stdout
from difflib import SequenceMatcher
from pathlib import Path

from documentation.blocks import FENCE, FILES

from cytosae.cells.synthetic.types import TYPES
from cytosae.cli import main

_MARK = re.compile(
    r'\n\n(?P<mark><!-- output(?:, (?P<count>\d+) lines?(?: from "(?P<start>[^"\n]+)")?)? -->)'
    r"(?:\n```text\n(?P<written>.*?)^```)?",
    re.M | re.S,
)
_NUMBER = re.compile(r"[-−+]?\d[\d.,:]*(e[-+]?\d+)?( ?([kMGT]?B|s|min|h)\b)?")
_TYPE = re.compile(rf"\b({'|'.join(sorted(TYPES, key=len, reverse=True))})\b")
PAGES = [file for file in FILES if file.parent.name == "docs" and "<!-- output" in file.read_text(encoding="utf-8")]


def run_page(file: Path) -> str:
    """The page with its outputs as they come out now; its blocks run in the current folder."""
    text = file.read_text(encoding="utf-8")
    names: dict[str, object] = {}
    parts, end = [], 0
    for match in FENCE.finditer(text):
        if match["why"]:
            continue
        line = text.count("\n", 0, match.start("code")) + 1
        printed = _run(match, names, f"{file.name}:{line}")
        if mark := _MARK.match(text, match.end()):
            parts += [text[end : mark.end("mark")], f"\n```text\n{_shortened(printed, mark)}\n```"]
            end = mark.end()
    return "".join([*parts, text[end:]])


def outputs(page: str) -> list[str]:
    """What stands under the blocks of a page as their output."""
    return [mark["written"] or "" for mark in _MARK.finditer(page)]


def likeness(one: str, other: str) -> tuple[float, float]:
    """How far two outputs are alike, from 0 to 1: their words, in order, and the numbers at the same place.

    Words: the share in common; numbers with their units, and cell types, count as one word each. Numbers: the share
    that differs by no more than a tenth, or 0.05; times, sizes and dates may differ.
    """
    mine, theirs = _words(one), _words(other)
    found = SequenceMatcher(None, [word for word, _ in mine], [word for word, _ in theirs], autojunk=False)
    near = [
        abs(a - b) <= max(0.1 * max(abs(a), abs(b)), 0.05)
        for i, j, n in found.get_matching_blocks()
        for (_, ours), (_, others) in zip(mine[i : i + n], theirs[j : j + n], strict=True)
        for a, b in zip(ours, others, strict=True)
        if a is not None and b is not None
    ]
    return found.ratio(), sum(near) / len(near) if near else 1.0


def _words(text: str) -> list[tuple[str, list[float | None]]]:
    """Words, each with the numbers in it; None for times, sizes and dates."""
    numbers: list[float | None] = []

    def keep(match: re.Match[str]) -> str:
        numbers.append(_value(match))
        return f"\0{len(numbers) - 1}\0"

    marked = _TYPE.sub("type", _NUMBER.sub(keep, text)).split()
    return [
        (re.sub(r"\0\d+\0", "number", word), [numbers[int(i)] for i in re.findall(r"\0(\d+)\0", word)])
        for word in marked
    ]


def _value(match: re.Match[str]) -> float | None:
    plain = match[0].replace("−", "-").replace(",", "").rstrip(".:")
    if match[2] or ":" in plain or re.fullmatch(r"20\d\d|-\d\d", plain):
        return None
    try:
        return float(plain)
    except ValueError:  # a version, an address
        return None


def _run(block: re.Match[str], names: dict[str, object], where: str) -> str:
    printed = io.StringIO()
    if title := re.search(r'title="([^"]+)"', block["rest"]):
        Path(title[1]).write_text(block["code"], encoding="utf-8")
    elif block["kind"] == "python":
        with redirect_stdout(printed):
            exec(compile(block["code"], where, "exec"), names)
    elif block["kind"] == "bash":
        for line in block["code"].replace("\\\n", " ").splitlines():
            _run_command(shlex.split(line, comments=True), printed, where)
    return printed.getvalue()


def _run_command(words: list[str], printed: io.StringIO, where: str) -> None:
    assert words[0] == "cytosae", f"{where}: only cytosae is run; say why a block is not run"
    with redirect_stdout(printed), redirect_stderr(io.StringIO()) as said:
        assert main(words[1:]) == 0, f"{where}: {shlex.join(words)}\n{said.getvalue()}"


def _shortened(printed: str, mark: re.Match[str]) -> str:
    lines = [line.rstrip() for line in printed.strip("\n").splitlines()]
    begins = [i for i, line in enumerate(lines) if line.startswith(mark["start"] or "")]
    assert begins, f"no line of the output begins with {mark['start']!r}:\n{printed}"
    end = begins[0] + int(mark["count"] or len(lines))
    return "\n".join([*["..."][: begins[0]], *lines[begins[0] : end], *["..."][: len(lines) - end]])

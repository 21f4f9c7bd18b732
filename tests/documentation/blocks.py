"""The blocks of code in README and docs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
FILES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(
    r"(?:^<!-- not run: (?P<why>[^\n]+) -->\n)?^```(?P<kind>\w*)(?P<rest>[^\n]*)\n(?P<code>.*?)^```$", re.M | re.S
)


@dataclass(frozen=True)
class Block:
    """One fenced block: its file, language and text, and why it is not run where the docs say so."""

    file: Path
    line: int
    kind: str
    code: str
    why: str | None

    @property
    def lines(self) -> list[str]:
        """Lines of the code, those that go on after a backslash as one."""
        return self.code.replace("\\\n", " ").splitlines()

    @property
    def name(self) -> str:
        return f"{self.file.relative_to(ROOT).as_posix()}:{self.line}"


def blocks(kind: str) -> list[Block]:
    """Fenced blocks of one language in all files."""
    found = []
    for file in FILES:
        text = file.read_text(encoding="utf-8")
        for match in FENCE.finditer(text):
            if match["kind"] == kind:
                line = text.count("\n", 0, match.start("code")) + 1
                found.append(Block(file, line, kind, match["code"], match["why"]))
    return found


def commands() -> dict[str, Block]:
    """Every line of a block that calls cytosae -> the block, one that is run where there is one."""
    found: dict[str, Block] = {}
    for block in blocks("bash"):
        for line in block.lines:
            told = line.partition(" # ")[0].strip()
            if told.startswith("cytosae ") and (told not in found or found[told].why):
                found[told] = block
    return found

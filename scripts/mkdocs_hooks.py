"""mkdocs hooks: the page of all commands, from the program itself; a warning where Markdown stays as it was typed."""

from __future__ import annotations

import logging
import re
from typing import Any

LOG = logging.getLogger("mkdocs.plugins.cytosae")
LAID_OUT = re.compile(r"<(pre|code|table|script|style)\b.*?</\1>", re.DOTALL)
TYPED = re.compile(r"\n\s*(?:[-*+]|\d+\.) +\w[^\n<]{0,60}|(?:\n|(?<=<p>))\|[^\n<]{0,60}|```|\]\(\w[^)]*\.md")
"""A list or table without an empty line before it, a fence within a line, a link in a place that knows none."""


def commands_page() -> str:
    """Every command with its options and defaults, as Markdown."""
    from cytosae.cli.commands import app

    return app.generate_docs(output_format="markdown", recursive=True).partition("\n")[2]


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Fill ``commands.md``; other pages stay as they are."""
    return markdown + commands_page() if page.file.src_uri == "commands.md" else markdown


def on_page_content(html: str, *, page: Any, **_: Any) -> str:
    """Warn, which ends a strict build, where a reader would see Markdown as it was typed."""
    for found in left_as_typed(html):
        LOG.warning("%s shows Markdown as it was typed: %s", page.file.src_uri, found)
    return html


def left_as_typed(html: str) -> list[str]:
    """Pieces of Markdown in the text of a page, but for code and tables."""
    return [match.group().strip() for match in TYPED.finditer(LAID_OUT.sub("", html))]

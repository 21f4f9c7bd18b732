"""mkdocs hook: the page of all commands and options, made from the program itself."""

from __future__ import annotations

from typing import Any


def commands_page() -> str:
    """Every command with its options and defaults, as Markdown."""
    from cytosae.cli.commands import app

    return app.generate_docs(output_format="markdown", recursive=True).partition("\n")[2]


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Fill ``commands.md``; other pages stay as they are."""
    return markdown + commands_page() if page.file.src_uri == "commands.md" else markdown

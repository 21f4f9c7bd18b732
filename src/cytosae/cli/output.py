"""What commands print: lines for people, or one JSON document for programs (``--json``)."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cytosae.common.configuration import finite, to_plain
from cytosae.common.ranks import is_first

if TYPE_CHECKING:
    from cytosae.pipeline import StepResult

Json = Annotated[bool, Parameter(name="--json", negative="", help="Print one JSON document instead of text.")]
"""Type of the option that every command has."""


FACTS = {
    "cells": "{:,} cells",
    "skipped": "{:,} skipped",
    "duplicates": "{:,} exact copies",
    "n_cells": "{:,} cells",
    "bytes": "{:,} bytes",
    "latents": "{:,} latents",
    "l0": "L0 {:.1f}",
    "explained_variance": "explained variance {:.3f}",
    "explained_variance_after_position": "{:.3f} of what positions leave",
    "explained_variance_whitened": "{:.3f} whitened",
    "dead_share": "{:.1%} dead",
    "saes": "{:,} SAEs",
}
"""Details of artifacts that are worth a word, in this order."""


class Output:
    """Standard output of one command; of several processes only the first prints.

    Parameters
    ----------
    as_json : bool
        Print nothing until the end, then one JSON document.
    """

    as_json: bool

    def __init__(self, *, as_json: bool) -> None:
        first = is_first()
        self.as_json = as_json and first
        self._console = Console(quiet=as_json or not first, highlight=False, soft_wrap=True)
        self._document: dict[str, Any] = {}
        self._steps: list[dict[str, Any]] = []

    def line(self, text: str) -> None:
        """Print a line for people."""
        self._console.print(text, markup=False)

    def step(self, result: StepResult) -> None:
        """Report a step of a study."""
        self._steps.append(to_plain(result))
        state = "up to date" if result.skipped else f"{result.seconds:.1f} s"
        why = f"({result.why}) " if result.why else ""
        facts = ", ".join(
            words.format(value) for name, words in FACTS.items() if (value := result.facts.get(name)) is not None
        )
        self._console.print(f"  {escape(result.step):<28} {state:>12}   [dim]{escape(why + facts)}[/dim]")

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[Any]], *, title: str | None = None) -> None:
        """Print a table for people."""
        table = Table(title=title, title_justify="left", header_style="bold", box=None, pad_edge=False)
        numbers = [all(isinstance(row[i], (int, float)) for row in rows) for i in range(len(columns))]
        for column, right in zip(columns, numbers, strict=True):
            table.add_column(column, justify="right" if right else "left", overflow="fold")
        for row in rows:
            table.add_row(*(escape(_value(value)) for value in row))
        self._console.print(table)

    def result(self, **facts: Any) -> None:
        """Add to the JSON document."""
        self._document.update({name: to_plain(value) for name, value in facts.items()})

    def finish(self) -> None:
        """End the command's output; with ``--json`` this prints the document."""
        if self.as_json:
            steps = {"steps": self._steps} if self._steps else {}
            json.dump(finite({**self._document, **steps}), sys.stdout, indent=2, default=_plain, allow_nan=False)
            sys.stdout.write("\n")
            sys.stdout.flush()  # the explorer goes on after this, and whoever started it waits for its address


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    return finite(value.item()) if hasattr(value, "item") else str(value)


def _value(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: ""}[value]
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    if isinstance(value, int):
        return f"{value:,}"
    return value.as_posix() if isinstance(value, Path) else str(value)

"""Tables of values with intervals, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

if TYPE_CHECKING:
    from cytosae.evaluation.concept_benchmark import ConceptBenchmark


def concepts_markdown(result: ConceptBenchmark) -> str:
    """All tables of a benchmark as Markdown, each under its title."""
    parts = [f"## {title[0].upper()}{title[1:]}\n\n{markdown_table(table)}" for title, table in result.tables.items()]
    return "\n\n".join(parts)


def markdown_table(table: pd.DataFrame) -> str:
    """A table as Markdown, laid out as by `with_intervals`."""
    shown = with_intervals(table)
    lines = ["| " + " | ".join(map(str, shown)) + " |", "|" + "---|" * shown.shape[1]]
    for row in shown.to_numpy(dtype=object).tolist():
        lines.append("| " + " | ".join(text.replace("|", "\\|") for text in row) + " |")
    return "\n".join(lines)


def with_intervals(table: pd.DataFrame) -> pd.DataFrame:
    """The table as text; columns ``x``, ``x_low``, ``x_high`` become one, "x (low to high)"."""
    names = [str(name) for name in table.columns]
    whole = [name for name in names if f"{name}_low" in names and f"{name}_high" in names]
    bounds = {f"{name}_{side}" for name in whole for side in ("low", "high")}
    made = {}
    for name in [name for name in names if name not in bounds]:
        texts = [_text(value) for value in table[name]]
        if name in whole:
            sides = zip(table[f"{name}_low"], table[f"{name}_high"], strict=True)
            texts = [
                f"{text} ({_text(low)} to {_text(high)})" if text and _text(low) else text
                for text, (low, high) in zip(texts, sides, strict=True)
            ]
        made[name.replace("_", " ")] = texts
    return pd.DataFrame(made)


def _text(value: Any) -> str:
    if isinstance(value, bool) or type(value).__name__ == "bool":
        return "yes" if value else "no"
    if value is None or value != value:
        return ""
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) >= 2 else f"{value:.3f}"
    return str(value)

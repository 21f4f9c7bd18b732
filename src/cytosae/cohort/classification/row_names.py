"""How rows of the table of models are named, so that one can be found by what it sees; nothing here computes."""

from __future__ import annotations

from collections.abc import Collection

FEW = "few"
"""Learner of at most ``most_concepts`` concepts, and end of the names of its rows."""
LOOKS = {"painted out": "cell painted out", "alone": "cell alone", "background": "background tokens only"}
"""Way to look at cells -> beginning of the names of its rows."""
PAINTED = LOOKS["painted out"]
STABLE = "stain-stable directions"


def twin_of(name: str, kind: str, start: str, names: Collection[str]) -> str | None:
    """The row that sees by ``start`` what a row of concepts sees: the same way, or as nearly as there is one.

    Parameters
    ----------
    name, kind : str
        Name of a `Configuration`, and what its barcode counts.
    start : str
        Beginning of the names of rows, such as `PAINTED`.
    names : collection of str
        The rows that there are; None where none of them fits.
    """
    same, plain, few = name.removeprefix("concepts"), f" ({kind})", f", {FEW}"
    wanted = (same, *((f"{plain}{few}",) if name.endswith(few) else ()), plain)
    return next((f"{start}{end}" for end in wanted if f"{start}{end}" in names), None)

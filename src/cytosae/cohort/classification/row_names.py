"""How rows of the table of models are named, so that one can be found by what it sees; nothing here computes."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cytosae.cohort.classification.settings import Configuration

FEW = "few"
"""Learner of at most ``most_concepts`` concepts, and end of the names of its rows."""
LOOKS = {"painted out": "cell painted out", "alone": "cell alone", "background": "background tokens only"}
"""Way to look at cells -> beginning of the names of its rows."""
PAINTED = LOOKS["painted out"]
STABLE = "stain-stable directions"


def twin_of(setting: Configuration, start: str, names: Collection[str]) -> str | None:
    """The row that sees by ``start`` what a configuration sees of concepts: the same way, or as nearly as there is one.

    ``start`` is the beginning of the names of rows such as `PAINTED`; None where none of ``names`` fits.
    """
    same, plain = setting.name.removeprefix("concepts"), f" ({setting.kind})"
    wanted = (same, *((f"{plain}, {FEW}",) if setting.penalty == FEW else ()), plain)
    return next((f"{start}{end}" for end in wanted if f"{start}{end}" in names), None)

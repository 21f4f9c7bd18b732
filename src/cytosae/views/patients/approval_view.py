"""The price of approval as it is shown: what is left when a decision may use approved concepts alone."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cytosae.views.parts.number_words import count, percent, two
from cytosae.views.parts.page_parts import Column, Number, Row, Table, known, measured, say, spread

if TYPE_CHECKING:
    from cytosae.cohort.classification.approval import Approval


@dataclass(frozen=True)
class ApprovalView:
    """AUROC on all concepts, on the ``approved`` ones alone and on as many others drawn at random (median, range).

    ``difference`` is all less approved; ``outdated``: other concepts have been approved since.
    """

    model: str
    approved: int
    verdict: str
    all: Number
    restricted: Number
    difference: Number
    random: Number | None
    table: Table
    outdated: bool = False


def view_of_approval(found: Approval, accepted: Collection[int] | None = None) -> ApprovalView:
    """Gather it; ``accepted`` are the concepts that are approved now, where they are known."""
    rows = found.table.set_index("model", drop=False)
    whole, own = (measured(rows.loc[name].to_dict(), "auroc") for name in ("all concepts", "approved concepts"))
    less = Number(*(known(found.comparison[name]) for name in ("difference", "low", "high")))
    random = None
    if found.random:
        random = spread(found.random)
    n = len(found.approved)
    cost = "clearly worse" if (less.low or 0) > 0 else "clearly better" if (less.high or 0) < 0 else "not clearly worse"
    verdict = (
        f"On the {count(n, 'concept')} that reviewers approved alone, {found.model} reaches AUROC {say(own)}, on all "
        f"concepts {say(whole)}: {cost} (difference {say(less)})."
    )
    if random is not None:
        beaten = float(np.mean(np.asarray(found.random) >= (own.value or 0)))
        verdict += (
            f" As many other concepts drawn at random reach {two(random.value)} ({two(random.low)} to "
            f"{two(random.high)}); {percent(beaten)} of the draws do as well as the approved."
        )
    outdated = accepted is not None and set(accepted) != set(found.approved)
    beside = {"all concepts": whole, "approved concepts alone": own, "as many others at random (range)": random}
    shown = tuple(Row((name, auroc), strong=auroc is own) for name, auroc in beside.items() if auroc is not None)
    table = Table((Column(found.model, "text"), Column("AUROC", "two")), shown)
    return ApprovalView(found.model, n, verdict, whole, own, less, random, table, outdated)

"""The smallest set of cells without which the decision would be another one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

if TYPE_CHECKING:
    from cytosae.cohort.explanation.patient_explanation import PatientExplanation


@dataclass(frozen=True)
class Counterfactual:
    """What it takes to change a decision by taking cells away.

    Attributes
    ----------
    decided, becomes : str, str or None
        Class before and after; ``becomes`` is None where no removal changes the decision.
    cells : DataFrame
        The removed cells, rows of the explanation's ``cells`` (index cell_id), the first to be removed first; empty
        where no removal changes the decision.
    n_cells : int
        Cells of the patient.
    before, after : float
        Margin of ``decided`` over ``becomes`` (over its closest rival where None) with all cells and without the
        removed ones; ``after`` is NaN where no removal changes the decision.
    """

    decided: str
    becomes: str | None
    cells: pd.DataFrame
    n_cells: int
    before: float
    after: float

    @property
    def flips(self) -> bool:
        """Whether some removal changes the decision."""
        return self.becomes is not None

    def sentence(self) -> str:
        """The finding in words."""
        if not self.flips:
            return (
                f"No set of cells can be taken away so that the decision changes: each of the {self.n_cells} cells "
                f"by itself speaks for {self.decided}."
            )
        n = len(self.cells)
        share = 100 * n / self.n_cells
        return (
            f"Without {n} of {self.n_cells} cells ({share:.0f} %) the decision would be {self.becomes}, not "
            f"{self.decided}; no smaller set changes it."
        )


def counterfactual(explanation: PatientExplanation) -> Counterfactual:
    """Find the smallest set of cells whose removal changes the decided class; exact, not a search.

    A barcode is a mean over cells, so taking cells away also changes the number it is divided by. Let v_c be the
    margin of the decided class over a rival from cell c alone (intercept + sum_j w_j x_cj, see
    `PatientExplanation.logits`). Then the margin of the patient is the mean of the v_c, and without the set R it is the
    mean over the cells that remain. Its sign is that of S - sum_R v_c, S the sum over all cells: the denominator cannot
    change a sign. Among all sets of r cells, sum_R v_c is largest for the r largest v_c. So some set of r cells changes
    the decision if and only if the r cells with the largest v_c do, and the smallest such r < n is the minimum. There
    is none exactly where even the smallest v_c speaks for the decided class.

    With more than two classes the decided one is left exactly when some rival catches up with it, so the minimum over
    rivals is the minimum.
    """
    classes, logits = explanation.classes, explanation.logits
    if logits.shape[1] == 1:
        positive = math.fsum(logits[:, 0]) > 0
        margins = {classes[0 if positive else 1]: logits[:, 0] if positive else -logits[:, 0]}
        decided = classes[1 if positive else 0]
        # A decision of exactly 0 is the first class's: the second has to exceed it, the first to reach it.
        strict = {classes[1]: True, classes[0]: False}
    else:
        winner = int(np.argmax(logits.mean(axis=0)))
        decided = classes[winner]
        margins = {name: logits[:, winner] - logits[:, k] for k, name in enumerate(classes) if k != winner}
        # Of equal logits the first class is taken.
        strict = {name: k > winner for k, name in enumerate(classes)}
    tried = {rival: smallest_removal(margin, strict=strict[rival]) for rival, margin in margins.items()}
    found = {rival: rows for rival, rows in tried.items() if rows is not None}
    before = {rival: math.fsum(margin) / len(margin) for rival, margin in margins.items()}
    if not found:
        closest = min(before, key=lambda rival: before[rival])
        return Counterfactual(decided, None, explanation.cells.iloc[:0], len(logits), before[closest], float("nan"))
    becomes = min(found, key=lambda rival: (len(found[rival]), before[rival]))
    rows = found[becomes]
    kept = np.delete(margins[becomes], rows)
    return Counterfactual(
        decided, becomes, explanation.cells.iloc[rows], len(logits), before[becomes], math.fsum(kept) / len(kept)
    )


def smallest_removal(margins: NDArray[np.float64], *, strict: bool) -> NDArray[np.intp] | None:
    """Fewest entries to take out of ``margins`` (n,) so that the sum of at least one that remains is <= 0.

    Parameters
    ----------
    margins : ndarray of float64, shape (n,)
        Margin of each cell alone; their sum is the decision's sign.
    strict : bool
        The sum must be < 0.

    Returns
    -------
    ndarray of int64 or None
        Places of the entries, largest first; None where no removal of fewer than n does it.
    """
    order = np.argsort(-margins, kind="stable")
    rest = margins[order]
    for removed in range(1, len(rest)):
        total = math.fsum(rest[removed:])
        if total < 0 or (total == 0 and not strict):
            return order[:removed]
    return None

"""What an explanation of a patient holds: a decision, its parts, and how far they are from summing to it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray

from cytosae.cells.focus.patch_grid import Grid
from cytosae.cohort.config import Kind
from cytosae.common.errors import UsageError


@dataclass(frozen=True)
class Residuals:
    """How far each level of sums is from the one above it, in units of the decision.

    Attributes
    ----------
    concepts : float
        |decision - (intercept + sum over concepts)|.
    cells : float
        |decision - (intercept + sum over cells)|.
    tokens : float
        Largest |cell - sum over its tokens| of the cells taken apart; NaN where none were.
    """

    concepts: float
    cells: float
    tokens: float


@dataclass(frozen=True)
class PatientExplanation:
    """One patient's decision and everything that adds up to it.

    Attributes
    ----------
    patient : str
        Its name.
    target, against : str, str or None
        The decision is in favour of ``target`` where it is > 0; ``against`` is the other class, or None where the value
        is a class's own logit.
    kind : {"presence", "mean", "count"}
        Of the barcode.
    value : float
        Decision as `ConceptClassifier.decision` gives it (two classes), or the logit of ``target``, or its difference
        from that of ``against``.
    intercept : float
        What the decision would be without any concept.
    probabilities : Series
        Class -> probability; the largest is that of the class that is decided.
    population : str
        Whom decision and probabilities are about, in words that follow "where".
    concepts : DataFrame
        Index latent, columns coefficient, barcode, contribution (coefficient times barcode), reference (barcode of the
        typical patient), difference (coefficient times (barcode - reference)), cells (number of cells with the
        concept); largest first by size of difference.
    cells : DataFrame
        Index cell_id, columns row (in the atlas), label, contribution (sums over cells to value - intercept), alone
        (the decision if the patient had this cell only: the decision is the mean of these), difference (what the cell
        adds beyond an average cell of the typical patient, (alone - reference_value) / n: sums over cells to value -
        reference_value); largest first.
    by_cell : csr_array, shape (cells, concepts)
        CSR float64, contribution of each concept through each cell, ordered as the two tables.
    detailed : ndarray of int64, shape (k,)
        Rows of ``cells`` that are taken apart into tokens.
    by_token : csr_array, shape (k * T, concepts), or None
        CSR float64, contribution of each concept through each token, CLS first; the T rows of a cell sum to its row of
        ``by_cell``; None without tokens.
    logits : ndarray of float64, shape (cells, K)
        Decision of each class from each cell alone (K = 1 for two classes).
    classes : tuple of str
        Names of the classes; with K = 1 the logit is that of the second.
    left_out : int
        Number of the patient's cells that the classifier does not count.
    grid : tuple of int
        Rows and columns of the patches.
    residuals : Residuals
        How exact the sums are.
    """

    patient: str
    target: str
    against: str | None
    kind: Kind
    value: float
    intercept: float
    probabilities: pd.Series
    population: str
    concepts: pd.DataFrame
    cells: pd.DataFrame
    by_cell: sp.csr_array
    detailed: NDArray[np.int64]
    by_token: sp.csr_array | None
    logits: NDArray[np.float64]
    classes: tuple[str, ...]
    left_out: int
    grid: Grid
    residuals: Residuals

    @property
    def n_cells(self) -> int:
        """Cells that the decision is made of."""
        return len(self.cells)

    @property
    def n_tokens(self) -> int:
        """T, tokens of a cell, CLS included."""
        return 1 + math.prod(self.grid)

    @property
    def decided(self) -> str:
        """Class that the classifier calls."""
        if self.logits.shape[1] == 1:
            return self.classes[int(math.fsum(self.logits[:, 0]) > 0)]
        return self.classes[int(np.argmax(self.logits.mean(axis=0)))]

    @property
    def reference_value(self) -> float:
        """Decision of the typical patient; with the differences added it is ``value``."""
        return float(self.intercept + (self.concepts["coefficient"] * self.concepts["reference"]).sum())

    @property
    def typical_token(self) -> NDArray[np.float64]:
        """What an average token of the typical patient would add, by concept: (concepts,).

        Taken off every token, the tokens of a cell sum to its ``difference`` instead of its ``contribution``.
        """
        whole = (self.concepts["coefficient"] * self.concepts["reference"]).to_numpy(dtype=np.float64)
        return whole / (self.n_cells * self.n_tokens)

    def cell_map(self, place: int, latent: int | None = None) -> NDArray[np.float64]:
        """Contribution of each patch of the ``place``-th detailed cell: (rows, columns), one latent or all together.

        The CLS token is left out: `cell_tokens` has it in front.
        """
        return self.cell_tokens(place, latent)[1:].reshape(self.grid)

    def cell_tokens(self, place: int, latent: int | None = None) -> NDArray[np.float64]:
        """Contribution of each token of the ``place``-th detailed cell: (T,), CLS first."""
        if self.by_token is None:
            raise UsageError("This explanation has no tokens; give the SAE and the token store to explain_decision.")
        T = self.n_tokens
        rows = sp.csr_array(self.by_token[place * T : (place + 1) * T])
        if latent is not None:
            rows = sp.csr_array(rows[:, [self.concepts.index.get_loc(latent)]])
        return np.asarray(rows.sum(axis=1), dtype=np.float64).ravel()

"""Patients that were imaged in one go, as far as the running numbers in the names of image files tell.

A microscope that numbers its images one after the other leaves a trace: patients whose slides were brought out of the
archive and imaged together have neighbouring numbers. If they also share a diagnosis, a model can tell the diagnosis by
that day's stain, focus and light, and cross-validation that puts some of them on each side of a split does not see it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

if TYPE_CHECKING:
    from anndata import AnnData

DISJOINT = 0.9
"""Share of neighbouring patients whose numbers must not overlap for them to be taken for running numbers."""
APART = 10.0
"""Times that the median gap between patients must be that between images; less is a list that somebody numbered."""
STRAYS = (0.05, 0.95)
"""Quantiles of a patient's numbers that stand for the first and the last: a few images may have been taken later."""


@dataclass(frozen=True)
class Sessions:
    """When patients were imaged.

    Attributes
    ----------
    order : ndarray of int64, shape (P,)
        Rank of each patient in the order of the numbers, from 0.
    session : ndarray of int64, shape (P,)
        Number of each patient's session; most have one of their own.
    """

    order: NDArray[np.intp]
    session: NDArray[np.intp]

    def together(self) -> list[NDArray[np.intp]]:
        """Rows of the patients of each session that has more than one, the largest first."""
        members = [np.flatnonzero(self.session == number) for number in np.unique(self.session)]
        return sorted((rows for rows in members if len(rows) > 1), key=lambda rows: -len(rows))

    def describe(self, diagnoses: Sequence[str]) -> str:
        """A sentence on who was imaged together; ``diagnoses`` [P]."""
        groups = []
        for rows in self.together():
            counts = Counter(diagnoses[row] for row in rows)
            groups.append(" and ".join(f"{n} {name}" for name, n in counts.most_common()))
        return "; ".join(groups)


def sessions_of(atlas: AnnData, patients: Sequence[str], patient: str = "patient") -> Sessions | None:
    """`imaging_sessions` of named patients of an atlas; None where it names no images."""
    obs: Any = atlas.obs
    if "image" not in obs:
        return None
    rows = pd.Index(patients).get_indexer(pd.Index(obs[patient].astype(str)))
    known = rows >= 0
    return imaging_sessions(obs["image"].astype(str).to_numpy()[known].tolist(), rows[known], len(patients))


def imaging_sessions(images: Sequence[str], patient: NDArray[np.intp], n_patients: int) -> Sessions | None:
    """Who was imaged with whom, by the last number in the name of each image file.

    Had the patients come one by one, at random, the gaps between their numbers would be exponentially distributed. Two
    neighbours are taken for one session where their gap is so small that among all of them one such is expected by
    chance: below median / ln 2 / (P - 1).

    Parameters
    ----------
    images : sequence of str
        [n] names of image files.
    patient : ndarray of int64, shape (n,)
        Row number of each image's patient.
    n_patients : int
        P.

    Returns
    -------
    Sessions or None
        None where the names tell nothing: a patient without numbers, fewer than three patients, numbers that begin anew
        with each patient, or that go on without a gap from one to the next, as those of a list that was numbered later.
    """
    numbers = np.array([_last_number(name) for name in images], dtype=np.float64)
    order = np.argsort(patient, kind="stable")
    of_patient = np.split(numbers[order], np.searchsorted(patient[order], np.arange(1, n_patients)))
    if n_patients < 3 or any(len(mine) == 0 or np.isnan(mine).any() for mine in of_patient):
        return None
    first, last = np.array([np.quantile(mine, STRAYS) for mine in of_patient]).T
    step = np.median((last - first) / np.array([max(len(mine) - 1, 1) for mine in of_patient]))
    by_number = np.argsort(first + last, kind="stable")
    gaps = first[by_number][1:] - last[by_number][:-1]
    if (gaps > 0).mean() < DISJOINT or np.median(gaps) < APART * max(float(step), 1.0):
        return None
    near = gaps < np.median(gaps) / np.log(2) / (n_patients - 1)
    rank, session = np.empty(n_patients, dtype=np.intp), np.empty(n_patients, dtype=np.intp)
    rank[by_number] = np.arange(n_patients)
    session[by_number] = np.concatenate([[0], np.cumsum(~near)])
    return Sessions(rank, session)


def _last_number(name: str) -> float:
    digits = re.findall(r"\d{1,15}", PurePath(name).stem)
    return float(digits[-1]) if digits else float("nan")

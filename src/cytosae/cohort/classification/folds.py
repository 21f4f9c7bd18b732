"""Folds of patients: stratified, grouped, repeated - and the refusal of anything that would leak between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from cytosae.common.errors import InputError


@dataclass(frozen=True)
class Fold:
    """One split of the patients.

    Attributes
    ----------
    repeat, number : which repetition, and which fold of it, from 0
    train, test : int row numbers of patients, sorted, disjoint
    """

    repeat: int
    number: int
    train: NDArray[np.intp]
    test: NDArray[np.intp]


def make_folds(
    y: NDArray[np.integer],
    classes: Sequence[str],
    *,
    folds: int,
    repeats: int = 1,
    groups: NDArray[np.generic] | None = None,
    seed: int = 0,
) -> list[Fold]:
    """Repeated stratified folds of patients.

    Parameters
    ----------
    y : [P] int, class of each patient, an index of ``classes``
    folds, repeats : number of folds, and how often all patients are split anew
    groups : [P] site or imaging session of each patient; the patients of one are never on both sides of a split
    seed : of the shuffles; repetition r uses seed + r

    Returns
    -------
    ``folds * repeats`` folds, repetition by repetition; in each repetition every patient is tested once.

    Raises
    ------
    InputError
        a single class; a class (or the groups) with fewer members than folds, with the most folds possible; groups that
        cannot be split so that every training set has every class.
    """
    counts = np.bincount(y, minlength=len(classes))
    _check_counts(counts, classes, folds, groups)
    made: list[Fold] = []
    for repeat in range(repeats):
        if groups is None:
            splits = StratifiedKFold(folds, shuffle=True, random_state=seed + repeat).split(y, y)
        else:
            splits = StratifiedGroupKFold(folds, shuffle=True, random_state=seed + repeat).split(y, y, groups)
        for number, (train, test) in enumerate(splits):
            absent = [classes[k] for k in range(len(classes)) if not (y[train] == k).any()]
            if absent or not len(test):
                what = f"no {absent[0]} among the training patients" if absent else "a fold without patients"
                raise InputError(
                    f"{folds} folds grouped by site or imaging session leave {what}; use fewer folds, or no grouping."
                )
            made.append(Fold(repeat, number, np.sort(train), np.sort(test)))
    return made


def check_folds(folds: Sequence[Fold], patients: Sequence[str]) -> None:
    """Refuse folds in which one patient is on both sides of a split, or tested twice in a repetition.

    ``patients`` are the names of the rows; a name that stands twice is one patient.

    Raises
    ------
    InputError
        naming the patient.
    """
    names = np.asarray([str(patient) for patient in patients], dtype=object)
    tested: dict[int, set[str]] = {}
    for fold in folds:
        test = [str(name) for name in names[fold.test]]
        both = sorted(set(test) & set(map(str, names[fold.train])))
        twice = sorted(tested.setdefault(fold.repeat, set()) & set(test)) or sorted(
            {n for n in test if test.count(n) > 1}
        )
        if both or twice:
            what = "training and test patients" if both else "two test folds"
            raise InputError(
                f"the patient {(both or twice)[0]!r} is in {what} of the same repetition; give each patient one row."
            )
        tested[fold.repeat] |= set(test)


def refuse_shared_cells(
    cells: pd.DataFrame, *, patient: str = "patient", tokens: NDArray[np.floating] | None = None
) -> None:
    """Refuse an image that stands under two patients, before anything is fitted.

    Parameters
    ----------
    cells : one row a cell, with the column ``patient``; ``cell_id`` is a column or the index
    patient : name of that column
    tokens : [n, D] mean token of each cell; equal rows are equal pictures even where the files' bytes differ (rows of a
        single value, as blank images or stand-ins give, are not compared)

    Raises
    ------
    InputError
        naming the image and both patients.
    """
    ids = np.asarray(cells.get("cell_id", cells.index), dtype=str)
    owners = np.asarray(cells[patient].astype(object).map(str, na_action="ignore").fillna(""), dtype=str)
    known = owners != ""
    _refuse(ids[known].tolist(), ids[known], owners[known], "the image")
    if tokens is not None and len(tokens):
        varied = known & (np.ptp(tokens, axis=1) > 0)
        content = [row.tobytes() for row in np.ascontiguousarray(tokens)[varied]]
        _refuse(content, ids[varied], owners[varied], "the picture")


def _refuse(keys: Sequence[Any], ids: NDArray[np.str_], owners: NDArray[np.str_], what: str) -> None:
    first: dict[Any, int] = {}
    shared: dict[Any, tuple[int, int]] = {}
    for row, key in enumerate(keys):
        before = first.setdefault(key, row)
        if owners[before] != owners[row]:
            shared.setdefault(key, (before, row))
    if not shared:
        return
    a, b = next(iter(shared.values()))
    patients = sorted([str(owners[a]), str(owners[b])])
    more = f" (and {len(shared) - 1} more)" if len(shared) > 1 else ""
    raise InputError(
        f"{what} {str(ids[a])[:12]} stands under the patients {patients[0]!r} and {patients[1]!r}{more}, "
        "so that a test patient would be trained on; remove it from all but its owner."
    )


def _check_counts(
    counts: NDArray[np.integer], classes: Sequence[str], folds: int, groups: NDArray[np.generic] | None
) -> None:
    present = [k for k in range(len(classes)) if counts[k]]
    if len(present) < 2:
        only = classes[present[0]] if present else "none"
        raise InputError(
            f"all patients have the same diagnosis ({only}), so there is nothing to tell apart; add others."
        )
    if folds < 2:
        raise InputError(f"{folds} folds cannot be trained and tested; 2 is the least.")
    rare = int(counts.argmin())
    if counts[rare] < 2:
        raise InputError(
            f"only {counts[rare]} patient has the diagnosis {classes[rare]!r}, so it cannot be both trained on and "
            "tested; leave it out or add patients."
        )
    if counts[rare] < folds:
        raise InputError(
            f"{folds} folds are more than the {counts[rare]} patients of {classes[rare]!r}; {counts[rare]} is the most "
            "possible."
        )
    if groups is not None and len(set(groups.tolist())) < folds:
        n = len(set(groups.tolist()))
        raise InputError(f"{folds} folds are more than the {n} sites or imaging sessions; {n} is the most possible.")


def groups_of_rarest(y: NDArray[np.integer], groups: NDArray[np.generic] | None) -> int:
    """Patients of the rarest class, or groups of the class that is in the fewest: so many folds can be made."""
    if groups is None:
        return int(np.bincount(y)[np.unique(y)].min())
    return min(len(np.unique(groups[y == k])) for k in np.unique(y))

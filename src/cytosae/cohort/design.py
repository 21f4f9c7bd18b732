"""Who can be told from whom, and who belongs together: the one owner of folds, resamples and shuffles of patients."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from math import factorial, prod
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cytosae.common.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[np.float64]
Rows = NDArray[np.intp]
ATTEMPTS = 20
"""Seeds tried for grouped folds: the search for them is greedy and may miss some that exist."""


@dataclass(frozen=True)
class Fold:
    """One split of the patients.

    Attributes
    ----------
    train, test : ndarray of int
        Row numbers of patients, sorted, disjoint.
    seed : int
        Of what is drawn while a model is fitted on ``train``: inner folds, networks.
    repeat, number : int
        Which repetition, and which fold of it, from 0.
    """

    train: Rows
    test: Rows
    seed: int = 0
    repeat: int = 0
    number: int = 0


@dataclass(frozen=True, eq=False)
class Design:
    """The diagnoses of patients and what keeps them together.

    Patients of a group share more than their diagnosis (a site, a day at the microscope), and copies of one patient
    share everything. So a group is on one side of every split, is drawn as a whole, and shuffles respect it.

    Attributes
    ----------
    y : ndarray of int, shape (P,)
        Class of each patient, an index of ``classes``.
    groups : ndarray, shape (P,), or None
        Group of each patient; None where every patient is by itself.
    classes : tuple of str
        Names of the classes.
    by : str
        What a group is, in a word, such as "site"; empty where patients are by themselves.
    codes : ndarray of int, shape (P,)
        The groups as numbers from 0.
    """

    y: NDArray[np.integer]
    groups: NDArray[np.generic] | None = None
    classes: tuple[str, ...] = ()
    by: str = ""
    codes: Rows = field(init=False)

    def __post_init__(self) -> None:
        y = np.asarray(self.y, dtype=np.intp)
        codes = np.arange(len(y)) if self.groups is None else np.unique(self.groups, return_inverse=True)[1]
        names = tuple(self.classes) or tuple(str(k) for k in range(int(y.max(initial=0)) + 1))
        for name, value in {"y": y, "codes": codes.astype(np.intp), "classes": names}.items():
            object.__setattr__(self, name, value)

    @classmethod
    def of(cls, patients: Iterable[str], groups: pd.Series | None = None, y: Rows | None = None) -> Design:
        """The design of named patients, with the group of each from a series by patient; without ``y`` of one class."""
        names = list(patients)
        codes = np.arange(len(names))
        if groups is not None:
            known = groups.reindex(names).astype("category").cat.codes.to_numpy(dtype=np.intp)
            codes = np.where(known < 0, len(names) + codes, known)  # who is in no group is by itself
        return cls(np.zeros(len(names), dtype=np.intp) if y is None else y, codes)

    @cached_property
    def table(self) -> Rows:
        """Patients of each class in each group, shape (groups, K)."""
        table = np.zeros((int(self.codes.max(initial=-1)) + 1, len(self.classes)), dtype=np.intp)
        np.add.at(table, (self.codes, self.y), 1)
        return table

    @property
    def grouped(self) -> bool:
        """Whether any patients belong together."""
        return len(self.table) < len(self.y)

    @property
    def most_folds(self) -> int:
        """As many folds as the class in the fewest groups has groups: in each fold it can be trained on and tested."""
        held = (self.table > 0).sum(0)
        return int(held[held > 0].min())

    def shares(self) -> Array:
        """Share of each class among the patients, shape (K,)."""
        return np.bincount(self.y, minlength=len(self.classes)) / len(self.y)

    def take(self, rows: Rows) -> Design:
        """The design of some patients. A row may stand more than once: copies of a patient belong together."""
        return replace(self, y=self.y[rows], groups=self.codes[rows])

    def group_means(self, values: Array) -> Array:
        """Each patient's value replaced by the mean over its group, shape (P,)."""
        return (np.bincount(self.codes, values) / np.bincount(self.codes))[self.codes]

    def folds(self, number: int, *, repeats: int = 1, seed: int = 0) -> list[Fold]:
        """Repeated stratified folds.

        Parameters
        ----------
        number, repeats : int
            Folds of a repetition, and how often all patients are split anew.
        seed : int
            Repetition r uses seed + r; inner folds of its fold f use seed + 1000 r + f.

        Returns
        -------
        list of Fold
            Repetition by repetition; in each of them every patient is tested once.

        Raises
        ------
        InputError
            A single class; a class, or the groups, with fewer members than folds; a class that is in one group, or
            groups that cannot be split so that every training set has every class.
        """
        self.refuse_few(number)
        self._refuse_groups(number)
        made = []
        for repeat in range(repeats):
            for part, (train, test) in enumerate(self._repetition(number, seed + repeat)):
                made.append(Fold(np.sort(train), np.sort(test), seed + 1000 * repeat + part, repeat, part))
        return made

    def refuse_few(self, number: int = 2) -> None:
        """Refuse a single class, or one with fewer than so many patients; `InputError` names it."""
        counts = self.table.sum(0)
        present = [name for name, n in zip(self.classes, counts, strict=True) if n]
        rare, n = self.classes[int(counts.argmin())], int(counts.min())
        if len(present) < 2:
            only = present[0] if present else "none"
            raise InputError(
                f"all patients have the same diagnosis ({only}), so there is nothing to tell apart; add others."
            )
        if number < 2:
            raise InputError(f"{number} folds cannot be trained and tested; 2 is the least.")
        if n < 2:
            raise InputError(f"only {n} patient has the diagnosis {rare!r}; leave it out or add patients.")
        if n < number:
            raise InputError(f"{number} folds are more than the {n} patients of {rare!r}; {n} is the most possible.")

    def inner_folds(self, number: int, seed: int) -> list[tuple[Rows, Rows]]:
        """Training and test rows of at most so many folds in which a choice is made.

        Each training set has every class; none at all where a class has one patient or is in one group.
        """
        present = np.bincount(self.y)[np.unique(self.y)]
        number = min(number, int(present.min()), len(self.table))
        return self._split(number, seed) if number > 1 else []

    def parts(self, number: int, seed: int = 0) -> list[Rows]:
        """All patients in at most so many parts of about equally many groups, whatever their classes."""
        order = np.random.default_rng(seed).permutation(len(self.table))
        return [np.flatnonzero(np.isin(self.codes, part)) for part in np.array_split(order, min(number, len(order)))]

    def bootstrap(self, draws: int, rng: np.random.Generator) -> Array:
        """How often each patient is drawn in each resample, shape (1 + draws, P); the first row is the cohort itself.

        Groups are drawn with replacement, as many as there are, and with a group all its patients, so that what they
        share stays in the spread between resamples. Groups of one class are drawn among those of this class (patients
        by themselves within their class), groups of several, or the only one of its kind, among one another. A resample
        that lacks a class is drawn again.

        References
        ----------
        Davison and Hinkley 1997, Bootstrap Methods and their Application, section 3.8 (groups drawn, members kept).
        Rutter 2000, Bootstrap estimation of diagnostic accuracy with patient-clustered data, Academic Radiology 7.
        """
        held = self.table > 0
        stratum = np.where(held.sum(1) == 1, held.argmax(1), -1)
        stratum[(stratum[:, None] == stratum).sum(1) == 1] = -1
        if (stratum == -1).sum() == 1:
            stratum[:] = -1
        drawn, rows = np.ones((1 + draws, len(held))), np.arange(1, 1 + draws)
        while len(rows):
            for members in (np.flatnonzero(stratum == kind) for kind in np.unique(stratum)):
                n = len(members)
                drawn[np.ix_(rows, members)] = rng.multinomial(n, np.full(n, 1 / n), size=len(rows))
            rows = rows[(drawn[rows] @ held[:, held.any(0)] == 0).any(1)]
        return drawn[:, self.codes]

    def shuffles(self, number: int, seed: int) -> list[Design]:
        """The diagnoses dealt out anew, so often; see `shuffled`.

        Raises
        ------
        InputError
            No other way to deal them out keeps the groups.
        """
        if number and self.arrangements < 2:
            raise InputError(
                f"the diagnoses cannot be shuffled with groups of patients kept together (by {self.by or 'group'}): in "
                "every group they are the same, and groups of equal size do not differ in them; ask for no shuffles "
                "(shuffles = 0), or for no groups."
            )
        rng = np.random.default_rng(seed)
        return [self.shuffled(rng) for _ in range(number)]

    def shuffled(self, rng: np.random.Generator) -> Design:
        """The diagnoses dealt out anew among those who are exchangeable if the diagnosis shows in nothing.

        Within a group whose patients differ in it, the patients are; what the group shares stands for itself. A group
        whose patients all have one diagnosis hands it, as a whole, to another such group of the same size: patients by
        themselves to one another. Which groups are of which kind does not change, so these permutations form a group,
        and a p from them is exact. A class is in as many groups as before, so that folds can be made as before.

        References
        ----------
        Winkler et al. 2015, Multi-level block permutation, NeuroImage 123 (within and whole blocks of equal size).
        """
        y, alike = self.y.copy(), {}
        for rows in _members(self.codes):
            if (y[rows] == y[rows[0]]).all():
                alike.setdefault(len(rows), []).append(rows)
            else:
                y[rows] = rng.permutation(y[rows])
        for blocks in alike.values():
            given = rng.permutation([self.y[rows[0]] for rows in blocks])
            for rows, k in zip(blocks, given, strict=True):
                y[rows] = k
        return replace(self, y=y)

    @property
    def arrangements(self) -> int:
        """In how many ways `shuffled` can deal the diagnoses out, the one that is there among them."""
        constant = (self.table > 0).sum(1) == 1
        size = self.table.sum(1)
        ways = [_orders(row) for row in self.table[~constant]]
        ways += [_orders((self.table[constant & (size == n)] > 0).sum(0)) for n in np.unique(size[constant])]
        return prod(ways)

    def _repetition(self, number: int, seed: int) -> list[tuple[Rows, Rows]]:
        for attempt in range(ATTEMPTS if self.grouped else 1):
            splits = self._split(number, seed + 1000 * attempt)
            if len(splits) == number:
                return splits
        raise InputError(
            f"{number} folds with groups of patients kept together (by {self.by or 'group'}) leave a class out of a "
            "training set or a fold without patients; use fewer folds, or no groups."
        )

    def _split(self, number: int, seed: int) -> list[tuple[Rows, Rows]]:
        """Folds whose training set has every class, and that test somebody."""
        from sklearn.model_selection import StratifiedKFold  # who reads results need not wait for it

        if self.grouped:
            return list(_grouped_splits(tuple(self.y.tolist()), tuple(self.codes.tolist()), number, seed))
        return list(StratifiedKFold(number, shuffle=True, random_state=seed).split(self.y, self.y))

    def _refuse_groups(self, number: int) -> None:
        held, words = (self.table > 0).sum(0), f"groups of patients that are kept together (by {self.by or 'group'})"
        if len(self.table) < number:
            most = len(self.table)
            raise InputError(f"{number} folds are more than the {most} {words}; {most} is the most possible.")
        if held.min() < 2:
            only = self.classes[int(held.argmin())]
            raise InputError(
                f"all patients with {only!r} are in one of the {words}, so they cannot be both trained on and tested; "
                "leave this diagnosis out, or use no groups."
            )


@dataclass(frozen=True)
class Intervals:
    """How intervals are made: by resampling patients, or the groups that they belong to.

    Attributes
    ----------
    confidence : float
        Coverage.
    resamples : int
        How often.
    seed : int
        Of the resamples.
    groups : Series or None
        Site or session of each patient, index patient; a group is drawn as a whole. None: patients by themselves.
    """

    confidence: float = 0.95
    resamples: int = 2000
    seed: int = 0
    groups: pd.Series | None = None

    def ends(self, draws: NDArray[np.floating]) -> NDArray[np.floating]:
        """Percentiles over the first axis, [low, high] along a new one."""
        return np.quantile(draws, [(1 - self.confidence) / 2, (1 + self.confidence) / 2], axis=0)

    def mean(self, values: Array, patients: Sequence[str]) -> tuple[float, float, float]:
        """Mean over patients with its interval; the same resamples for the same patients."""
        weights = Design.of(patients, self.groups).bootstrap(self.resamples, np.random.default_rng(self.seed))
        draws = weights @ values / weights.sum(1)
        low, high = self.ends(draws[1:])
        return float(draws[0]), float(low), float(high)


def _members(codes: Rows) -> list[Rows]:
    return np.split(np.argsort(codes, kind="stable"), np.cumsum(np.bincount(codes))[:-1])


def _orders(counts: Iterable[int]) -> int:
    """In how many orders so many things of each kind can be laid out."""
    numbers = [int(n) for n in counts]
    return factorial(sum(numbers)) // prod(factorial(n) for n in numbers)


@lru_cache(maxsize=256)
def _grouped_splits(
    classes: tuple[int, ...], groups: tuple[int, ...], number: int, seed: int
) -> tuple[tuple[Rows, Rows], ...]:
    """Kept, since every model asks for the same inner folds of a fold's training patients, and a split takes 20 ms."""
    from sklearn.model_selection import StratifiedGroupKFold

    y = np.array(classes)
    made = StratifiedGroupKFold(number, shuffle=True, random_state=seed).split(y, y, groups)
    present = len(np.unique(y))
    return tuple((train, test) for train, test in made if len(test) and len(np.unique(y[train])) == present)

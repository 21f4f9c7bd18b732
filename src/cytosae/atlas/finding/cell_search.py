"""Cells that have some concepts and not others, or much of some: exact, ranked, and each hit says why."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cytosae.common.errors import UsageError

LONGEST = 400
MOST_LATENTS = 32
_JOINS, _TURNS, _FILLERS = (re.compile(rf"\b(?:{words})\b") for words in ("and", "not|without", "has|have|with"))
_CLAUSE = re.compile(r"(not )?\d{1,9}( or \d{1,9})*", re.ASCII)
Column = Callable[[int], tuple[NDArray[np.integer], NDArray[np.floating]]]


@dataclass(frozen=True)
class Clause:
    """One condition: a cell has at least one of these latents, or none of them where ``negated``."""

    latents: tuple[int, ...]
    negated: bool = False

    def __str__(self) -> str:
        return ("not " if self.negated else "has ") + " or ".join(map(str, self.latents))


@dataclass(frozen=True)
class Hit:
    """A cell that was found.

    ``because`` holds (latent, activation, its share of the largest on any cell) of each latent that speaks for it;
    ``score``, 0 to 1, is a mean of these shares.
    """

    row: int
    score: float
    because: tuple[tuple[int, float, float], ...]


def side_by_side(columns: Sequence[Column], starts: Sequence[int]) -> Column:
    """The columns of several atlases of one SAE as those of one, the rows of each after those of the one before.

    What is found in them, and its scores, are those of an atlas of all cells together.

    Parameters
    ----------
    columns : sequence of callable
        The columns of each atlas.
    starts : sequence of int
        The row at which its cells begin, 0 for the first.
    """
    if len(columns) == 1:
        return columns[0]

    def column(latent: int) -> tuple[NDArray[np.integer], NDArray[np.floating]]:
        found = [of(latent) for of in columns]
        rows = [start + rows for start, (rows, _) in zip(starts, found, strict=True)]
        return np.concatenate(rows), np.concatenate([values for _, values in found])

    return column


def parse_conditions(text: str) -> tuple[Clause, ...]:
    """Read ``has 12 and 40, not 7``: conditions joined by *and* or a comma, of numbers joined by *or*.

    Parameters
    ----------
    text : str
        *has* may be left out; *not* or *without* turns a condition round.

    Raises
    ------
    UsageError
        The text says something else, asks for nothing, or for too much.
    """
    if len(text) > LONGEST:
        raise UsageError(f"The search has {len(text)} characters; ask with at most {LONGEST}.")
    plain = _FILLERS.sub(" ", _TURNS.sub(", not ", _JOINS.sub(",", text.lower())))
    parts = [" ".join(part.split()) for part in plain.split(",")]
    clauses = []
    for part in filter(None, parts):
        if not _CLAUSE.fullmatch(part):
            raise UsageError(f"{part[:40]!r} is not understood; write e.g.: has 12 and 40, not 7.")
        numbers = tuple(int(number) for number in re.findall(r"\d+", part))
        clauses.append(Clause(numbers, part.startswith("not")))
    if not any(not clause.negated for clause in clauses):
        raise UsageError("Ask for at least one concept that the cells have, e.g.: has 12 and 40, not 7.")
    if sum(len(clause.latents) for clause in clauses) > MOST_LATENTS:
        raise UsageError(f"The search names more than {MOST_LATENTS} concepts; name fewer.")
    return tuple(clauses)


def search_cells(
    clauses: Sequence[Clause], column: Column, *, cells: int, latents: int, limit: int | None = None
) -> tuple[list[Hit], int]:
    """Find the cells that meet all conditions, best first: scored by the mean share over those that ask for a latent.

    Parameters
    ----------
    clauses : sequence of Clause
        At least one of them not negated.
    column : callable
        Latent -> rows of the cells on which it is active, ascending, and its activation on each.
    cells, latents : int
        Numbers of cells and latents of the atlas.
    limit : int or None
        Hits to give, all where None.

    Returns
    -------
    list of Hit, int
        The hits, and how many there are in all.

    Raises
    ------
    UsageError
        A latent that there is not.
    """
    named = [latent for clause in clauses for latent in clause.latents]
    if max(named) >= latents:
        raise UsageError(f"There is no latent {max(named)}; they are 0 to {latents - 1}.")
    active = {latent: column(latent) for latent in named}
    meets = np.ones(cells, bool)
    score = np.zeros(cells)
    best = {}
    for clause in clauses:
        shares = np.zeros(cells)
        which = np.full(cells, -1)
        for latent in clause.latents:
            rows, values = active[latent]
            share = values / values.max(initial=np.finfo(np.float32).tiny)
            better = share > shares[rows]
            shares[rows[better]], which[rows[better]] = share[better], latent
        meets &= (which < 0) if clause.negated else (which >= 0)
        if not clause.negated:
            score += shares
            best[clause] = (shares, which)
    rows = np.flatnonzero(meets)
    order = rows[np.argsort(-score[rows], kind="stable")]
    found = []
    for row in order[:limit]:
        because = []
        for shares, which in best.values():
            latent = int(which[row])
            at, values = active[latent]
            because.append((latent, float(values[np.searchsorted(at, row)]), float(shares[row])))
        found.append(Hit(int(row), float(score[row] / len(best)), tuple(because)))
    return found, len(rows)


def rank_cells(
    weights: Mapping[int, float], column: Column, *, cells: int, limit: int | None = None, but: int | None = None
) -> tuple[list[Hit], int]:
    """Cells that have most of some latents, best first.

    Parameters
    ----------
    weights : mapping of int to float
        Weight of each latent, > 0.
    column : callable
        Latent -> rows of the cells on which it is active, ascending, and its activation on each.
    cells : int
        Number of cells of the atlas.
    limit : int or None
        Hits to give, all where None.
    but : int or None
        A row to leave out.

    Returns
    -------
    list of Hit, int
        The hits, and how many cells have any of the latents. The score is sum(w s) / sum(w) over the latents, s the
        activation as a share of the largest on any cell; ``because`` names those that add to it, most first.
    """
    total, score, active = sum(weights.values()), np.zeros(cells), {}
    for latent, weight in weights.items():
        rows, values = column(latent)
        largest = values.max(initial=np.finfo(np.float32).tiny)
        active[latent] = (rows, values, largest)
        score[rows] += weight / total * (values / largest)
    if but is not None:
        score[but] = 0
    found = np.flatnonzero(score > 0)
    order = found[np.argsort(-score[found], kind="stable")]

    def reasons(row: int) -> Iterator[tuple[int, float, float]]:
        for latent, (rows, values, largest) in active.items():
            at = np.searchsorted(rows, row)
            if at < len(rows) and rows[at] == row:
                yield latent, float(values[at]), float(values[at] / largest)

    def because(row: int) -> tuple[tuple[int, float, float], ...]:
        return tuple(sorted(reasons(row), key=lambda reason: -weights[reason[0]] * reason[2]))

    return [Hit(int(row), float(score[row]), because(row)) for row in order[:limit]], len(found)

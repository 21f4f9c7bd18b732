"""How structures are searched for in maps, and parts of images painted out; nothing here computes, for a quick help."""

from __future__ import annotations

from dataclasses import dataclass

from cytosae.common.errors import UsageError


@dataclass(frozen=True)
class Part:
    """One of several parts into which the cells of a data set are cut, about equal.

    Attributes
    ----------
    number : int
        From 1.
    of : int
        Number of parts.
    """

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Part:
        """Read ``2/8``, the second of eight parts."""
        number, _, of = text.partition("/")
        digits = all(one.isascii() and one.isdigit() and len(one) < 7 for one in (number, of))
        if not digits or not 1 <= int(number) <= int(of):
            raise UsageError(f"--part is {text!r}; write the number of a part and how many there are, e.g. 2/8.")
        return cls(int(number), int(of))

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"


@dataclass(frozen=True)
class LocalisationConfig:
    """How the search is done.

    Attributes
    ----------
    cells : int
        At most so many cells with masks are used, spread evenly over all of them.
    search_share : float
        Share of each data set's cells on which unit and threshold are chosen.
    thresholds : int
        Candidate thresholds of a unit, at quantiles of its values.
    bootstrap : int
        Resamples of the held-out cells behind each interval.
    confidence : float
        Coverage of the intervals.
    permutations : int
        Pairings of maps with masks of other cells behind the chance level.
    seed : int
        Of the split, the resamples and the pairings.
    """

    cells: int = 400
    search_share: float = 0.5
    thresholds: int = 32
    bootstrap: int = 2000
    confidence: float = 0.95
    permutations: int = 20
    seed: int = 0


@dataclass(frozen=True)
class GazeConfig:
    """How it is found where a concept looks.

    Attributes
    ----------
    marked : int
        Patches, the strongest of a map, that are painted out at most; 24 are a tenth of 256.
    draws : int
        Sets of as many random patches.
    seed : int
        Of these.
    """

    marked: int = 24
    draws: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("marked", "draws"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}; give at least 1.")

"""How structures are searched for in maps; nothing here computes, so that the command line reads it quickly."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LocalisationConfig:
    """How the search is done.

    Attributes
    ----------
    cells : at most so many cells with masks are used, spread evenly over all of them
    search_share : share of each data set's cells on which unit and threshold are chosen
    thresholds : candidate thresholds of a unit, at quantiles of its values
    bootstrap : resamples of the held-out cells behind each interval
    confidence : coverage of the intervals
    permutations : pairings of maps with masks of other cells behind the chance level
    seed : of the split, the resamples and the pairings
    """

    cells: int = 400
    search_share: float = 0.5
    thresholds: int = 32
    bootstrap: int = 2000
    confidence: float = 0.95
    permutations: int = 20
    seed: int = 0

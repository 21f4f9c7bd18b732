"""What an atlas says of every latent: each statistic is a line in `STATISTICS`, from which columns and pages follow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cytosae.atlas.making.statistics import LatentStatistics, class_selectivity, label_entropy


@dataclass(frozen=True)
class Counted:
    """What statistics are made from: the counts of one pass over the cells.

    Attributes
    ----------
    counts : LatentStatistics
        Of m latents.
    labels : ndarray of int64, shape (n,)
        Class of each cell, or -1.
    classes : tuple of str
        Their names.
    """

    counts: LatentStatistics
    labels: NDArray[np.int64]
    classes: tuple[str, ...]

    @cached_property
    def class_means(self) -> NDArray[np.float64]:
        """(m, C) mean activation on the cells of each class."""
        return self.counts.class_means()

    @cached_property
    def reference_labels(self) -> NDArray[np.int64]:
        """(m, k) classes of the reference cells, or -1."""
        rows = self.counts.reference_rows
        return np.where(rows >= 0, self.labels[rows], -1) if len(self.labels) else rows


@dataclass(frozen=True)
class LatentStatistic:
    """A column of an atlas's ``var``.

    Attributes
    ----------
    of : callable
        `Counted` to m values.
    title : str
        What pages call it; empty where they do not show it.
    shown : {"percent", "number", "count"}
        How.
    first : bool
        Whether it is shown before the rest is unfolded.
    beside_random : bool
        Whether it is shown beside what random latents have, for it says how good a latent is.
    """

    of: Callable[[Counted], Any]
    title: str = ""
    shown: Literal["percent", "number", "count"] = "number"
    first: bool = False
    beside_random: bool = False


def _entropy(known: Counted) -> NDArray[np.float64]:
    return label_entropy(known.counts.reference_values, known.reference_labels, max(len(known.classes), 1))


def _top_class(known: Counted) -> pd.Categorical:
    means = np.nan_to_num(known.class_means)
    top = np.where(means.max(1, initial=0) > 0, means.argmax(1) if known.classes else 0, -1)
    return pd.Categorical.from_codes(top, known.classes)


STATISTICS: dict[str, LatentStatistic] = {
    "activation_frequency": LatentStatistic(
        lambda known: known.counts.activation_frequency(), "Cells active", "percent", first=True
    ),
    "token_frequency": LatentStatistic(lambda known: known.counts.token_frequency(), "Tokens active", "percent"),
    "cells_active": LatentStatistic(lambda known: known.counts.cells_active, "Number of cells active", "count"),
    "mean_activation": LatentStatistic(lambda known: known.counts.mean_activation(), "Mean activation", first=True),
    "max_activation": LatentStatistic(lambda known: known.counts.reference_values[:, 0].astype(np.float64)),
    "max_token_activation": LatentStatistic(lambda known: known.counts.token_max.astype(np.float64), "Strongest token"),
    "label_entropy": LatentStatistic(_entropy, "Label entropy, nats", first=True, beside_random=True),
    "class_selectivity": LatentStatistic(
        lambda known: class_selectivity(known.class_means), "Class selectivity", beside_random=True
    ),
    "top_class": LatentStatistic(_top_class),
    "position_dependence": LatentStatistic(
        lambda known: known.counts.position_dependence(), "Position dependence", beside_random=True
    ),
    "central_share": LatentStatistic(
        lambda known: known.counts.central_share(), "Central share", "percent", first=True, beside_random=True
    ),
}
"""Column -> statistic, in the order of the columns; docs/atlas.md has their formulae."""


def latent_table(counts: LatentStatistics, labels: NDArray[np.int64], classes: tuple[str, ...]) -> pd.DataFrame:
    """``var`` of an atlas: every statistic of every latent, index "0" to m - 1."""
    known = Counted(counts, labels, classes)
    index = pd.Index([str(latent) for latent in range(counts.n_latents)], name="latent")
    return pd.DataFrame({name: statistic.of(known) for name, statistic in STATISTICS.items()}, index=index)

"""Without the latents that go with the image: does a cell type carry over to other stains, and is the stain gone?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.linear_model import RidgeCV
from sklearn.metrics import r2_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from cytosae.common.errors import InputError
from cytosae.common.progress import progress
from cytosae.evaluation.config import SuppressionConfig
from cytosae.evaluation.unit_scores import linear_probe

Choose = Callable[[NDArray[np.intp]], NDArray[np.intp]]
"""From rows of cells to the latents that are suppressed: the choice sees these cells only."""
FEWEST = 3
"""Cells of a type that a stain must have in the part on which probes are fitted."""
NEAREST = 20
"""Latents of the nearest activation frequency among which a control is drawn."""
MEASURES: dict[str, str] = {
    "within": "cell type, in the stain of the probe, balanced accuracy",
    "across": "cell type, in the other stains, balanced accuracy",
    "stain": "stain, balanced accuracy",
    "gained": "cells of other stains that become right, share",
    "lost": "cells of other stains that become wrong, share",
    "recovered": "suppressed activations told from what remains, R²",
}
"""Measure -> words."""


@dataclass(frozen=True)
class Suppression:
    """What suppressing latents does to linear probes on mean tokens.

    Attributes
    ----------
    table : DataFrame
        One row for each of `MEASURES`: ``measure``; ``before``, ``after`` (means over the splits) with ``_low`` and
        ``_high`` (least and most); ``random`` (mean over draws of as many other latents), with ``random_low`` and
        ``random_high``, within which the middle 95 % of the draws' means lie; ``beyond``: "more", "less" or "no",
        whether ``after`` is outside that band.
    transfers : DataFrame
        Balanced accuracy for cell type, a row for each ``fitted_in`` and ``asked_in``: ``before``, ``after``,
        ``random``.
    facts : dict of str to object
        ``latents`` (mean number suppressed), ``frequency`` and ``random_frequency`` (their mean activation frequency
        and that of the random ones), ``cells`` (asked, mean), ``types``, ``stains``, ``chance`` (balanced accuracy of
        a guess of the stain).
    """

    table: pd.DataFrame
    transfers: pd.DataFrame
    facts: dict[str, Any]


@dataclass(frozen=True)
class LabelledCells:
    """What is known of n cells.

    Attributes
    ----------
    values : csr_array, shape (n, m)
        Mean activation of each latent.
    means : ndarray of float, shape (n, D)
        Mean token.
    types, stains : ndarray of str, shape (n,)
        Cell type, and the laboratory, site or scanner whose stain it has.
    units : ndarray, shape (n,)
        Cells of one unit, such as a patient, are in one part.
    """

    values: Any
    means: NDArray[np.floating]
    types: NDArray[Any]
    stains: NDArray[Any]
    units: NDArray[Any]


def measure_suppression(
    cells: LabelledCells,
    directions: NDArray[np.floating],
    choose: Choose,
    config: SuppressionConfig | None = None,
) -> Suppression:
    """Suppress the latents that ``choose`` names and see what linear probes on mean tokens can still tell.

    A latent j of the set S is taken out of every token: x becomes x - sum_j a_j d_j, so that the mean token of a cell
    becomes mean - sum_j A_j d_j, A the mean activations. In each split a third of the units of each stain chooses, on a
    third probes are fitted, on a third they are asked; fitted and asked are both suppressed. Cell type: a probe fitted
    on the cells of one stain, asked on every stain. Stain: one probe of all cells. Recovered: ridge regression from the
    suppressed mean tokens to the standardised activations A_S; R², mean over latents.

    Parameters
    ----------
    directions : ndarray of float, shape (m, D)
        What an activation of 1 adds to a token, see `cytosae.atlas.token_directions`.
    choose : callable
        See `Choose`.
    config : SuppressionConfig or None
        See there.

    Raises
    ------
    InputError
        There are fewer than two stains, fewer than two types that all stains have, or nothing is chosen.
    """
    config = config or SuppressionConfig()
    found, transfers, sizes = list[dict[str, Any]](), list[dict[str, Any]](), list[dict[str, float]]()
    trials = [_Trial(cells, directions, config.seed + split) for split in range(config.splits)]
    with progress("Suppression", config.splits * (config.controls + 2), "sets of latents") as bar:
        for split, trial in enumerate(trials):
            chosen = np.asarray(choose(trial.chooses), np.intp)
            if not len(chosen):
                raise InputError("No latent is to be suppressed: none goes with the image by the rule.")
            sets = [np.zeros(0, np.intp), chosen, *trial.controls(chosen, config.controls)]
            for draw, latents in enumerate(sets):
                scores, pairs = trial.ask(latents)
                keys = {"split": split, "draw": draw - 2, "state": ("before", "after", "random")[min(draw, 2)]}
                found += [{**keys, "measure": name, "value": value} for name, value in scores.items()]
                transfers += [{**keys, **pair} for pair in pairs]
                bar.advance(1)
            sizes.append(trial.described(chosen, sets[2:]))
    facts = {name: float(np.mean([one[name] for one in sizes])) for name in sizes[0]}
    names = sorted({name for trial in trials for name in trial.names})
    facts |= {"types": names, "stains": trials[0].stains, "chance": 1 / len(trials[0].stains)}
    pairs = pd.DataFrame(transfers).pivot_table(
        "accuracy", ["fitted_in", "asked_in"], "state", aggfunc="mean", sort=False
    )
    return Suppression(_summary(pd.DataFrame(found)), pairs.reset_index().rename_axis(columns=None), facts)


class _Trial:
    """One split: rows that choose, rows on which probes are fitted, rows that are asked."""

    def __init__(self, cells: LabelledCells, directions: NDArray[np.floating], seed: int) -> None:
        self.cells, self.directions, self.rng = cells, directions, np.random.default_rng([seed, 11])
        parts = _thirds(cells, self.rng)
        self.chooses = parts[0]
        self.stains = [str(name) for name in np.unique(cells.stains)]
        self.names = [str(name) for name in _shared_types(cells, parts[1], self.stains)]
        if len(self.stains) < 2 or len(self.names) < 2:
            raise InputError(
                f"{len(self.stains)} stains share {len(self.names)} cell types with {FEWEST} cells or more in a third "
                "of the cells of each; two of both are needed: take more cells, or another column."
            )
        self.fitted, self.asked = (part[np.isin(cells.types[part], self.names)] for part in parts[1:])
        self.frequency = np.bincount(cells.values[self.chooses].indices, minlength=cells.values.shape[1])
        self.right: NDArray[np.bool_] | None = None

    def controls(self, chosen: NDArray[np.intp], count: int) -> list[NDArray[np.intp]]:
        """Sets of as many other latents, matched in activation frequency."""
        return [matched_in_frequency(self.frequency, chosen, self.rng) for _ in range(count)]

    def described(self, chosen: NDArray[np.intp], controls: list[NDArray[np.intp]]) -> dict[str, float]:
        share = self.frequency / len(self.chooses)
        return {
            "latents": len(chosen),
            "cells": len(self.asked),
            "frequency": float(share[chosen].mean()),
            "random_frequency": float(np.mean([share[one].mean() for one in controls])),
        }

    def ask(self, latents: NDArray[np.intp]) -> tuple[dict[str, float], list[dict[str, Any]]]:
        """The measures without these latents, and the accuracy from each stain to each; first called for none."""
        cells, asked = self.cells, self.asked
        removed = cells.values[:, latents].toarray() if len(latents) else np.zeros((len(cells.means), 0))
        means = cells.means - removed @ self.directions[latents]
        pairs, right = [], []
        for fitted_in in self.stains:
            rows = self.fitted[cells.stains[self.fitted] == fitted_in]
            said = linear_probe().fit(means[rows], cells.types[rows]).predict(means[asked])
            for asked_in in self.stains:
                here = cells.stains[asked] == asked_in
                accuracy = _balanced(cells.types[asked][here], said[here])
                pairs.append({"fitted_in": fitted_in, "asked_in": asked_in, "accuracy": accuracy})
            right.append((said == cells.types[asked])[cells.stains[asked] != fitted_in])
        hits = np.concatenate(right)
        self.right = hits if self.right is None else self.right
        of_stain = linear_probe().fit(means[self.fitted], cells.stains[self.fitted]).predict(means[asked])
        own = [pair["fitted_in"] == pair["asked_in"] for pair in pairs]
        accuracy = np.array([pair["accuracy"] for pair in pairs])
        scores = {
            "within": float(accuracy[own].mean()),
            "across": float(accuracy[~np.array(own)].mean()),
            "stain": _balanced(cells.stains[asked], of_stain),
            "gained": float((hits & ~self.right).mean()),
            "lost": float((~hits & self.right).mean()),
        }
        if len(latents):
            scores["recovered"] = self._recovered(means, removed)
        return scores, pairs

    def _recovered(self, means: NDArray[np.floating], removed: NDArray[np.floating]) -> float:
        """R² of the suppressed activations, mean over the latents that vary among the cells that are asked."""
        varied = (removed[self.fitted].std(0) > 0) & (removed[self.asked].std(0) > 0)
        if not varied.any():
            return float("nan")
        y = StandardScaler().fit(removed[self.fitted][:, varied])
        model = make_pipeline(StandardScaler(), RidgeCV(np.logspace(0, 4, 5)))
        model.fit(means[self.fitted], y.transform(removed[self.fitted][:, varied]))
        told = np.asarray(model.predict(means[self.asked])).reshape(len(self.asked), -1)
        return float(r2_score(y.transform(removed[self.asked][:, varied]), told))


def matched_in_frequency(
    frequency: NDArray[np.number], chosen: NDArray[np.intp], rng: np.random.Generator
) -> NDArray[np.intp]:
    """As many latents as are chosen, each drawn from the `NEAREST` others of the nearest activation frequency.

    Parameters
    ----------
    frequency : ndarray, shape (m,)
        Of every latent.
    chosen : ndarray of int, shape (k,)
        None of them is drawn; no latent is drawn twice while others are left.

    Returns
    -------
    ndarray of int, shape (k,)
    """
    others = np.setdiff1d(np.arange(len(frequency)), chosen)
    others = others[np.argsort(frequency[others], kind="stable")]
    if len(others) < len(chosen):
        raise InputError(
            f"{len(chosen)} of {len(frequency)} latents are to be suppressed, and {len(others)} others are too few to "
            "compare with; suppress fewer."
        )
    drawn, left = [], others.tolist()
    for latent in rng.permutation(chosen):
        known = frequency[left]
        at = int(np.searchsorted(known, frequency[latent]))
        low = min(max(at - NEAREST // 2, 0), max(len(left) - NEAREST, 0))
        drawn.append(left.pop(int(rng.integers(low, min(low + NEAREST, len(left))))))
    return np.array(drawn, np.intp)


def _balanced(truth: NDArray[Any], said: NDArray[Any]) -> float:
    """Share of right answers, mean over the classes that there are."""
    return float(np.mean([(said[truth == name] == name).mean() for name in np.unique(truth)]))


def _thirds(cells: LabelledCells, rng: np.random.Generator) -> list[NDArray[np.intp]]:
    """Rows in three parts, with a third of the units of each stain in each."""
    part = np.zeros(len(cells.stains), np.intp)
    for stain in np.unique(cells.stains):
        here = np.flatnonzero(cells.stains == stain)
        units, of = np.unique(cells.units[here], return_inverse=True)
        if len(units) < 3:  # patients too few to keep apart: their cells are dealt out
            units, of = here, np.arange(len(here))
        part[here] = rng.permutation(np.arange(len(units)) % 3)[of]
    return [np.flatnonzero(part == i) for i in range(3)]


def _shared_types(cells: LabelledCells, rows: NDArray[np.intp], stains: list[str]) -> NDArray[Any]:
    names, counts = np.unique(cells.types), list[list[int]]()
    for stain in stains:
        here = cells.types[rows][cells.stains[rows] == stain]
        counts.append([int((here == name).sum()) for name in names])
    return names[(np.array(counts) >= FEWEST).all(0)]


def _summary(found: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for measure in MEASURES:
        here: Any = found[found["measure"] == measure]
        row: dict[str, Any] = {"measure": measure}
        for state in ("before", "after"):
            values = here.loc[here["state"] == state, "value"]
            ends = (values.mean(), values.min(), values.max())
            row |= dict(zip((state, f"{state}_low", f"{state}_high"), ends, strict=True))
        draws = here[here["state"] == "random"].groupby("draw")["value"].mean()
        low, high = draws.quantile(0.025), draws.quantile(0.975)
        beyond = "more" if row["after"] > high else "less" if row["after"] < low else "no"
        rows.append(row | {"random": draws.mean(), "random_low": low, "random_high": high, "beyond": beyond})
    return pd.DataFrame(rows)

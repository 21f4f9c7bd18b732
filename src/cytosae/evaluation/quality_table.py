"""What was measured of a dictionary beside its controls, and on which measures it wins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

SUBJECT = "SAE"
RANDOM_WEIGHTS = "random weights, as often active"
"""The control that has learnt nothing."""
MEASURES: dict[str, tuple[str, int]] = {
    "l0": ("active units of a token (L0)", 0),
    "explained_variance": ("variance explained, relative to the mean token", 1),
    "dead_share": ("units that are never active", 0),
    "dense_share": ("units active on more than a tenth of the tokens", 0),
    "probe_1": ("best single unit for a cell type, AUC", 1),
    "probe_5": ("probe of five units for a cell type, AUC", 1),
    "reconstruction_probe": ("cell type from reconstructed tokens, balanced accuracy", 1),
    "remaining_block": ("cell type after the remaining blocks, balanced accuracy", 1),
    "monosemanticity": ("monosemanticity score", 1),
    "spatial_structure": ("spatial structure: Moran's I less that of shuffled patches", 1),
    "localisation": ("best unit for a structure of the cell, IoU less chance", 1),
    "stability": ("matched cosine with an SAE of another seed", 1),
}
"""Measure -> words, and whether more is better (1) or it only describes (0)."""
OF_DICTIONARY = ("localisation", "stability")
"""Measures of the dictionary as a whole, the same on every data set."""


@dataclass(frozen=True)
class DictionaryQuality:
    """What was measured.

    Attributes
    ----------
    table : DataFrame
        One row for each measure and family: ``measure``, ``family``, ``value`` (median over the halves),
        ``value_low``, ``value_high`` (least and most over the halves).
    verdicts : DataFrame
        One row for each measure on which more is better: ``measure``, ``sae``, ``control`` (the best one), ``best``
        (its value), ``lead_low`` (the SAE's least less the control's most), ``lead_high`` (its most less the control's
        least), ``beats`` ("yes": ``lead_low`` is above 0, "no": ``lead_high`` is below 0, or "open").
    facts : dict of str to object
        ``cells``, ``classes``, ``outlier_ratio`` (norm of the mean token over the root mean square deviation from it).
    """

    table: pd.DataFrame
    verdicts: pd.DataFrame
    facts: dict[str, Any] = field(default_factory=dict)


def read_quality(file: Path) -> DictionaryQuality | None:
    """What `cytosae atlas quality` has left as a table, None where there is none; no facts."""
    try:
        table = pd.read_csv(file)
        return DictionaryQuality(table, verdicts_of(table))
    except (OSError, ValueError, KeyError):
        return None


def with_rows(quality: DictionaryQuality, rows: Sequence[Mapping[str, Any]]) -> DictionaryQuality:
    """The same with further rows of the table, such as those of `localisation_rows` and `stability_rows`."""
    table = pd.concat([quality.table, pd.DataFrame(list(rows))], ignore_index=True)
    return DictionaryQuality(table, verdicts_of(table), quality.facts)


def localisation_rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows of a `Localisation` table: IoU less chance of the best unit of each family, meaned over structures."""
    names = {
        "SAE latent": SUBJECT,
        "backbone neuron": "backbone neurons",
        "principal component": "principal components",
        "fixed map": "usual place in the image",
    }
    mean = table[table["family"].isin(list(names))].groupby("family")[["gain", "gain_low", "gain_high"]].mean()
    return [
        {"measure": "localisation", "family": names[str(family)], "value": a, "value_low": b, "value_high": c}
        for family, a, b, c in mean.itertuples()
    ]


def stability_rows(likeness: NDArray[Any], by_chance: float) -> list[dict[str, Any]]:
    """Matched cosines of an SAE with one of another seed: mean and quartiles, beside random directions."""
    low, high = np.quantile(likeness, [0.25, 0.75])
    row = {"value": float(np.mean(likeness)), "value_low": float(low), "value_high": float(high)}
    chance = {"value": by_chance, "value_low": by_chance, "value_high": by_chance}
    return [
        {"measure": "stability", "family": SUBJECT, **row},
        {"measure": "stability", "family": "random directions", **chance},
    ]


def verdicts_of(table: pd.DataFrame, *, against: str | None = None) -> pd.DataFrame:
    """``DictionaryQuality.verdicts`` of its ``table``; ``against``: beside this control alone."""
    rows = []
    for measure, (_, better) in MEASURES.items():
        here = table[(table["measure"] == measure) & (table["family"] != "tokens themselves")].set_index("family")
        controls = here.drop(index=[SUBJECT], errors="ignore").dropna()
        controls = controls.drop(index="another seed", errors="ignore")
        controls = controls if against is None else controls.loc[controls.index == against]
        if not better or SUBJECT not in here.index or controls.empty:
            continue
        sae, best = here.loc[SUBJECT], str(controls["value"].idxmax())
        other = controls.loc[best]
        low, high = (float(sae[a] - other[b]) for a, b in (("value_low", "value_high"), ("value_high", "value_low")))
        beats = "yes" if low > 0 else "no" if high < 0 else "open"
        rows.append((measure, float(sae["value"]), best, float(other["value"]), low, high, beats))
    columns = ["measure", "sae", "control", "best", "lead_low", "lead_high", "beats"]
    return pd.DataFrame(rows, columns=pd.Index(columns))

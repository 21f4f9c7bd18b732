"""Negative control: the whole procedure on shuffled diagnoses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from cytosae.cohort.classification.assessment import Advance, Trial, run
from cytosae.cohort.classification.cohort_arrays import CohortArrays
from cytosae.cohort.classification.models import Model
from cytosae.cohort.classification.recommendation import recommend
from cytosae.cohort.config import ClassificationConfig


def shuffled_trials(data: CohortArrays, config: ClassificationConfig) -> list[Trial]:
    """The diagnoses dealt out anew (`Design.shuffles`), each time in one repetition of folds of their own.

    All of them are made before anything is fitted, so that what cannot be shuffled is refused before.
    """
    brief = replace(config, repeats=1, bootstrap=0)
    designs = data.design.shuffles(config.shuffles, config.seed)
    return [Trial.of(data, design, brief, config.seed + number) for number, design in enumerate(designs)]


def shuffled_diagnoses(models: Sequence[Model], trials: Sequence[Trial], advance: Advance) -> pd.DataFrame:
    """Go the whole way with shuffled diagnoses: nested folds of every candidate, splits by colour, the choice.

    Returns
    -------
    DataFrame
        Columns shuffle, model, auroc, auroc_split, chosen (by the rule). The AUROC of the chosen one, in the folds that
        it was chosen in, shows how much the choice flatters.
    """
    rows = []
    for number, trial in enumerate(trials):
        measured = [run(model, trial, advance) for model in models]
        chosen = recommend(measured)[0].model.name
        for one in measured:
            name = one.model.name
            split = float(one.aurocs.get("auroc_split", [np.nan])[0])
            facts = {"shuffle": number, "model": name, "auroc": float(one.aurocs["auroc"][0]), "auroc_split": split}
            rows.append({**facts, "chosen": name == chosen})
    return pd.DataFrame(rows, columns=pd.Index(["shuffle", "model", "auroc", "auroc_split", "chosen"]))


def control_rows(shuffled: pd.DataFrame, recommended: str, confidence: float) -> list[dict[str, float | str | int]]:
    """Rows of the table for shuffled diagnoses: mean, range of the middle ``confidence`` and s.d. over shuffles."""
    rows: list[dict[str, float | str | int]] = []
    tail = 100 * (1 - confidence) / 2
    picks = {
        f"shuffled diagnoses: {recommended}": shuffled["model"] == recommended,
        "shuffled diagnoses: the choice made anew": shuffled["chosen"].astype(bool),
    }
    for name, mask in picks.items():
        own = shuffled.loc[mask]
        low, high = (float(end) for end in np.percentile(own["auroc"], [tail, 100 - tail]))
        row: dict[str, float | str | int] = {"model": name, "family": "control", "repeats": 1}
        row |= {"auroc": float(own["auroc"].mean()), "auroc_low": low, "auroc_high": high}
        rows.append(row | {"auroc_sd": float(own["auroc"].std()), "auroc_split": float(own["auroc_split"].mean())})
    return rows


def permutation_p(shuffled: pd.DataFrame, auroc: float) -> float:
    """P that the choice made on shuffled diagnoses reaches ``auroc``: (1 + number that do) / (1 + shuffles)."""
    values = shuffled.loc[shuffled["chosen"].astype(bool), "auroc"].to_numpy(dtype=np.float64)
    return float((1 + (values >= auroc - 1e-12).sum()) / (1 + len(values)))

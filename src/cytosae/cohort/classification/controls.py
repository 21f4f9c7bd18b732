"""Negative control: the whole procedure on shuffled diagnoses."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from cytosae.cohort.classification.assessment import (
    Colours,
    auroc_of,
    cross_validate,
    robust_draws,
    split_draws,
)
from cytosae.cohort.classification.features import CohortArrays
from cytosae.cohort.classification.folds import make_folds
from cytosae.cohort.classification.models import Model
from cytosae.cohort.classification.recommendation import Contender, recommend
from cytosae.cohort.classification.scores import bootstrap_weights

RESAMPLES = 200
"""Resamples of patients behind the standard errors of each shuffle's choice."""


def shuffled_diagnoses(
    models: Sequence[Model],
    data: CohortArrays,
    *,
    shuffles: int,
    folds: int,
    seed: int,
    advance: Callable[[], object] = lambda: None,
) -> pd.DataFrame:
    """Deal the diagnoses out anew and go the whole way: nested folds of every candidate, splits by colour, the choice.

    Parameters
    ----------
    models : the candidates for recommendation
    shuffles : how often; one repetition of the folds each
    folds : folds of a repetition
    seed : of the shuffles

    Returns
    -------
    Columns shuffle, model, auroc, auroc_split, chosen (by the rule). The AUROC of the chosen one, in the folds that it
    was chosen in, shows how much the choice flatters.
    """
    rows = []
    rng = np.random.default_rng(seed)
    K = len(data.classes)
    for shuffle in range(shuffles):
        y = rng.permutation(data.y)
        made = make_folds(y, data.classes, folds=folds, groups=data.groups, seed=seed + shuffle)
        colours, weights = Colours.of(data, y), bootstrap_weights(y, RESAMPLES, rng)
        contenders = []
        for model in models:
            scores = cross_validate(model, y, K, made, seed=seed + shuffle, groups=data.groups, advance=advance)
            plain = auroc_of(scores, y, K, weights)
            balanced = None if colours.overlap is None else auroc_of(scores, y, K, weights * colours.overlap)
            splits = split_draws(model, y, K, colours, weights, seed=seed + shuffle, groups=data.groups)
            if model.configuration is not None and model.configuration.images_alone:
                robust = float(robust_draws(plain, balanced, splits)[0])
                contenders.append(Contender(model.name, robust, model.configuration.complexity))
            split = float(splits["auroc_split"][0]) if "auroc_split" in splits else float("nan")
            rows.append({"shuffle": shuffle, "model": model.name, "auroc": float(plain[0]), "auroc_split": split})
        chosen = recommend(contenders)[0]
        for row in rows[-len(models) :]:
            row["chosen"] = row["model"] == chosen
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
        row: dict[str, float | str | int] = {"model": name, "family": "control", "repeats": 1}
        for column in ("auroc", "auroc_split"):
            values = shuffled.loc[mask, column].to_numpy(dtype=np.float64)
            if np.isnan(values).all():
                continue
            row[column] = float(np.nanmean(values))
            if column == "auroc":
                low, high = np.nanpercentile(values, [tail, 100 - tail])
                row |= {"auroc_low": float(low), "auroc_high": float(high)}
                row["auroc_sd"] = float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")
        rows.append(row)
    return rows


def permutation_p(shuffled: pd.DataFrame, auroc: float) -> float:
    """P that the choice made on shuffled diagnoses reaches ``auroc``: (1 + number that do) / (1 + shuffles)."""
    values = shuffled.loc[shuffled["chosen"].astype(bool), "auroc"].to_numpy(dtype=np.float64)
    return float((1 + (values >= auroc - 1e-12).sum()) / (1 + len(values)))

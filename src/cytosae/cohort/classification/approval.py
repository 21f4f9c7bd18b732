"""The price of approval: the recommended model on the concepts that reviewers accepted alone, in the same folds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cytosae.cohort.classification.assessment import Trial, compare, describe, run
from cytosae.cohort.classification.cohort_arrays import gather
from cytosae.cohort.classification.features import Features
from cytosae.cohort.classification.models import Model
from cytosae.cohort.classification.result import ClassificationResult, Columns, columns_of, frame_of
from cytosae.cohort.classification.settings import VARIANTS, See
from cytosae.cohort.config import ClassificationConfig
from cytosae.common.artifact import read_artifact, write_file_artifact
from cytosae.common.configuration import finite
from cytosae.common.errors import InputError, UsageError
from cytosae.common.progress import progress
from cytosae.common.records import read_record, reading, write_json

if TYPE_CHECKING:
    from anndata import AnnData

DRAWS = 10
"""Sets of concepts drawn at random that the approved ones are held against."""


class Plain(TypedDict):
    """An `Approval` as JSON has it."""

    model: str
    approved: tuple[int, ...]
    active: int
    table: Columns
    comparison: dict[str, float | str]
    random: tuple[float, ...]


@dataclass(frozen=True)
class Approval:
    """What is left of a classification when only approved concepts may be used.

    Attributes
    ----------
    model : str
        The recommended model, which was run again.
    approved : tuple of int
        Latents that reviewers accepted.
    active : int
        How many of them are in any patient.
    table : DataFrame
        Two rows, "all concepts" and "approved concepts", with the columns of `ClassificationResult.table`.
    comparison : dict
        AUROC of all less that of the approved: difference, low, high, p_bootstrap, p_t.
    random : tuple of float
        AUROC of as many other active latents, drawn at random, each draw in the first repetitions.
    """

    model: str
    approved: tuple[int, ...]
    active: int
    table: pd.DataFrame
    comparison: dict[str, float | str]
    random: tuple[float, ...]

    def save(self, path: Path, *, config: Any = None, inputs: Mapping[str, str] | None = None) -> Path:
        """Write an artifact of kind "approval", one JSON file."""
        details = {"approved": len(self.approved), "model": self.model}
        with write_file_artifact(path, "approval", config=config, inputs=inputs, details=details) as temporary:
            write_json(temporary, finite({**vars(self), "table": columns_of(self.table)}))
        return path


def open_approval(path: Path | str, *, verify: bool = True) -> Approval:
    """Read the price of approval; refuses another kind, a newer schema and (with ``verify``) a damaged file."""
    path = read_artifact(path, "approval", verify=verify).path
    mend = "run the step again"
    with reading(path, mend):
        plain = read_record(Plain, path, mend)
        fields: dict[str, Any] = {**plain, "table": frame_of(plain["table"])}
        return Approval(**fields)


def price_of_approval(
    barcodes: AnnData,
    atlas: AnnData,
    approved: Sequence[int],
    result: ClassificationResult,
    *,
    colours: pd.DataFrame | None = None,
    retest: AnnData | None = None,
    config: ClassificationConfig,
    patient: str = "patient",
) -> Approval:
    """Run the recommended model on all concepts and on approved ones alone, in the folds of the classification.

    Parameters
    ----------
    barcodes, atlas, colours, retest, config, patient : object
        As for `cytosae.cohort.classify`.
    approved : sequence of int
        Latents that may be used.
    result : ClassificationResult
        What `classify` found: the recommended model, and the diagnoses.

    Raises
    ------
    InputError
        No approved concept is in any patient, or the data are not those of the result.
    UsageError
        An approved concept is not one of this SAE.
    """
    setting, classes = result.recommended, result.classes
    m, latents = barcodes.n_vars, np.unique(np.asarray(approved, dtype=np.int64))
    if len(latents) and (latents[0] < 0 or latents[-1] >= m):
        raise UsageError(
            f"concept {latents[-1]} was approved, and this SAE has 0 to {m - 1}: the review was of another."
        )
    seen_by = replace(config, kind=setting.kind, kinds=(setting.kind,))
    data = gather(barcodes, atlas, colours, classes=classes, patient=patient, retest=retest, config=seen_by)
    trial, see = Trial.of(data, data.design, config, config.seed), setting.see(data, config)
    if see is None:
        raise InputError(f"these data do not allow {setting.name!r}: it needs {VARIANTS[setting.variant].needs}.")
    active = np.flatnonzero(np.nan_to_num(data.layers[setting.kind]).any(axis=0))
    mine = np.intersect1d(latents, active)
    if not len(mine):
        raise InputError(f"none of the {len(latents)} approved concepts is active in these patients; approve others.")

    def model(name: str, keep: NDArray[np.integer] | None, repeats: int | None = None) -> Model:
        return Model(name, "concepts", _only(see, keep, m), setting.learner(config), repeats)

    repeats = config.slow_repeats if setting.penalty == "elastic net" else None
    rng, others = np.random.default_rng(config.seed), np.setdiff1d(active, mine)
    draws = [rng.choice(others, len(mine), replace=False) for _ in range(DRAWS if len(others) >= len(mine) else 0)]
    fits = len(trial.folds) * 2 + len(draws) * config.folds * config.slow_repeats
    with progress("Price of approval", fits, "fits") as bar:
        whole, restricted = (
            run(model(name, keep, repeats), trial, bar.advance)
            for name, keep in (("all concepts", None), ("approved concepts", mine))
        )
        drawn = [run(model("random", keep, config.slow_repeats), trial, bar.advance) for keep in draws]
    return Approval(
        model=setting.name,
        approved=tuple(int(latent) for latent in latents),
        active=len(mine),
        table=pd.DataFrame([describe(one, trial) for one in (whole, restricted)]),
        comparison=compare(whole, restricted, trial),
        random=tuple(float(one.aurocs["auroc"][0]) for one in drawn),
    )


def _only(see: See, keep: NDArray[np.integer] | None, m: int) -> Features:
    """What a configuration sees with every other latent at 0; None keeps all."""
    mask = np.ones(m) if keep is None else np.isin(np.arange(m), keep).astype(np.float64)

    def features(train: NDArray[np.intp]) -> NDArray[np.float64]:
        seen = see(train)
        return replace(seen, barcodes=seen.barcodes * mask).features

    return features

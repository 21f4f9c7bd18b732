"""What a classification found, on disk and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import numpy as np
import pandas as pd
from scipy.special import expit

from cytosae.cohort.classification.settings import Configuration
from cytosae.common.artifact import read_artifact, write_file_artifact
from cytosae.common.configuration import finite
from cytosae.common.records import read_record, reading, write_json

FRAMES = ("table", "predictions", "comparisons", "reliability", "shuffled")
NEWER = ("few", "few_concepts")
"""Frames that a result of an earlier version lacks."""
Columns = dict[str, list[Any]]
"""A table as JSON has it."""


class Plain(TypedDict):
    """A `ClassificationResult` as JSON has it."""

    classes: tuple[str, ...]
    patients: dict[str, int]
    table: Columns
    predictions: Columns
    comparisons: Columns
    reliability: Columns
    shuffled: Columns
    recommended: Configuration
    reason: str
    p_shuffled: float
    notes: tuple[str, ...]
    config: dict[str, Any]
    few: NotRequired[Columns]
    few_concepts: NotRequired[Columns]
    few_overlap: NotRequired[float]
    unlimited: NotRequired[str]


@dataclass(frozen=True)
class ClassificationResult:
    """Result of `cytosae.cohort.classify`.

    Attributes
    ----------
    classes : tuple of str
        Diagnoses; of two, the second is the one whose AUROC, sensitivity and log odds are given.
    patients : mapping of str to int
        Number of patients of each class.
    table : DataFrame
        One row a model. model, family (concepts, baseline, confounder, control), patients, repeats, kept together
        (which patients its folds, intervals and shuffles do not part: of a site, of an imaging session); each of auroc,
        macro_f1, f1_<class>, balanced_accuracy, brier, sensitivity with ``_low``, ``_high`` (interval over patients)
        and ``_sd`` (over repetitions); f1_<class>_folds and f1_<class>_folds_sd (mean and s.d. of each test
        fold's own F1); auroc_balanced (patients weighted so that colour tells the classes nothing);
        auroc_split, auroc_split_balanced, split_... (trained on one half of the colour range, tested on the other);
        r2_colour, r2_confounders (share of the decision that they explain, adjusted); auroc_without_colour,
        auroc_without_confounders (of what is left of the decision); auroc_matched (among patients matched by colour);
        recommended.
    predictions : DataFrame
        One row a model and patient: model, patient, diagnosis, call, decision (log odds, mean over repetitions, at the
        ``odds`` of the configuration; of two classes, that of the second; of more, ``decision_<class>``) and
        ``probability_<class>``, which follows from it; the most probable class is called.
    comparisons : DataFrame
        The recommended configuration against each other model on the same folds and patients: model, difference of
        AUROC (recommended less model), low, high and p_bootstrap (patients resampled in pairs), p_t (corrected
        resampled t-test over folds).
    reliability : DataFrame
        model, class, predicted, observed, low, high, n.
    shuffled : DataFrame
        The runs with shuffled diagnoses: shuffle, model, auroc, auroc_split, chosen.
    recommended : Configuration
        The configuration to be used, and ``reason``, why.
    p_shuffled : float
        Share of shuffles whose choice reaches the recommended one's AUROC.
    notes : tuple of str
        What could not be asked, a sentence each.
    config : mapping of str to object
        Plain configuration.
    few : DataFrame
        AUROC against the number of concepts, and of other features (`cytosae.cohort.classification.few_curve`), a row a
        kind of feature and number: features, method, concepts; auroc, auroc_balanced, balanced_accuracy, each with
        ``_low`` and ``_high``; enough (the smallest number within one standard error of the best). Empty where it was
        not asked for.
    few_concepts : DataFrame
        Where the recommended decision is of few concepts, these: latent, family (its near-twins and itself), weight
        (change of the log odds per standard deviation over patients; of more classes ``weight_<class>``), folds and
        resamples (share of them in which one of its family is chosen).
    few_overlap : float
        Mean Jaccard index of the families chosen in two folds; NaN where none are.
    unlimited : str
        The model that the rule takes without a limit to the number of concepts; empty where there is no limit.
    """

    classes: tuple[str, ...]
    patients: Mapping[str, int]
    table: pd.DataFrame
    predictions: pd.DataFrame
    comparisons: pd.DataFrame
    reliability: pd.DataFrame
    shuffled: pd.DataFrame
    recommended: Configuration
    reason: str
    p_shuffled: float
    notes: tuple[str, ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict)
    few: pd.DataFrame = field(default_factory=pd.DataFrame)
    few_concepts: pd.DataFrame = field(default_factory=pd.DataFrame)
    few_overlap: float = float("nan")
    unlimited: str = ""

    def matrix(self, column: str = "decision") -> pd.DataFrame:
        """One column of the predictions as patients x models."""
        return self.predictions.pivot(index="patient", columns="model", values=column)

    def to_plain(self) -> dict[str, Any]:
        """JSON values; a missing number is None."""
        frames = {name: columns_of(getattr(self, name)) for name in (*FRAMES, *NEWER)}
        return finite({**vars(self), **frames})

    @classmethod
    def from_plain(cls, plain: Plain) -> ClassificationResult:
        """The inverse of `to_plain`."""
        fields: dict[str, Any] = {name: plain[name] for name in Plain.__annotations__ if name in plain}
        fields |= {name: frame_of(fields[name]) for name in (*FRAMES, *NEWER) if name in fields}
        if "odds" not in plain["config"]:
            fields["predictions"] = _at_equal_odds(fields["predictions"], plain["classes"])
        return cls(**fields)

    def save(self, path: Path, *, config: Any = None, inputs: Mapping[str, str] | None = None) -> Path:
        """Write an artifact of kind "classification", one JSON file."""
        details = {"recommended": self.recommended.name, "patients": dict(self.patients)}
        config = self.config if config is None else config
        with write_file_artifact(path, "classification", config=config, inputs=inputs, details=details) as temporary:
            write_json(temporary, self.to_plain())
        return path


def open_classification(path: Path | str, *, verify: bool = True) -> ClassificationResult:
    """Read a classification; refuses another kind, a newer schema and (with ``verify``) a damaged file."""
    path = read_artifact(path, "classification", verify=verify).path
    mend = "run the step again"
    with reading(path, mend):
        return ClassificationResult.from_plain(read_record(Plain, path, mend))


def _at_equal_odds(predictions: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    """Predictions of an earlier version, whose calls and decisions were at equal odds and whose probabilities not."""
    if len(classes) == 2:
        second = expit(predictions["decision"])
        return predictions.assign(**{f"probability_{classes[0]}": 1 - second, f"probability_{classes[1]}": second})
    return predictions.assign(**{f"probability_{name}": expit(predictions[f"decision_{name}"]) for name in classes})


def columns_of(frame: pd.DataFrame) -> Columns:
    """A table as JSON has it."""
    return {str(name): frame[name].tolist() for name in frame.columns}


def frame_of(columns: Columns) -> pd.DataFrame:
    """Columns of numbers are of floats where one has a fraction or is missing."""
    frame = pd.DataFrame(dict(columns)).infer_objects()
    empty = [name for name in frame.columns if len(frame) and frame[name].isna().to_numpy().all()]
    return frame.astype(dict.fromkeys(empty, np.float64))

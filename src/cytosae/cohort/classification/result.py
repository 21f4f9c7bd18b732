"""What a classification found, on disk and back."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit

from cytosae.cohort.classification.configuration import Configuration
from cytosae.common.artifact import read_artifact, write_file_artifact, write_json
from cytosae.common.configuration import from_plain, to_plain
from cytosae.common.errors import ArtifactError

FRAMES = ("table", "predictions", "comparisons", "reliability", "shuffled")


@dataclass(frozen=True)
class ClassificationResult:
    """Result of `cytosae.cohort.classify`.

    Attributes
    ----------
    classes : diagnoses; of two, the second is the one whose AUROC, sensitivity and log odds are given
    patients : number of patients of each class
    table : one row a model. model, family (concepts, baseline, confounder, control), patients, repeats, kept together
        (which patients its folds, intervals and shuffles do not part: of a site, of an imaging session); each of auroc,
        macro_f1, f1_<class>, balanced_accuracy, brier, sensitivity with ``_low``, ``_high`` (interval over patients)
        and ``_sd`` (over repetitions); auroc_balanced (patients weighted so that colour tells the classes
        nothing); auroc_split, auroc_split_balanced, split_... (trained on one half of the colour range, tested on the
        other); r2_colour, r2_confounders (share of the decision that they explain, adjusted);
        auroc_without_colour, auroc_without_confounders (of what is left of the decision); auroc_matched (among patients
        matched by colour); recommended
    predictions : one row a model and patient: model, patient, diagnosis, call, decision (log odds, mean over
        repetitions, at the ``odds`` of the configuration; of two classes, that of the second; of more,
        ``decision_<class>``) and ``probability_<class>``, which follows from it; the most probable class is called
    comparisons : the recommended configuration against each other model on the same folds and patients: model,
        difference of AUROC (recommended less model), low, high and p_bootstrap (patients resampled in pairs), p_t
        (corrected resampled t-test over folds)
    reliability : model, class, predicted, observed, low, high, n
    shuffled : the runs with shuffled diagnoses: shuffle, model, auroc, auroc_split, chosen
    recommended : the configuration to be used, and ``reason``, why
    p_shuffled : share of shuffles whose choice reaches the recommended one's AUROC
    notes : what could not be asked, a sentence each
    config : plain configuration
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

    def matrix(self, column: str = "decision") -> pd.DataFrame:
        """One column of the predictions as patients x models."""
        return self.predictions.pivot(index="patient", columns="model", values=column)

    def to_plain(self) -> dict[str, Any]:
        """JSON values; a missing number is None."""
        plain: dict[str, Any] = {
            "classes": list(self.classes),
            "patients": dict(self.patients),
            "recommended": to_plain(self.recommended),
            "reason": self.reason,
            "p_shuffled": None if np.isnan(self.p_shuffled) else self.p_shuffled,
            "notes": list(self.notes),
            "config": dict(self.config),
        }
        return plain | {name: _plain_frame(getattr(self, name)) for name in FRAMES}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> ClassificationResult:
        """The inverse of `to_plain`."""
        frames = {name: _frame(plain[name]) for name in FRAMES}
        if "odds" not in plain["config"]:
            frames["predictions"] = _at_equal_odds(frames["predictions"], plain["classes"])
        p = plain["p_shuffled"]
        return cls(
            classes=tuple(plain["classes"]),
            patients=dict(plain["patients"]),
            recommended=from_plain(Configuration, plain["recommended"]),
            reason=plain["reason"],
            p_shuffled=float("nan") if p is None else p,
            notes=tuple(plain["notes"]),
            config=plain["config"],
            **frames,
        )

    def save(self, path: Path, *, config: Any = None, inputs: Mapping[str, str] | None = None) -> Path:
        """Write an artifact of kind "classification", one JSON file."""
        details = {"recommended": self.recommended.name, "patients": dict(self.patients)}
        config = self.config if config is None else config
        with write_file_artifact(path, "classification", config=config, inputs=inputs, details=details) as temporary:
            write_json(temporary, self.to_plain())
        return path


def open_classification(path: Path, *, verify: bool = True) -> ClassificationResult:
    """Read a classification; refuses another kind, a newer schema and (with ``verify``) a damaged file."""
    read_artifact(path, "classification", verify=verify)
    try:
        return ClassificationResult.from_plain(json.loads(path.read_text(encoding="utf-8")))
    except (KeyError, TypeError, ValueError) as problem:
        raise ArtifactError(f"{path} holds no complete classification ({problem!r}); run the step again.") from problem


def _at_equal_odds(predictions: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    """Predictions of an earlier version, whose calls and decisions were at equal odds and whose probabilities not."""
    if len(classes) == 2:
        second = expit(predictions["decision"])
        return predictions.assign(**{f"probability_{classes[0]}": 1 - second, f"probability_{classes[1]}": second})
    return predictions.assign(**{f"probability_{name}": expit(predictions[f"decision_{name}"]) for name in classes})


def _plain_frame(frame: pd.DataFrame) -> dict[str, list[Any]]:
    return {str(name): frame[name].astype(object).where(frame[name].notna(), None).tolist() for name in frame.columns}


def _frame(columns: Mapping[str, list[Any]]) -> pd.DataFrame:
    """Columns of numbers are of floats where one has a fraction or is missing."""
    frame = pd.DataFrame(dict(columns)).infer_objects()
    empty = [name for name in frame.columns if len(frame) and frame[name].isna().to_numpy().all()]
    return frame.astype(dict.fromkeys(empty, np.float64))

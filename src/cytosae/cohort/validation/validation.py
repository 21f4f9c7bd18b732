"""A classifier on later patients whose diagnosis is known, beside what cross-validation promised; nothing is fitted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np
import pandas as pd

from cytosae.cohort.classification.classifier import ConceptClassifier
from cytosae.cohort.classification.models import build_models
from cytosae.cohort.classification.predict import predict
from cytosae.cohort.classification.result import ClassificationResult, Columns, columns_of, frame_of
from cytosae.cohort.classification.scores import Scores, auroc_of, reliability
from cytosae.cohort.config import ClassificationConfig
from cytosae.cohort.design import Design
from cytosae.cohort.validation.joined import LATER, Joined, PatientData, join
from cytosae.cohort.validation.later_scores import later_scores, shuffled_aurocs
from cytosae.cohort.validation.measures import decision_curve, draws_of, scores_of, thresholds_of, with_interval
from cytosae.cohort.validation.shift import shifted_concepts
from cytosae.common.artifact import read_artifact, write_file_artifact
from cytosae.common.configuration import finite, to_plain
from cytosae.common.errors import InputError
from cytosae.common.progress import progress
from cytosae.common.records import read_record, reading, write_json

if TYPE_CHECKING:
    from anndata import AnnData

FRAMES = ("rows", "predictions", "curves", "reliability", "shifted")
FEWEST_RESAMPLES = 1000
SHUFFLED = "shuffled diagnoses: "


class Plain(TypedDict):
    """A `Validation` as JSON has it."""

    classes: tuple[str, ...]
    patients: dict[str, int]
    training: dict[str, int]
    recommended: str
    rows: Columns
    predictions: Columns
    curves: Columns
    reliability: Columns
    shifted: Columns
    missing: dict[str, str]
    set_aside: dict[str, str]
    notes: tuple[str, ...]
    config: dict[str, Any]


@dataclass(frozen=True)
class Validation:
    """Result of `cytosae.cohort.validate`.

    Attributes
    ----------
    classes : tuple of str
        Diagnoses; of two, the second is the one to be found.
    patients, training : mapping of str to int
        Later patients, and training patients, of each class.
    recommended : str
        Row of the saved classifier.
    rows : DataFrame
        One row a model: model, family; auroc, balanced_accuracy, macro_f1, f1_<class>, sensitivity, specificity,
        calibration_slope, calibration_intercept and brier on the later patients with ``_low`` and ``_high``, and the
        same beginning with ``promised_`` in cross-validation; difference (AUROC of the recommended less this one's, on
        the later patients in pairs) with its interval.
    predictions : DataFrame
        One row a later patient: patient, diagnosis, call, decision and probabilities, n_cells, outside, reason.
    curves : DataFrame
        Decision curves: patients ("later", "cross-validation"), model, class, threshold, net_benefit, low, high,
        treat_all.
    reliability : DataFrame
        Of the recommended model on the later patients: class, predicted, observed, low, high, n.
    shifted : DataFrame
        Concepts of the decision, the most influential first (`shifted_concepts`).
    missing : mapping of str to str
        Rows of the classification that could not be made -> why.
    set_aside : mapping of str to str
        Patients who do not count -> why.
    notes : tuple of str
        What else is to be known, a sentence each.
    config : mapping of str to object
        Plain configuration.
    """

    classes: tuple[str, ...]
    patients: Mapping[str, int]
    training: Mapping[str, int]
    recommended: str
    rows: pd.DataFrame
    predictions: pd.DataFrame
    curves: pd.DataFrame
    reliability: pd.DataFrame
    shifted: pd.DataFrame
    missing: Mapping[str, str]
    set_aside: Mapping[str, str]
    notes: tuple[str, ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def best(self) -> Mapping[str, Any]:
        """The row of the saved classifier."""
        return self.rows.set_index("model", drop=False).loc[self.recommended].to_dict()

    def to_plain(self) -> dict[str, Any]:
        """JSON values; a missing number is None."""
        frames = {name: columns_of(getattr(self, name)) for name in FRAMES}
        return finite({**vars(self), **frames})

    @classmethod
    def from_plain(cls, plain: Plain) -> Validation:
        """The inverse of `to_plain`."""
        fields: dict[str, Any] = dict(plain)
        fields |= {name: frame_of(fields[name]) for name in FRAMES}
        return cls(**fields)

    def save(self, path: Path, *, config: Any = None, inputs: Mapping[str, str] | None = None) -> Path:
        """Write an artifact of kind "validation", one JSON file."""
        details = {"recommended": self.recommended, "patients": dict(self.patients)}
        config = self.config if config is None else config
        with write_file_artifact(path, "validation", config=config, inputs=inputs, details=details) as temporary:
            write_json(temporary, self.to_plain())
        return path


def open_validation(path: Path | str, *, verify: bool = True) -> Validation:
    """Read a validation; refuses another kind, a newer schema and (with ``verify``) a damaged file."""
    path = read_artifact(path, "validation", verify=verify).path
    with reading(path, "validate again"):
        return Validation.from_plain(read_record(Plain, path, "validate again"))


def validate(
    classifier: ConceptClassifier,
    result: ClassificationResult,
    training: PatientData,
    later: PatientData,
    *,
    patient: str = "patient",
    retests: tuple[AnnData | None, AnnData | None] = (None, None),
    set_aside: Mapping[str, str] | None = None,
    config: ClassificationConfig | None = None,
) -> Validation:
    """Hold a classifier to what its cross-validation promised, on later patients whose diagnosis is known.

    Every row of the classification that can be is fitted on the training patients as it was there and applied to the
    later ones; of these nothing is learnt.

    Parameters
    ----------
    classifier : ConceptClassifier
        Saved; `cytosae.cohort.predict` applies it.
    result : ClassificationResult
        The classification that recommended it.
    training, later : PatientData
        The patients of both; later ones of another diagnosis than the classifier's, or in ``set_aside``, do not count.
    patient : str
        Column of the atlases with the patients.
    retests : tuple of AnnData or None
        Cells of the training patients in two stains, by the SAE and by random weights.
    set_aside : mapping of str to str or None
        Later patients who do not count -> why.
    config : ClassificationConfig or None
        How the training patients were classified; intervals are of at least 1,000 resamples.

    Raises
    ------
    InputError
        Fewer than two diagnoses among the patients who count, or a picture that stands under a patient of both.
    """
    config = config or ClassificationConfig()
    config = replace(config, bootstrap=max(config.bootstrap, FEWEST_RESAMPLES))
    aside = dict(set_aside or {}) | _unknown_diagnoses(later, classifier.classes, set_aside or {})
    counted = [str(name) for name in later.barcodes.obs_names if str(name) not in aside]
    kept = later.take(counted, patient)
    refuse_one_class(kept.barcodes.obs["diagnosis"].astype(str).tolist(), classifier.classes)
    compared = training.barcodes.obs["diagnosis"].isin(classifier.classes).to_numpy()
    known = training.take([str(name) for name in training.barcodes.obs_names[compared]], patient)
    joined = join(
        known,
        kept,
        classes=classifier.classes,
        patient=patient,
        retest=retests[0],
        random_retest=retests[1],
        config=config,
    )
    table = predict(classifier, kept.barcodes, atlas=kept.atlas, colours=later.colours, patient=patient)
    table.insert(1, "diagnosis", kept.barcodes.obs["diagnosis"].astype(str).to_numpy())
    design, name = joined.data.design, result.recommended.name
    names = [str(row) for row in result.table["model"] if row != name]
    with progress("Later patients", len(names), "models") as bar:
        scores, missing = later_scores(joined, names, config, bar.advance)
    scores = {name: scores_of(table, classifier.classes, joined.later), **scores}
    rows, curves = _rows(result, joined, scores, config)
    rows += _shuffled(result, joined, config, missing)
    counts = [np.bincount(design.y[part], minlength=len(classifier.classes)) for part in (joined.later, joined.train)]
    kind = classifier.kind
    return Validation(
        classes=classifier.classes,
        patients=dict(zip(classifier.classes, counts[0].tolist(), strict=True)),
        training=dict(zip(classifier.classes, counts[1].tolist(), strict=True)),
        recommended=name,
        rows=pd.DataFrame(rows),
        predictions=table,
        curves=pd.concat(curves, ignore_index=True),
        reliability=reliability(scores[name], design, config),
        shifted=shifted_concepts(
            classifier,
            joined.data.layers[kind][joined.train],
            joined.data.layers[kind][joined.later],
            (design.y[joined.train], design.y[joined.later]),
        ),
        missing=missing,
        set_aside=aside,
        notes=tuple(_notes(joined)),
        config=to_plain(config),
    )


def refuse_one_class(diagnoses: list[str], classes: tuple[str, ...]) -> None:
    """Refuse later patients who all have one diagnosis; `InputError` names it."""
    present = [name for name in classes if name in diagnoses]
    if not present:
        raise InputError(
            "no later patient counts: give patients who were not trained on, with a diagnosis among "
            f"{', '.join(classes)}."
        )
    if len(present) < len(classes):
        absent = next(name for name in classes if name not in present)
        raise InputError(
            f"none of the {len(diagnoses)} later patients that count has the diagnosis {absent!r} (they have: "
            f"{', '.join(present)}); add such patients, or use cytosae cohort predict, which needs no diagnosis."
        )


def _unknown_diagnoses(later: PatientData, classes: tuple[str, ...], aside: Mapping[str, str]) -> dict[str, str]:
    found = {}
    diagnoses: list[Any] = pd.Series(later.barcodes.obs["diagnosis"]).astype(object).tolist()
    for name, diagnosis in zip(later.barcodes.obs_names, diagnoses, strict=True):
        why = why_unknown(diagnosis, classes)
        if why and str(name) not in aside:
            found[str(name)] = why
    return found


def why_unknown(diagnosis: Any, classes: tuple[str, ...]) -> str:
    """Why a patient of this diagnosis cannot count; empty where the classifier knows it."""
    if pd.isna(diagnosis):
        return "no diagnosis"
    return "" if str(diagnosis) in classes else f"{diagnosis} is none of {', '.join(classes)}"


def _rows(
    result: ClassificationResult, joined: Joined, scores: Mapping[str, Scores], config: ClassificationConfig
) -> tuple[list[dict[str, Any]], list[pd.DataFrame]]:
    """A row for each model, and the decision curves of later patients and of cross-validation."""
    design, rows, curves = joined.data.design, [], []
    train, later = (design.take(part) for part in (joined.train, joined.later))
    weights = np.zeros((1 + config.bootstrap, len(design.y)))
    for part, own in ((joined.train, train), (joined.later, later)):
        weights[:, part] = own.bootstrap(config.bootstrap, np.random.default_rng(config.seed))
    table = result.table.set_index("model")
    of_patient = {name: row for row, name in enumerate(joined.data.patients)}
    best = _aurocs(scores[result.recommended.name], design, weights)
    for name, found in scores.items():
        told: pd.DataFrame = result.predictions.loc[(result.predictions["model"] == name).to_numpy()]
        where = np.array([of_patient[str(patient)] for patient in told["patient"]], dtype=np.intp)
        promised = scores_of(told, result.classes, where)
        limits = thresholds_of(promised, design, config.specificity)
        draws = draws_of(found, design, weights, config, limits)
        before = with_interval(draws_of(promised, design, weights, config, limits), config.confidence)
        before |= {key: float(table.at[name, key]) for key in before if key in table}
        less = with_interval({"difference": best - draws["auroc"]}, config.confidence)
        row = {"model": name, "family": str(table.at[name, "family"]), **with_interval(draws, config.confidence)}
        rows.append(row | {f"promised_{key}": value for key, value in before.items()} | less)
        for patients, one in (("later", found), ("cross-validation", promised)):
            curve = decision_curve(one, design, weights, config)
            curve.insert(0, "patients", patients)
            curve.insert(1, "model", name)
            curves.append(curve)
    return rows, curves


def _aurocs(scores: Scores, design: Design, weights: Any) -> Any:
    return auroc_of(scores, design.y[scores.rows], len(design.classes), weights[:, scores.rows])


def _shuffled(
    result: ClassificationResult, joined: Joined, config: ClassificationConfig, missing: dict[str, str]
) -> list[dict[str, Any]]:
    """The row of the recommended model fitted on shuffled diagnoses: mean and range over the shuffles."""
    name = f"{SHUFFLED}{result.recommended.name}"
    if name not in missing:
        return []
    models = {model.name: model for model in build_models(joined.data, config)}
    found = shuffled_aurocs(models[result.recommended.name], joined, config)
    if not len(found):
        return []
    del missing[name]
    tail = 100 * (1 - config.confidence) / 2
    before = result.table.set_index("model").loc[name]
    ends = np.percentile(found, [tail, 50, 100 - tail])
    row = {"model": name, "family": "control", "auroc": float(found.mean())}
    row |= {"auroc_low": float(ends[0]), "auroc_high": float(ends[2])}
    return [row | {f"promised_{key}": float(before[key]) for key in ("auroc", "auroc_low", "auroc_high")}]


def _notes(joined: Joined) -> list[str]:
    names = {joined.data.patients[row] for row in joined.train}
    twice = [name for row in joined.later if (name := joined.data.patients[row].removeprefix(LATER)) in names]
    if not twice:
        return []
    return [
        f"{len(twice)} later patients are called as training patients are (first: {min(twice)}), with other images, "
        "and are taken for other persons; if they are the same, leave them out."
    ]

"""A classifier of patients by concepts: fitted, saved and opened; linear in the barcode, so that decisions add up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from scipy.special import softmax

from cytosae.cohort.classification.features import Array, CohortArrays, cell_types_of, gather, mean_by_patient
from cytosae.cohort.classification.linear import LinearFit, fit_elastic_net, fit_l2
from cytosae.cohort.classification.models import Configuration, design
from cytosae.cohort.classification.novelty import Familiar, FamiliarFacts, familiar
from cytosae.cohort.config import ClassificationConfig, Kind
from cytosae.common.artifact import read_artifact, write_artifact
from cytosae.common.errors import InputError
from cytosae.common.records import read_record, reading, write_json

if TYPE_CHECKING:
    from anndata import AnnData


@dataclass(frozen=True)
class ConceptClassifier:
    """A linear classifier on barcodes.

    Attributes
    ----------
    classes : diagnoses; of two, a decision above 0 means the second
    kind : what the barcode counts
    latents : int64 [L], latents with a weight
    coef : float64 [K, L] in units of the barcode, the scaling folded in; K = 1 for two classes
    intercept : float64 [K]
    n_latents : m, width of the barcode
    tau : activation above which a token counts
    prevalence : float64 [classes], shares of the classes among the training patients
    means : float64 [L], training means; they stand in where a patient has no barcode
    cell_types : cells that the barcode is made of, empty for all
    sae, backbone : fingerprint of the SAE, and the backbone's description (JSON), whose barcodes these are
    familiar : what the training patients look like
    strength : the inverse penalty C that was chosen
    """

    classes: tuple[str, ...]
    kind: Kind
    latents: NDArray[np.int64]
    coef: Array
    intercept: Array
    n_latents: int
    tau: float
    prevalence: Array
    means: Array
    cell_types: tuple[str, ...]
    sae: str
    backbone: str
    familiar: Familiar
    strength: float

    def decision(self, barcodes: NDArray[np.floating]) -> Array:
        """Log odds against the training shares of the classes.

        Parameters
        ----------
        barcodes : [P, m]; a row of NaN (no cell to count) stands at the training mean

        Returns
        -------
        float64 [P] for two classes (above 0: the second is likelier than its share of the training patients), else
        [P, K], the largest is called.
        """
        values = np.asarray(barcodes, dtype=np.float64)
        if values.ndim != 2 or values.shape[1] != self.n_latents:
            raise InputError(f"barcodes of shape {values.shape} were given; {self.n_latents} latents are needed.")
        values = values[:, self.latents]
        values = np.where(np.isnan(values), self.means, values) @ self.coef.T + self.intercept
        return values[:, 0] if len(self.classes) == 2 else values

    def probabilities(self, barcodes: NDArray[np.floating]) -> Array:
        """Probability of each class [P, K], where the classes are as frequent as among the training patients."""
        decision = self.decision(barcodes)
        if decision.ndim == 1:
            decision = np.stack([np.zeros_like(decision), decision], axis=1)
        return softmax(decision + np.log(self.prevalence), axis=1)

    def cells_used(self, atlas: AnnData) -> NDArray[np.bool_]:
        """Which cells of an atlas the barcode is made of, [n]."""
        if not self.cell_types:
            return np.ones(atlas.n_obs, dtype=bool)
        return cell_types_of(atlas).isin(self.cell_types).to_numpy(dtype=bool)


def fit_classifier(
    barcodes: AnnData,
    atlas: AnnData,
    *,
    configuration: Configuration | None = None,
    colours: pd.DataFrame | None = None,
    classes: tuple[str, ...] | None = None,
    patient: str = "patient",
    retest: AnnData | None = None,
    config: ClassificationConfig | None = None,
) -> ConceptClassifier:
    """Fit the configuration that `classify` recommends on all patients.

    Parameters
    ----------
    barcodes, atlas, colours, classes, patient, retest : as for `classify`
    configuration : ``ClassificationResult.recommended``; None for all concepts of ``config.kind``
    config : the configuration of the classification; the penalty is chosen in its inner folds over all patients

    Raises
    ------
    InputError
        as `classify`; or the configuration needs colours, cell types or a retest that are not given.
    """
    config = config or ClassificationConfig()
    setting = configuration or Configuration(config.kind)
    refuse_published(barcodes, setting.kind)
    data = gather(
        barcodes,
        atlas,
        colours,
        kinds=(setting.kind,),
        classes=classes,
        positive=config.positive,
        group=config.group,
        patient=patient,
        retest=retest,
        sessions=config.sessions,
    )
    share = _shares(data)
    seen = model_input(setting, data, config)
    fit = fit_configuration(setting, seen.barcodes, data.y, config, seen.directions, data.groups)
    used = np.flatnonzero((fit.coef != 0).any(0))
    # The decision is taken against the training shares, so that the intercept holds them no more.
    prior = np.log(share[1:] / share[:1]) if len(share) == 2 else np.log(share)
    barcode, provenance = dict(barcodes.uns["barcode"]), dict(barcodes.uns["provenance"])
    return ConceptClassifier(
        classes=data.classes,
        kind=setting.kind,
        latents=used.astype(np.int64),
        coef=fit.coef[:, used],
        intercept=fit.intercept - prior,
        n_latents=seen.barcodes.shape[1],
        tau=float(barcode["tau"]),
        prevalence=share,
        means=fit.means[used],
        cell_types=seen.cell_types,
        sae=str(provenance["sae"]),
        backbone=str(provenance["backbone"]),
        familiar=_familiar(data),
        strength=fit.strength,
    )


def _shares(data: CohortArrays) -> Array:
    """Shares of the classes; refuses what cannot be fitted."""
    counts = np.bincount(data.y, minlength=len(data.classes))
    if len(data.classes) < 2:
        only = ", ".join(data.classes)
        raise InputError(
            f"all patients have the same diagnosis ({only}), so there is nothing to tell apart; add others."
        )
    if counts.min() < 2:
        rare = data.classes[int(counts.argmin())]
        raise InputError(
            f"{counts.min()} patients of {rare!r} are too few to fit; two diagnoses of two each are the least."
        )
    return counts / counts.sum()


def fit_configuration(
    setting: Configuration,
    X: Array,
    y: NDArray[np.integer],
    config: ClassificationConfig,
    directions: Array | None = None,
    groups: NDArray[np.generic] | None = None,
) -> LinearFit:
    """Fit barcodes X [n, m] with the penalty of a configuration; its strength is chosen in the inner folds.

    With ``directions`` [m, r] the model is fitted along them; its weights are those of the latents all the same.
    ``groups`` [n] are kept together in the inner folds.
    """
    options: dict[str, Any] = {
        "inner_folds": config.inner_folds,
        "min_share": config.min_share,
        "seed": config.seed,
        "groups": groups,
    }
    if directions is not None:
        along = fit_l2(X @ directions, y, strengths=config.strengths, **options)
        return replace(along, coef=along.coef @ directions.T, means=X.mean(0))
    if setting.penalty == "L2":
        return fit_l2(X, y, strengths=config.strengths, **options)
    return fit_elastic_net(X, y, **options)


def save_classifier(
    path: Path, classifier: ConceptClassifier, *, config: Any = None, inputs: Mapping[str, str] | None = None
) -> Path:
    """Write an artifact of kind "classifier": ``classifier.safetensors`` and ``classifier.json``."""
    arrays = {name: np.ascontiguousarray(getattr(classifier, name)) for name in _ARRAYS}
    facts = {name: getattr(classifier, name) for name in _Facts.__annotations__}
    more, familiar_facts = classifier.familiar.to_arrays()
    details = {"classes": list(classifier.classes), "latents": len(classifier.latents), "sae": classifier.sae}
    with write_artifact(path, "classifier", config=config, inputs=inputs, details=details) as folder:
        save_file(arrays | more, folder / "classifier.safetensors")
        write_json(folder / "classifier.json", {**facts, "familiar": familiar_facts})
    return path


def open_classifier(path: Path, *, verify: bool = True) -> ConceptClassifier:
    """Read a classifier; refuses another kind, a newer schema and (with ``verify``) a damaged file."""
    read_artifact(path, "classifier", verify=verify)
    mend = "fit it again"
    with reading(path, mend):
        arrays = load_file(path / "classifier.safetensors")
        facts = read_record(_Record, path / "classifier.json", mend)
        known = Familiar.from_arrays(arrays, facts["familiar"])
        values: dict[str, Any] = {**{n: arrays[n] for n in _ARRAYS}, **{n: facts[n] for n in _Facts.__annotations__}}
        return ConceptClassifier(**values, familiar=known)


_ARRAYS = ("latents", "coef", "intercept", "prevalence", "means")


class _Facts(TypedDict):
    classes: tuple[str, ...]
    kind: Kind
    n_latents: int
    tau: float
    cell_types: tuple[str, ...]
    sae: str
    backbone: str
    strength: float


class _Record(_Facts):
    familiar: FamiliarFacts


@dataclass(frozen=True)
class ModelInput:
    """What a classifier is fitted on: all patients of a cohort, as a configuration sees them.

    Attributes
    ----------
    barcodes : [P, m]; a row of NaN for a patient without a cell to count
    directions : [m, r], directions along which the penalty looks at barcodes; None for the latents themselves
    cell_types : of the cells that the barcodes are made of, empty for all
    """

    barcodes: Array
    directions: Array | None
    cell_types: tuple[str, ...]


def model_input(setting: Configuration, data: CohortArrays, config: ClassificationConfig) -> ModelInput:
    """The patients as a configuration sees them; `InputError` where it needs what these data lack."""
    seen = design(data, setting.kind, setting.variant, config)
    if seen is None:
        raise InputError(
            f"these data do not allow {setting.name!r}: {_NEEDS[setting.variant]}; give that, or choose all concepts."
        )
    everyone = np.arange(len(data.patients))
    directions = None if seen.directions is None else seen.directions(everyone)
    return ModelInput(seen.barcodes(everyone), directions, seen.cell_types)


_NEEDS = {
    "colour-following set aside": "it needs colours and types of the cells",
    "immature cells": "it needs cells of immature types",
    "stain-sensitive set aside": "it needs the cells in another stain (retest)",
    "stain-stable directions": "it needs the cells in another stain (retest)",
}


def _familiar(data: CohortArrays) -> Familiar:
    cells = data.cells
    if cells is None:
        raise ValueError("a classifier is fitted with the cells of its patients")
    n = len(data.patients)
    tokens = mean_by_patient(cells.tokens.astype(np.float64), cells.patient, n)
    colours = None if cells.colours is None else mean_by_patient(cells.colours, cells.patient, n)
    return familiar(tokens, colours, np.bincount(cells.patient, minlength=n))


def with_prevalence(classifier: ConceptClassifier, prevalence: Mapping[str, float]) -> ConceptClassifier:
    """The classifier for patients among whom the classes have other shares; decisions stay, probabilities move."""
    shares = np.array([prevalence.get(name, 0.0) for name in classifier.classes], dtype=np.float64)
    if (shares <= 0).any():
        raise InputError(f"a positive share of each of {', '.join(classifier.classes)} is needed.")
    return replace(classifier, prevalence=shares / shares.sum())


def refuse_published(barcodes: AnnData, kind: str) -> None:
    """Refuse counts in the published scaling: they grow with a patient's cells and are no mean over them."""
    if kind == "count" and str(barcodes.uns["barcode"]["scaling"]) == "published":
        raise InputError(
            "counts in the published scaling grow with the number of cells, so no classifier is made of them; "
            "make the barcodes with the scaling 'cells'."
        )

"""A classifier of patients by concepts: fitted, saved and opened; linear in the barcode, so that decisions add up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from scipy.special import softmax

from cytosae.cohort.classification.cohort_arrays import CohortArrays, cell_types_of, gather
from cytosae.cohort.classification.features import Array, mean_by_patient
from cytosae.cohort.classification.novelty import Familiar, FamiliarFacts, familiar
from cytosae.cohort.classification.settings import Configuration, fit_configuration, model_input
from cytosae.cohort.config import ClassificationConfig, Kind, Odds
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
    classes : tuple of str
        Diagnoses; of two, a decision above 0 calls the second.
    kind : {"presence", "mean", "count"}
        What the barcode counts.
    latents : ndarray of int64, shape (L,)
        Latents with a weight.
    coef : ndarray of float64, shape (K, L)
        In units of the barcode, the scaling folded in; K = 1 for two classes.
    intercept : ndarray of float64, shape (K,)
        At the odds of ``prevalence``.
    n_latents : int
        m, width of the barcode.
    tau : float
        Activation above which a token counts.
    prevalence : ndarray of float64, shape (classes,)
        Shares of the classes among the patients that decisions and probabilities are about.
    odds : str
        Where these come from: "equal", "training" (shares of the training patients) or "given" (`with_prevalence`).
    means : ndarray of float64, shape (L,)
        Training means; they stand in where a patient has no barcode.
    cell_types : tuple of str
        Cells that the barcode is made of, empty for all.
    sae, backbone : str
        Fingerprint of the SAE, and the backbone's description (JSON), whose barcodes these are.
    familiar : Familiar
        What the training patients look like.
    strength : float
        The inverse penalty C that was chosen.
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
    odds: str = "equal"

    @property
    def population(self) -> str:
        """Whom calls, decisions and probabilities are about, in words that follow "where"."""
        if self.odds == "training":
            return "the diagnoses are as frequent as among the patients it was fitted on"
        if self.odds == "equal":
            return "the diagnoses are equally frequent"
        shares = [f"{100 * p:.3g} % have {name}" for name, p in zip(self.classes, self.prevalence, strict=True)]
        return f"{', '.join(shares[:-1])} and {shares[-1]}"

    def decision(self, barcodes: NDArray[np.floating]) -> Array:
        """Log odds of the classes where these have the shares ``prevalence``; the class with the largest is called.

        Parameters
        ----------
        barcodes : ndarray of float, shape (P, m)
            A row of NaN (no cell to count) stands at the training mean.

        Returns
        -------
        ndarray of float64, shape (P,)
            For two classes (above 0: the second is the more probable), else [P, K].
        """
        values = np.asarray(barcodes, dtype=np.float64)
        if values.ndim != 2 or values.shape[1] != self.n_latents:
            raise InputError(f"barcodes of shape {values.shape} were given; {self.n_latents} latents are needed.")
        values = values[:, self.latents]
        values = np.where(np.isnan(values), self.means, values) @ self.coef.T + self.intercept
        return values[:, 0] if len(self.classes) == 2 else values

    def probabilities(self, barcodes: NDArray[np.floating]) -> Array:
        """Probability of each class [P, K]; that of the class that `decision` calls is the largest."""
        decision = self.decision(barcodes)
        if decision.ndim == 1:
            decision = np.stack([np.zeros_like(decision), decision], axis=1)
        return softmax(decision, axis=1)

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
    barcodes, atlas, colours, classes, patient, retest : object
        As for `classify`.
    configuration : Configuration or None
        ``ClassificationResult.recommended``; None for all concepts of ``config.kind``.
    config : ClassificationConfig or None
        The configuration of the classification; the penalty is chosen in its inner folds over all patients.

    Raises
    ------
    InputError
        as `classify`; or the configuration needs colours, cell types or a retest that are not given.
    """
    config = config or ClassificationConfig()
    setting = configuration or Configuration(config.kind)
    refuse_published(barcodes, setting.kind)
    seen_by = replace(config, kind=setting.kind, kinds=(setting.kind,))
    data = gather(barcodes, atlas, colours, classes=classes, patient=patient, retest=retest, config=seen_by)
    data.design.refuse_few()
    share = data.design.shares()
    seen = model_input(setting, data, config)
    fit = fit_configuration(setting, seen.barcodes, data.design, config, seen.directions)
    used = np.flatnonzero((fit.coef != 0).any(0))
    barcode, provenance = dict(barcodes.uns["barcode"]), dict(barcodes.uns["provenance"])
    fitted = ConceptClassifier(
        classes=data.classes,
        kind=setting.kind,
        latents=used.astype(np.int64),
        coef=fit.coef[:, used],
        intercept=fit.intercept,
        n_latents=seen.barcodes.shape[1],
        tau=float(barcode["tau"]),
        prevalence=share,
        means=fit.means[used],
        cell_types=seen.cell_types,
        sae=str(provenance["sae"]),
        backbone=str(provenance["backbone"]),
        familiar=_familiar(data),
        strength=fit.strength,
        odds="training",
    )
    return fitted if config.odds == "training" else _moved(fitted, np.ones(len(share)), "equal")


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
        write_json(folder / "classifier.json", {**facts, "odds": classifier.odds, "familiar": familiar_facts})
    return path


def open_classifier(path: Path | str, *, verify: bool = True) -> ConceptClassifier:
    """Read a classifier; refuses another kind, a newer schema and (with ``verify``) a damaged file."""
    path = read_artifact(path, "classifier", verify=verify).path
    mend = "fit it again"
    with reading(path, mend):
        arrays = load_file(path / "classifier.safetensors")
        facts = read_record(_Record, path / "classifier.json", mend)
        known = Familiar.from_arrays(arrays, facts["familiar"])
        if "odds" not in facts:  # of an earlier version, which decided at equal odds and kept the training shares
            arrays["prevalence"] = np.full_like(arrays["prevalence"], 1 / len(arrays["prevalence"]))
        values: dict[str, Any] = {n: arrays[n] for n in _ARRAYS} | {n: facts[n] for n in _Facts.__annotations__}
        values["odds"] = facts.get("odds", "equal")
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
    odds: NotRequired[Odds]
    familiar: FamiliarFacts


def _familiar(data: CohortArrays) -> Familiar:
    cells = data.cells
    if cells is None:
        raise ValueError("a classifier is fitted with the cells of its patients")
    n = len(data.patients)
    tokens = mean_by_patient(cells.tokens.astype(np.float64), cells.patient, n)
    colours = None if cells.colours is None else mean_by_patient(cells.colours, cells.patient, n)
    return familiar(tokens, colours, np.bincount(cells.patient, minlength=n), data.design)


def with_prevalence(classifier: ConceptClassifier, prevalence: Mapping[str, float]) -> ConceptClassifier:
    """The classifier for patients among whom the classes have other shares: its decisions are about them."""
    shares = np.array([prevalence.get(name, 0.0) for name in classifier.classes], dtype=np.float64)
    if (shares <= 0).any():
        raise InputError(f"a positive share of each of {', '.join(classifier.classes)} is needed.")
    return _moved(classifier, shares / shares.sum(), "given")


def _moved(classifier: ConceptClassifier, shares: Array, odds: str) -> ConceptClassifier:
    """The same evidence at other odds of the classes."""
    change = np.log(shares) - np.log(classifier.prevalence)
    shift = change[1:] - change[:1] if len(shares) == 2 else change
    return replace(classifier, intercept=classifier.intercept + shift, prevalence=shares / shares.sum(), odds=odds)


def refuse_published(barcodes: AnnData, kind: str) -> None:
    """Refuse counts in the published scaling: they grow with a patient's cells and are no mean over them."""
    if kind == "count" and str(barcodes.uns["barcode"]["scaling"]) == "published":
        raise InputError(
            "counts in the published scaling grow with the number of cells, so no classifier is made of them; "
            "make the barcodes with the scaling 'cells'."
        )

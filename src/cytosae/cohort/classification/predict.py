"""A fitted classifier on new patients, with a warning where they are unlike those it knows."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from cytosae.atlas.stored.matrix import dense
from cytosae.cohort.classification.classifier import ConceptClassifier, refuse_published
from cytosae.cohort.classification.cohort_arrays import colours_of
from cytosae.cohort.classification.features import Array, mean_by_patient
from cytosae.cohort.classification.scores import verdicts
from cytosae.cohort.patients.barcodes import cell_matrix
from cytosae.common.artifact import digest
from cytosae.common.errors import InputError

if TYPE_CHECKING:
    from anndata import AnnData


def predict(
    classifier: ConceptClassifier,
    barcodes: AnnData,
    *,
    atlas: AnnData,
    colours: pd.DataFrame | None = None,
    patient: str = "patient",
) -> pd.DataFrame:
    """Apply a classifier to patients. It is research, not a diagnosis.

    Parameters
    ----------
    classifier : ConceptClassifier
        Fitted with the same SAE and backbone.
    barcodes : AnnData
        Patients x latents, from the cells of ``atlas``.
    atlas : AnnData
        These cells.
    colours : DataFrame or None
        Their colour statistics; without them colours are not looked at, and ``reason`` of all patients says so where
        the classifier knows the training patients' colours.
    patient : str
        Column of ``atlas.obs`` with the patients.

    Returns
    -------
    DataFrame
        One row a patient, in the order of ``barcodes``: patient, call (the class with the largest probability),
        decision (log odds of the second of two classes, above 0 where it is called; of more ``decision_<class>``, the
        largest is called), ``probability_<class>`` (all of patients among whom the classes have the shares
        ``classifier.prevalence``), n_cells, outside (bool) and reason (empty where there is nothing to say).
        ``attrs["population"]``: whom the first three are about, in words that follow "where".

    Raises
    ------
    InputError
        another SAE, backbone or tau, or a patient without cells.
    """
    _check_same(classifier, barcodes, atlas)
    names = [str(name) for name in barcodes.obs_names]
    rows = pd.Index(names).get_indexer(pd.Index(atlas.obs[patient].astype(str)))
    keep = rows >= 0
    n_cells = np.bincount(rows[keep], minlength=len(names))
    if (n_cells == 0).any():
        raise InputError(
            f"the atlas has no cells of the patient {names[int(n_cells.argmin())]!r}; make the barcodes anew."
        )
    used = classifier.cells_used(atlas) & keep
    values, n_used = _barcodes(classifier, barcodes, atlas, rows, used)
    decision = classifier.decision(values).reshape(len(names), -1)
    frame = pd.DataFrame({"patient": names, **verdicts(classifier.classes, decision, classifier.probabilities(values))})
    outside = _reasons(classifier, atlas, colours, rows, n_used)
    looked = [] if colours is not None or classifier.familiar.colours is None else ["colours not looked at"]
    frame = frame.assign(
        n_cells=n_cells,
        outside=[bool(reasons) for reasons in outside],
        reason=["; ".join([*reasons, *looked]) for reasons in outside],
    )
    frame.attrs["population"] = classifier.population
    return frame


def _barcodes(
    classifier: ConceptClassifier, barcodes: AnnData, atlas: AnnData, rows: Any, used: Any
) -> tuple[Array, Any]:
    """Barcodes [P, m] as the classifier takes them, and the number of cells each is made of."""
    n_used = np.bincount(rows[used], minlength=barcodes.n_obs)
    if not classifier.cell_types:
        if classifier.kind not in barcodes.layers:
            raise InputError(f"the barcodes have no layer {classifier.kind!r}; make them anew with this kind.")
        layer = barcodes.layers[classifier.kind]
        return dense(layer, np.float64), n_used
    if not used.any():
        raise InputError(
            "the classifier counts immature cells only, and no cell is of such a type; give the cells' types as labels."
        )
    matrix = sp.csr_matrix(cell_matrix(atlas, classifier.kind))
    means = mean_by_patient(matrix, np.maximum(rows, 0), barcodes.n_obs, used)
    return means, n_used


def _reasons(
    classifier: ConceptClassifier, atlas: AnnData, colours: pd.DataFrame | None, rows: Any, n_used: Any
) -> list[list[str]]:
    """For each patient: why it is outside."""
    P, where, keep = len(n_used), np.maximum(rows, 0), rows >= 0
    tokens = mean_by_patient(np.asarray(atlas.obsm["X_backbone"], dtype=np.float64), where, P, keep)
    of_patient = None if colours is None else mean_by_patient(colours_of(atlas, colours), where, P, keep)
    outside = classifier.familiar.reasons(tokens, of_patient, np.bincount(rows[keep], minlength=P))
    for mine, n in zip(outside, n_used, strict=True):
        if n == 0:
            mine.append("no cell of the types that the classifier counts: the decision says nothing of this patient")
    return outside


def _check_same(classifier: ConceptClassifier, barcodes: AnnData, atlas: AnnData) -> None:
    provenance, barcode = barcodes.uns["provenance"], barcodes.uns["barcode"]
    if str(provenance["sae"]) != classifier.sae or str(atlas.uns["provenance"]["sae"]) != classifier.sae:
        raise InputError(
            f"the classifier was fitted on barcodes of the SAE {classifier.sae[:12]}, these are of "
            f"{str(provenance['sae'])[:12]}; make the atlas with the classifier's SAE."
        )
    if digest(json.loads(str(provenance["backbone"]))) != digest(json.loads(classifier.backbone)):
        raise InputError(
            "the classifier was fitted on tokens of another backbone (or other weights, block or preprocessing) than "
            "these; extract the tokens with the classifier's backbone."
        )
    if barcodes.n_vars != classifier.n_latents:
        raise InputError(f"barcodes of {barcodes.n_vars} latents were given; {classifier.n_latents} are needed.")
    if classifier.kind != "mean" and not np.isclose(float(barcode["tau"]), classifier.tau):
        raise InputError(
            f"the classifier counts tokens above {classifier.tau:g}, these barcodes those above "
            f"{float(barcode['tau']):g}; make the atlas with the classifier's tau."
        )
    refuse_published(barcodes, classifier.kind)

"""A decision taken apart: patient -> concepts -> cells -> tokens, by sums that are exact and checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray

from cytosae.atlas.encoding.token_activations import encode_cells
from cytosae.cells.focus.patch_grid import grid_of
from cytosae.cohort.explanation.patient_explanation import PatientExplanation, Residuals
from cytosae.cohort.explanation.token_shares import token_shares
from cytosae.cohort.patients.barcodes import cell_matrix
from cytosae.common.errors import InputError, UsageError

if TYPE_CHECKING:
    from anndata import AnnData

    from cytosae.cohort.classification.classifier import ConceptClassifier
    from cytosae.sae import SparseAutoencoder
    from cytosae.tokens import TokenStore

TOLERANCE = 1e-6
"""Largest difference between a decision and the sum of its parts, relative to the sum of their sizes (at least 1)."""


@dataclass(frozen=True)
class Detail:
    """Where the tokens of cells come from, and how many cells are taken apart into them.

    Attributes
    ----------
    sae : SparseAutoencoder
        The atlas's.
    store : TokenStore
        The atlas's.
    cells : int
        The cells that speak most for the target, and as many that speak most against it.
    """

    sae: SparseAutoencoder
    store: TokenStore
    cells: int = 12


def explain_decision(
    classifier: ConceptClassifier,
    atlas: AnnData,
    patient: str,
    *,
    target: str | None = None,
    against: str | None = None,
    reference: NDArray[np.floating] | None = None,
    detail: Detail | None = None,
    column: str = "patient",
) -> PatientExplanation:
    """Take one patient's decision apart.

    The model is linear in a barcode that is a mean over cells, so with coefficients w_j, barcode entries x_cj of the
    cell c and n cells

        decision = intercept + sum_j w_j (1/n) sum_c x_cj,

    and x_cj is a sum over the cell's tokens (`token_shares`). Nothing is approximated: every level is the sum of the
    next, which is checked before the explanation is returned.

    Parameters
    ----------
    classifier : ConceptClassifier
        Linear on barcodes.
    atlas : AnnData
        Cells x latents with the patient's cells.
    patient : str
        Value of ``column`` in the atlas.
    target : str or None
        Class that the value speaks for; with two classes the second where None, with more the decided one.
    against : str or None
        With more than two classes, the class it is compared with (the runner-up where both are None); a ``target``
        without ``against`` is explained by its own logit.
    reference : ndarray of float, shape (m,), or None
        Barcode of the typical patient to compare with; None for the classifier's training mean.
    detail : Detail or None
        The atlas's SAE and tokens, for the cells that are taken apart into tokens; None for none.
    column : str
        Column of the atlas's obs that names the patient.

    Raises
    ------
    InputError
        no cell of this patient that counts; a classifier, SAE or store that does not belong to the atlas; sums that do
        not add up.
    UsageError
        an unknown class.
    """
    _check_belongs(classifier, atlas, detail)
    mine, left_out = _cells_of(classifier, atlas, patient, column)
    matrix, n = sp.csr_array(cell_matrix(atlas, classifier.kind, mine)), len(mine)
    barcode = np.asarray(matrix.mean(axis=0), dtype=np.float64).ravel()
    logits = np.asarray(classifier.decision(barcode[None]), dtype=np.float64).reshape(-1)
    direction, target, against = _direction(classifier.classes, logits, target, against)
    intercept, concepts = float(direction @ classifier.intercept), _concepts(classifier, direction, barcode, reference)
    coefficients = concepts["coefficient"].to_numpy()
    parts = sp.csr_array(matrix[:, concepts.index.to_numpy()])
    concepts["cells"] = np.bincount(parts.indices[parts.data > 0], minlength=len(concepts))
    by_cell = sp.csr_array(parts * (coefficients / n))
    order = np.argsort(-np.asarray(by_cell.sum(axis=1)).ravel(), kind="stable")
    by_cell = sp.csr_array(by_cell[order])
    typical = intercept + float(coefficients @ concepts["reference"].to_numpy())
    cells = _cells(pd.DataFrame(atlas.obs), mine[order], by_cell, intercept, typical)
    detailed, by_token = np.zeros(0, np.int64), None
    if detail is not None:
        detailed = _detailed(len(cells), detail.cells)
        by_token = _by_token(cells.index[detailed].tolist(), concepts, n, classifier, detail)
    value = float(direction @ logits)
    probabilities = np.asarray(classifier.probabilities(barcode[None]), dtype=np.float64)[0]
    return PatientExplanation(
        patient=str(patient),
        target=target,
        against=against,
        kind=classifier.kind,
        value=value,
        intercept=intercept,
        probabilities=pd.Series(probabilities, index=pd.Index(classifier.classes, name="class")),
        population=classifier.population,
        concepts=concepts,
        cells=cells,
        by_cell=by_cell,
        detailed=detailed,
        by_token=by_token,
        logits=(matrix[:, classifier.latents] @ classifier.coef.T)[order] + classifier.intercept,
        classes=tuple(classifier.classes),
        left_out=left_out,
        grid=grid_of(atlas.uns["provenance"]["side"]),
        residuals=_residuals(value, intercept, concepts, cells, by_cell[detailed], by_token),
    )


def _check_belongs(classifier: ConceptClassifier, atlas: AnnData, detail: Detail | None) -> None:
    """Fingerprints must agree: indices of latents mean nothing under another SAE."""
    provenance = atlas.uns["provenance"]
    parts = {
        "classifier": (classifier.sae, provenance["sae"], "fit it on this atlas"),
    }
    if detail is not None:
        parts["SAE"] = (detail.sae.fingerprint, provenance["sae"], "use the SAE that the atlas was made with")
        parts["token store"] = (detail.store.fingerprint, provenance["tokens"], "use the tokens of the atlas")
    for name, (given, wanted, mend) in parts.items():
        if str(given) != str(wanted):
            raise InputError(
                f"The {name} ({str(given)[:12]}) does not belong to this atlas ({str(wanted)[:12]}); {mend}."
            )
    tau = provenance.get("tau")
    if classifier.kind != "mean" and tau is not None and not np.isclose(float(tau), classifier.tau):
        raise InputError(
            f"The classifier counts tokens above {classifier.tau:g}, the atlas those above {float(tau):g}; "
            "make the atlas again with the classifier's tau."
        )


def _cells_of(classifier: ConceptClassifier, atlas: AnnData, patient: str, column: str) -> tuple[NDArray[np.intp], int]:
    """Rows of the patient's cells that the classifier counts, and the number of the others."""
    if column not in atlas.obs:
        raise InputError(f"The atlas has no column {column!r}; it has {', '.join(map(str, atlas.obs.columns))}.")
    own = atlas.obs[column].astype(object).map(str).to_numpy() == str(patient)
    if not own.any():
        raise InputError(f"The atlas has no cell of patient {patient!r}; choose a value of its column {column!r}.")
    counted = own & classifier.cells_used(atlas)
    if not counted.any():
        raise InputError(
            f"None of the {own.sum()} cells of patient {patient!r} is of a type that the classifier counts, so its "
            "decision rests on no cell; give the cells' types, or use a classifier of all cells."
        )
    return np.flatnonzero(counted), int(own.sum() - counted.sum())


def _direction(
    classes: tuple[str, ...], logits: NDArray[np.float64], target: str | None, against: str | None
) -> tuple[NDArray[np.float64], str, str | None]:
    """Weights (K,) of the logits in the value, and the two classes it is about."""
    for name in (target, against):
        if name is not None and name not in classes:
            raise UsageError(f"There is no class {name!r}; the classifier knows {', '.join(classes)}.")
    if target is not None and target == against:
        raise UsageError(f"Class {target!r} cannot be compared with itself; choose another one.")
    if len(logits) == 1:
        second = target == classes[1] or (target is None and against != classes[1])
        pair = (classes[1], classes[0]) if second else (classes[0], classes[1])
        return np.array([1.0 if second else -1.0]), *pair
    order: list[str] = [classes[int(i)] for i in np.argsort(-logits, kind="stable")]
    if target is None:
        target = next(name for name in order if name != against)
        against = against or next(name for name in order if name != target)
    direction = np.zeros(len(classes))
    direction[classes.index(target)] = 1.0
    if against is not None:
        direction[classes.index(against)] = -1.0
    return direction, target, against


def _concepts(
    classifier: ConceptClassifier,
    direction: NDArray[np.float64],
    barcode: NDArray[np.float64],
    reference: NDArray[np.floating] | None,
) -> pd.DataFrame:
    """The table of concepts, without the number of cells."""
    if reference is not None and len(reference) != len(barcode):
        raise InputError(f"The reference has {len(reference)} latents, the atlas {len(barcode)}; use its barcodes.")
    latents = np.asarray(classifier.latents)
    typical = classifier.means if reference is None else np.asarray(reference, dtype=np.float64)[latents]
    weights, own = direction @ classifier.coef, barcode[latents]
    table = pd.DataFrame(
        {
            "coefficient": weights,
            "barcode": own,
            "contribution": weights * own,
            "reference": typical,
            "difference": weights * (own - typical),
        },
        index=pd.Index(latents, name="latent"),
    )
    return table.iloc[np.argsort(-table["difference"].abs().to_numpy(), kind="stable")].copy()


def _cells(
    obs: pd.DataFrame, rows: NDArray[np.intp], by_cell: sp.csr_array, intercept: float, typical: float
) -> pd.DataFrame:
    obs = obs.iloc[rows]
    contribution = np.asarray(by_cell.sum(axis=1)).ravel()
    alone = intercept + len(rows) * contribution
    labels = obs["label"].astype(object) if "label" in obs else pd.Series(None, index=obs.index, dtype=object)
    return pd.DataFrame(
        {
            "row": rows,
            "label": [None if pd.isna(label) else str(label) for label in labels],
            "contribution": contribution,
            "alone": alone,
            "difference": (alone - typical) / len(rows),
        },
        index=pd.Index(obs.index.astype(str), name="cell_id"),
    )


def _detailed(n: int, top: int) -> NDArray[np.int64]:
    """Rows of the first and last ``top`` of n cells, each once."""
    return np.array(sorted({*range(min(top, n)), *range(max(n - top, 0), n)}), dtype=np.int64)


def _by_token(
    names: list[str], concepts: pd.DataFrame, n_cells: int, classifier: ConceptClassifier, detail: Detail
) -> sp.csr_array:
    sae, store, latents = detail.sae, detail.store, concepts.index.to_numpy()
    scale = concepts["coefficient"].to_numpy() / n_cells
    row_of = {cell: row for row, cell in enumerate(store.cell_ids)}
    blocks = [sp.csr_array((0, len(latents)))]
    for name in names:
        if name not in row_of:
            raise InputError(f"{store.path} has no tokens of cell {name[:12]}; extract the tokens of this table again.")
        row = row_of[name]
        counted = None if store.counted is None else store.counted[row : row + 1]
        codes = encode_cells(sae, store.read(row, row + 1), counted)
        n = None if counted is None else int(counted.sum())
        shares = token_shares(sp.csr_array(codes[:, latents]), classifier.kind, tau=classifier.tau, counted=n)
        blocks.append(sp.csr_array(shares * scale))
    return sp.csr_array(sp.vstack(blocks, format="csr"))


def _residuals(
    value: float,
    intercept: float,
    concepts: pd.DataFrame,
    cells: pd.DataFrame,
    detailed: sp.csr_array,
    by_token: sp.csr_array | None,
) -> Residuals:
    """Sum each level again and compare; the decision itself must be met.

    Tokens are encoded anew, in other batches than the atlas's: their residual is rounding of float32, or, for counts, a
    token that lies on the threshold to the last digit. It is reported and not an error.
    """
    by_concepts = abs(value - intercept - float(concepts["contribution"].sum()))
    by_cells = abs(value - intercept - float(cells["contribution"].sum()))
    scale = max(1.0, abs(intercept) + float(concepts["contribution"].abs().sum()))
    if not max(by_concepts, by_cells) <= TOLERANCE * scale:
        raise InputError(
            f"The contributions miss the decision {value:g} by {max(by_concepts, by_cells):.2g}; this classifier is "
            "not linear in the barcodes of this atlas, so its decision cannot be taken apart."
        )
    tokens = float("nan")
    n_detailed = len(detailed.indptr) - 1
    if by_token is not None and n_detailed:
        sums = np.asarray(by_token.sum(axis=1)).reshape(n_detailed, -1).sum(axis=1)
        tokens = float(np.abs(sums - np.asarray(detailed.sum(axis=1)).ravel()).max())
    return Residuals(by_concepts, by_cells, tokens)

"""Two patients side by side: their barcodes, the concepts that differ most, and the cells that show them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cytosae.atlas.stored.matrix import read_rows
from cytosae.common.errors import InputError
from cytosae.views.concepts.gallery_view import ConceptCard, card_of
from cytosae.views.parts.number_words import number, percent, two, whole
from cytosae.views.parts.opened_dataset import OpenedAtlas
from cytosae.views.parts.page_parts import Number, text

if TYPE_CHECKING:
    from anndata import AnnData

    from cytosae.cohort import ConceptClassifier

CONCEPTS, DECIDING, CELLS, REFERENCES = 10, 4, 3, 2
"""Concepts that differ most, concepts in which the difference adds most to the decision, and cells of each."""
KINDS = {
    "presence": "share of the patient’s cells that have it",
    "mean": "mean activation over the patient’s cells",
    "count": "tokens of a cell that have it",
}
"""Kind of barcode -> what an entry is."""


@dataclass(frozen=True)
class Side:
    """One of the two: ``decision`` is the model's, above 0 for its second class; None where there are more classes."""

    patient: str
    diagnosis: str | None
    cells: int
    decision: float | None


@dataclass(frozen=True)
class Differing:
    """A concept in which they differ: both entries, and the share of all pairs of patients that differ as much.

    ``adds`` is what the difference adds to the decision of a less that of b, None where it decides nothing.
    """

    concept: ConceptCard
    a: float
    b: float
    as_much: float
    adds: float | None
    cells_a: tuple[str, ...]
    cells_b: tuple[str, ...]


@dataclass(frozen=True)
class TwoPatients:
    """Two patients of a data set. ``likeness`` is the correlation of their barcodes less the mean of all patients.

    Its ends are the quartiles of that of all other pairs. ``points`` are latents with both entries.
    """

    dataset: str
    a: Side
    b: Side
    entry: str
    verdict: str
    likeness: float
    others: Number
    concepts: tuple[Differing, ...]
    points: tuple[tuple[int, float, float], ...]
    top: float


def view_of_two_patients(
    atlas: OpenedAtlas, barcodes: AnnData, a: str, b: str, *, classifier: ConceptClassifier, column: str
) -> TwoPatients:
    """Compare two patients by the barcode that the ``classifier`` reads; ``column`` of the cells has the patients.

    Concepts are ordered by the difference in standard deviations over all patients; those in which the difference adds
    most to the decision follow.
    """
    names = [str(name) for name in barcodes.obs_names]
    for name in (a, b):
        if name not in names:
            raise InputError(f"There is no patient {name[:80]!r} here.")
    i, j = names.index(a), names.index(b)
    values = np.nan_to_num(np.asarray(barcodes.layers[classifier.kind], dtype=np.float64))
    spread = values.std(axis=0)
    least = spread[spread > 0].mean() if spread.any() else 1.0  # what varies little is not blown up by that
    unusual = np.abs(values[i] - values[j]) / np.maximum(spread, least)
    first = [int(k) for k in np.argsort(-unusual, kind="stable")[:CONCEPTS] if unusual[k] > 0]
    from cytosae.cohort import patient_correlation

    correlations = patient_correlation(barcodes, classifier.kind, centred=True).to_numpy()
    pairs = np.delete(correlations[np.triu_indices(len(names), 1)], _pair(i, j, len(names)))
    own, quartiles = float(correlations[i, j]), np.nanquantile(pairs, [0.25, 0.5, 0.75]) if len(pairs) else [np.nan] * 3
    weights: dict[int, float] = {}
    decisions: NDArray[np.float64] | None = None
    if len(classifier.classes) == 2:
        weights = {int(k): float(w) for k, w in zip(classifier.latents, classifier.coef[0], strict=True)}
        decisions = classifier.decision(values)
    adds = {k: weight * float(values[i, k] - values[j, k]) for k, weight in weights.items()}
    deciding = sorted((k for k in adds if adds[k]), key=lambda k: -abs(adds[k]))[:DECIDING]
    first += [k for k in deciding if k not in first]
    shown = {row: _cells_of(atlas, names[row], column, first) for row in (i, j)}
    differing = tuple(
        Differing(
            concept=card_of(atlas, k, REFERENCES),
            a=float(values[i, k]),
            b=float(values[j, k]),
            as_much=_as_much(values[:, k], abs(values[i, k] - values[j, k])),
            adds=adds.get(k),
            cells_a=shown[i][k],
            cells_b=shown[j][k],
        )
        for k in first
    )
    live = np.flatnonzero((values[i] > 0) | (values[j] > 0))
    points = tuple((int(k), float(f"{values[i, k]:.3g}"), float(f"{values[j, k]:.3g}")) for k in live[:5000])
    sides = [_side(atlas, barcodes, row, column, decisions) for row in (i, j)]
    return TwoPatients(
        dataset=atlas.name,
        a=sides[0],
        b=sides[1],
        entry=KINDS[classifier.kind],
        verdict=_verdict(sides, differing, own, float(quartiles[1])),
        likeness=own,
        others=Number(*(float(quartiles[k]) for k in (1, 0, 2))),
        concepts=differing,
        points=points,
        top=float(max(values[i].max(), values[j].max(), 1e-12)),
    )


def _pair(i: int, j: int, n: int) -> int:
    """Place of a pair among all pairs of n, as `numpy.triu_indices` orders them."""
    low, high = min(i, j), max(i, j)
    return low * n - low * (low + 1) // 2 + high - low - 1


def _as_much(values: NDArray[np.float64], difference: float) -> float:
    """Share of all pairs whose values differ by at least as much."""
    first, second = np.triu_indices(len(values), 1)
    return float(np.mean(np.abs(values[first] - values[second]) >= difference - 1e-12))


def _cells_of(atlas: OpenedAtlas, patient: str, column: str, latents: list[int]) -> dict[int, tuple[str, ...]]:
    """The patient's cells that have each concept most."""
    rows = np.flatnonzero((atlas.atlas.obs[column].astype(object).map(str) == patient).to_numpy())
    own: Any = read_rows(atlas.atlas.X, rows)[:, latents].toarray()
    names = atlas.atlas.obs_names
    found = {}
    for place, latent in enumerate(latents):
        order = np.argsort(-own[:, place], kind="stable")[:CELLS]
        found[latent] = tuple(str(names[rows[k]]) for k in order if own[k, place] > 0)
    return found


def _side(atlas: OpenedAtlas, barcodes: AnnData, row: int, column: str, decisions: NDArray[np.float64] | None) -> Side:
    name = str(barcodes.obs_names[row])
    diagnosis: Any = barcodes.obs["diagnosis"].iloc[row] if "diagnosis" in barcodes.obs else None
    cells = int((atlas.atlas.obs[column].astype(object).map(str) == name).sum())
    return Side(name, text(diagnosis), cells, None if decisions is None else float(decisions[row]))


def _verdict(sides: list[Side], differing: tuple[Differing, ...], own: float, usual: float) -> str:
    a, b = [f"{side.patient} ({side.diagnosis})" if side.diagnosis else side.patient for side in sides]
    if not differing:
        return f"{a} and {b} do not differ in any concept."
    first = differing[0]
    return (
        f"{a} and {b} differ most in concept {first.concept.latent} ({first.concept.name}): {number(first.a)} and "
        f"{number(first.b)}; {percent(first.as_much)} of all pairs of patients differ as much. Their barcodes, less "
        f"the mean of all patients, are "
        f"correlated with r = {two(own)}, those of other pairs with {two(round(usual, 2) + 0.0)} (median). "
        f"They have {whole(sides[0].cells)} and {whole(sides[1].cells)} cells."
    )

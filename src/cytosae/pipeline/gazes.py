"""Where concepts and decisions of a study look: its images are painted, encoded anew and compared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cytosae.pipeline.places import Opener, Place

if TYPE_CHECKING:
    from cytosae.atlas.explaining.gaze import Encode, Gaze
    from cytosae.cohort.explanation.patient_explanation import PatientExplanation


def gazes_of_concept(study: Opener, encode: Encode, latent: int, dataset: str, cells: int) -> dict[str, Gaze]:
    """Of a concept, on its first reference cells; see `cytosae.atlas.where_it_looks`."""
    from cytosae.atlas import reference_table, where_it_looks

    chosen = [str(cell) for cell in reference_table(study.atlas(dataset, backed="r"), latent).index[:cells]]
    known, found = _seen(study, dataset, chosen), {}
    for i, cell in enumerate(chosen):  # one by one, so that random patches do not hang on the cells before
        own: dict[str, Any] = {name: None if all_ is None else all_[i : i + 1] for name, all_ in known.items()}
        seen = where_it_looks(latent=latent, sae=study.sae(), encode=encode, grid=study.tokens(dataset).grid, **own)
        found.update((cell, gaze) for gaze in seen)
    return found


def gazes_of_decision(
    study: Opener, encode: Encode, patient: str, dataset: str, *, column: str, cells: int
) -> tuple[PatientExplanation, dict[str, Gaze]]:
    """Of a patient's decision, on the cells that speak most for it; see `cytosae.cohort.where_a_decision_looks`."""
    from cytosae.cohort import explain_decision, where_a_decision_looks

    classifier, atlas = study.read(Place("classifier", dataset)), study.atlas(dataset, backed="r")
    explanation = explain_decision(classifier, atlas, patient, column=column)
    if explanation.value < 0:
        explanation = explain_decision(classifier, atlas, patient, column=column, target=explanation.against)
    chosen = [str(cell) for cell in explanation.cells.index[:cells]]
    seen = where_a_decision_looks(
        explanation=explanation, sae=study.sae(), encode=encode, tau=classifier.tau, **_seen(study, dataset, chosen)
    )
    return explanation, {cell: gaze for cell, gaze in zip(chosen, seen, strict=True) if gaze is not None}


def _seen(study: Opener, dataset: str, cells: Sequence[str]) -> dict[str, Any]:
    """Images and masks of cells, and their tokens that count."""
    from cytosae.cells import load_image, load_mask

    table, store = study.cells(dataset), study.tokens(dataset)
    place = {str(cell): row for row, cell in enumerate(table.frame["cell_id"])}
    masks = [table.mask_path(place[cell]) for cell in cells]
    rows = {cell: row for row, cell in enumerate(store.cell_ids)}
    return {
        "images": [np.asarray(load_image(table.image_path(place[cell]))) for cell in cells],
        "masks": [None if mask is None else load_mask(mask) for mask in masks],
        "counted": None if store.counted is None else store.counted[[rows[cell] for cell in cells]],
    }

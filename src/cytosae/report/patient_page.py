"""The page of one patient: a decision whose numbers add up, with the cells and patches behind them."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cytosae.cohort.explanation.counterfactual import Counterfactual, counterfactual
from cytosae.cohort.explanation.faithfulness import BAND, Curve, cell_curve, concept_curve
from cytosae.common.errors import UsageError
from cytosae.report import figures
from cytosae.report.cohort_content import (
    CellPictures,
    ConceptCard,
    Evidence,
    Table,
    TableRow,
    fixed,
    patch_crop,
    provenance_inputs,
    provenance_rows,
    signed,
    write_page,
)
from cytosae.report.cohort_figures import curves_plot, signed_bar, signed_overlay
from cytosae.report.content import DatasetReport, ReferenceView
from cytosae.report.html import number, percent, whole
from cytosae.report.marks import Marks

if TYPE_CHECKING:
    from cytosae.cohort.explanation.decision import PatientExplanation
    from cytosae.sae import SparseAutoencoder

BARCODES = {
    "mean": "Mean over the patient’s cells of the mean activation over a cell’s tokens.",
    "count": "Number of tokens whose activation is above τ, per cell.",
    "presence": "Share of the patient’s cells with at least one token above τ.",
}
ROWS, OWN_CELLS, PATCHES, REMOVED = 15, 5, 16, 36
"""Concepts in the table, this patient's cells shown of each concept, strongest patches, cells of the counterfactual."""


@dataclass(frozen=True)
class BigCell:
    """A cell shown large, with its patches' contributions over it."""

    picture: str
    overlay: str
    label: str | None
    value: float
    words: str


@dataclass(frozen=True)
class PatchView:
    """One patch amid its surroundings; ``row`` and ``column`` count from 1."""

    picture: str
    row: int
    column: int
    value: float
    latent: int
    label: str | None


def write_patient_page(
    out: Path,
    explanation: PatientExplanation,
    *,
    dataset: DatasetReport,
    sae: SparseAutoencoder,
    evidence: Evidence,
    diagnosis: str | None = None,
    marks: Marks | None = None,
    specific: pd.DataFrame | None = None,
    notes: Sequence[str] = (),
    links: Mapping[str, str] | None = None,
    concepts: int = 8,
    orders: int = 200,
    seed: int = 0,
    created: datetime.datetime | None = None,
    config: Any = None,
    inputs: Mapping[str, str] | None = None,
) -> Path:
    """Write one self-contained HTML page about one patient.

    Parameters
    ----------
    out : path of the file, an artifact of kind "report"
    explanation : of the patient, from `explain_decision`
    dataset, sae : the atlas, table, tokens and SAE that the explanation is of
    evidence : what stands behind the model
    diagnosis : what is known of the patient, shown beside the decision
    marks : why concepts are to be doubted: they follow colour, or change with the stain
    specific : concepts in which the patient differs from its own group: index latent, numeric columns shown as they are
    notes : sentences shown above the table, such as that some cells lie outside of what the model was fitted on
    links : words -> path relative to this page
    concepts : concepts shown with pictures
    orders, seed : random orders of the deletion and insertion curves
    created, config, inputs : as in `write_report`
    """
    pictures = CellPictures(dataset, sae)
    marks = marks or Marks()
    shown = [int(latent) for latent in explanation.concepts.index[:concepts] if _difference(explanation, latent) != 0]
    curves = _curves(explanation, orders, seed)
    found = counterfactual(explanation)
    supporting, opposing = _big_cells(explanation, pictures)
    rows, rest = _rows(explanation, pictures, shown, marks)
    context = {
        "kicker": "One patient explained",
        "title": f"Patient {explanation.patient}: {_question(explanation)}",
        "byline": _byline(explanation, dataset.name, diagnosis),
        "tiles": _tiles(explanation, found),
        "explanation": explanation,
        "target": explanation.target,
        "against": explanation.against or "the others",
        "decision": _decision(explanation, diagnosis),
        "notes": list(notes),
        "rows": rows,
        "rest": rest,
        "n_concepts": len(explanation.concepts),
        "concepts": _cards(explanation, pictures, shown, marks),
        "colour_bar": figures.colour_bar_uri(),
        "supporting": supporting,
        "opposing": opposing,
        "patches": _patches(explanation, pictures),
        "side": explanation.side,
        "all_cells": explanation.cells.reset_index().to_dict("records"),
        "faithfulness": _faithfulness(curves, explanation.target),
        "plots": _plots(curves, explanation.target, None if explanation.against is None else 0.0),
        "orders": whole(orders),
        "band": f"{100 * (BAND[1] - BAND[0]):.0f} %",
        "counterfactual": _counterfactual(found, pictures),
        "specific": _specific(specific),
        "barcode_words": BARCODES[explanation.kind],
        "provenance": provenance_rows(dataset),
    }
    return write_page(
        out,
        "patient.html.j2",
        context,
        evidence=evidence,
        links=links or {},
        created=created,
        config=config,
        inputs=inputs or provenance_inputs(dataset),
    )


def _difference(explanation: PatientExplanation, latent: Any) -> float:
    value: Any = explanation.concepts["difference"][latent]
    return float(value)


def _question(explanation: PatientExplanation) -> str:
    if explanation.against is None:
        return f"why {explanation.target}, or why not"
    return f"{explanation.target} or {explanation.against}?"


def _byline(explanation: PatientExplanation, dataset: str, diagnosis: str | None) -> str:
    known = f" · known diagnosis: {diagnosis}" if diagnosis else ""
    return f"{whole(explanation.n_cells)} cells of {dataset}{known}"


def _tiles(explanation: PatientExplanation, found: Counterfactual) -> list[dict[str, str]]:
    probability = float(explanation.probabilities[explanation.target])
    tiles = [
        {"value": fixed(explanation.value, 2), "label": f"decision; above 0 it is for {explanation.target}"},
        {"value": percent(probability), "label": f"probability of {explanation.target}, by the model"},
        {"value": whole(explanation.n_cells), "label": "cells"},
        {"value": whole(len(explanation.concepts)), "label": "concepts in the model"},
    ]
    value = f"{len(found.cells)} of {found.n_cells}" if found.flips else "none"
    words = "cells whose removal changes the decision, at the least" if found.flips else "removal of cells changes it"
    return [*tiles, {"value": value, "label": words}]


def _decision(explanation: PatientExplanation, diagnosis: str | None) -> str:
    decided = explanation.decided
    probability = percent(float(explanation.probabilities[decided]))
    sentences = [
        f"The model calls {decided}: given the cells it is likelier than its share of the training patients. Where the "
        f"diagnoses are as frequent as among these, its probability is {probability}."
    ]
    if diagnosis:
        agrees = "agrees with" if diagnosis == decided else "differs from"
        sentences.append(f"That {agrees} the known diagnosis ({diagnosis}).")
    sentences.append(f"The decision of the typical patient is {fixed(explanation.reference_value, 2)}.")
    if explanation.left_out:
        sentences.append(f"{whole(explanation.left_out)} cells are of types that the model does not count.")
    return " ".join(sentences)


def _rows(
    explanation: PatientExplanation, pictures: CellPictures, shown: list[int], marks: Marks
) -> tuple[list[dict[str, Any]], bool]:
    """Rows of the sum: intercept, the largest concepts, all others in one; and whether there are others."""
    table = explanation.concepts
    largest = float(table["difference"].abs().max()) if len(table) else 0.0
    blank = dict.fromkeys(("top_class", "cells", "coefficient", "barcode", "reference", "mark", "latent"))
    start = {"contribution": explanation.intercept, "difference": explanation.reference_value}
    rows = [{**blank, **start, "words": "Intercept; decision of the typical patient", "bar": ""}]
    for latent, row in table.head(ROWS).iterrows():
        rows.append(
            {
                **blank,
                **row.to_dict(),
                "latent": int(latent),  # type: ignore[arg-type]
                "top_class": pictures.top_class(int(latent)),  # type: ignore[arg-type]
                "mark": marks.of(int(latent)),  # type: ignore[arg-type]
                "shown": latent in shown,
                "bar": signed_bar(float(row["difference"]), largest),
            }
        )
    rest = table.iloc[ROWS:]
    if len(rest):
        sums = {name: float(rest[name].sum()) for name in ("contribution", "difference")}
        bar = signed_bar(sums["difference"], largest)
        rows.append({**blank, "words": f"The other {whole(len(rest))} concepts", **sums, "bar": bar})
    return rows, bool(len(rest))


def _cards(
    explanation: PatientExplanation, pictures: CellPictures, shown: list[int], marks: Marks
) -> list[ConceptCard]:
    own = {latent: _own_cells(explanation, latent) for latent in shown}
    pictures.prepare(dict.fromkeys(shown))
    maps = pictures.maps_of((cell, latent) for latent in shown for cell, _ in own[latent])
    cards = []
    for rank, latent in enumerate(shown, start=1):
        row = explanation.concepts.loc[latent]
        cells = [cell for cell, _ in own[latent]]
        views = pictures.with_maps(cells, [value for _, value in own[latent]], latent, maps)
        cards.append(
            ConceptCard(
                latent=latent,
                rank=rank,
                headline=pictures.headline(latent),
                facts=[*_concept_facts(row, explanation), *marks.facts(latent)],
                references=pictures.views(latent),
                dataset=pictures.dataset.name,
                mark=marks.of(latent),
                own=views,
                own_words=f"In this patient: {whole(row['cells'])} of {whole(explanation.n_cells)} cells have it",
            )
        )
    return cards


def _concept_facts(row: Any, explanation: PatientExplanation) -> list[tuple[str, str]]:
    return [
        ("Contribution", signed(row["contribution"])),
        ("Difference from typical", signed(row["difference"])),
        ("Coefficient", signed(row["coefficient"])),
        ("Barcode here", number(row["barcode"])),
        ("Barcode, typical", number(row["reference"])),
        ("Cells with it", percent(row["cells"] / explanation.n_cells)),
    ]


def _own_cells(explanation: PatientExplanation, latent: int) -> list[tuple[str, float]]:
    """The patient's cells through which the concept adds most, in size, with what they add."""
    column = explanation.by_cell[:, [explanation.concepts.index.get_loc(latent)]].toarray().ravel()
    order = [int(i) for i in np.argsort(-np.abs(column), kind="stable")[:OWN_CELLS] if column[i] != 0]
    return [(str(explanation.cells.index[i]), float(column[i])) for i in order]


def _big_cells(explanation: PatientExplanation, pictures: CellPictures) -> tuple[list[BigCell], list[BigCell]]:
    """Cells taken apart into tokens: those for the target, largest first, and those against it, likewise."""
    if explanation.by_token is None:
        return [], []
    # Beyond an average token of the typical patient: what fires on every token of everybody drops out.
    offset = float(explanation.typical_token.sum())
    grids = [explanation.cell_map(place) - offset for place in range(len(explanation.detailed))]
    sizes = np.abs(np.stack(grids)).ravel() if grids else np.zeros(1)
    top = float(np.quantile(sizes[sizes > 0], 0.98)) if (sizes > 0).any() else 0.0
    views = []
    for place, (i, grid) in enumerate(zip(explanation.detailed, grids, strict=True)):
        cell = str(explanation.cells.index[i])
        picture = pictures.large(cell)
        tokens = explanation.cell_tokens(place) - offset
        views.append(
            BigCell(
                picture=figures.picture_uri(picture),
                overlay=figures.picture_uri(signed_overlay(picture, grid, top)),
                label=pictures.label(cell),
                value=float(explanation.cells["difference"].iloc[i]),
                words=_cell_words(tokens, _through(explanation, int(i))),
            )
        )
    half = (len(views) + 1) // 2
    return [view for view in views[:half] if view.value > 0], [view for view in views[half:][::-1] if view.value < 0]


def _cell_words(tokens: NDArray[np.float64], through: str) -> str:
    return f"patches {fixed(float(tokens[1:].sum()))}, CLS {fixed(float(tokens[0]))}; {through}"


def _through(explanation: PatientExplanation, i: int, n: int = 2) -> str:
    """The concepts through which a cell adds most to its own direction."""
    row = explanation.by_cell[[i]].toarray().ravel() - explanation.typical_token * (explanation.side**2 + 1)
    direction = np.sign(row.sum()) or 1.0
    order = [k for k in np.argsort(-direction * row, kind="stable")[:n] if direction * row[k] > 0]
    latents = [f"{explanation.concepts.index[k]} ({signed(float(row[k]), 2)})" for k in order]
    return f"most by latent{'s' if len(latents) > 1 else ''} {', '.join(latents)}" if latents else "no concept in it"


def _patches(explanation: PatientExplanation, pictures: CellPictures) -> list[PatchView]:
    """The patches that add most for the target among the cells taken apart, two of a cell at the most."""
    if explanation.by_token is None:
        return []
    side, typical = explanation.side, explanation.typical_token
    offset = float(typical.sum())
    found = []
    for place, i in enumerate(explanation.detailed):
        flat = explanation.cell_map(place).ravel() - offset
        found += [(float(flat[k]), place, int(i), int(k)) for k in np.argsort(-flat, kind="stable")[:2] if flat[k] > 0]
    views = []
    for value, place, i, k in sorted(found, reverse=True)[:PATCHES]:
        cell = str(explanation.cells.index[i])
        row = explanation.by_token[[place * (side * side + 1) + 1 + k]].toarray().ravel() - typical
        picture = figures.picture_uri(patch_crop(pictures.large(cell), k // side, k % side, side))
        latent = int(explanation.concepts.index.to_numpy()[row.argmax()])
        views.append(PatchView(picture, k // side + 1, k % side + 1, value, latent, pictures.label(cell)))
    return views


def _curves(explanation: PatientExplanation, orders: int, seed: int) -> list[Curve]:
    if orders < 2:
        raise UsageError(f"{orders} random orders give no band; ask for at least 2.")
    draw = (concept_curve, cell_curve)
    return [curve(explanation, mode, orders=orders, seed=seed) for curve in draw for mode in ("deletion", "insertion")]


def _plots(curves: Sequence[Curve], target: str, threshold: float | None) -> list[dict[str, Any]]:
    plots = []
    for what in ("concepts", "cells"):
        pair = [curve for curve in curves if curve.what == what]
        words = ", ".join(f"{curve.mode} of {what}: area {signed(curve.area)}" for curve in pair)
        uri = curves_plot(pair, target=target, threshold=threshold)
        plots.append({"uri": uri, "width": 560, "words": words})
    return plots


def _faithfulness(curves: Sequence[Curve], target: str) -> list[str]:
    """What the curves say, and what they cannot say for a linear model."""
    area = {(curve.what, curve.mode): signed(curve.area) for curve in curves}
    return [
        f"Taking concepts away in the order of their contribution moves the decision for {target} by a mean of "
        f"{area['concepts', 'deletion']} more than taking them away at random, and putting them in by "
        f"{area['concepts', 'insertion']}; for cells it is {area['cells', 'deletion']} and "
        f"{area['cells', 'insertion']} (0: no better than chance).",
        "The model is linear, so that a larger contribution moves it further is arithmetic. What the curves show is "
        "how few concepts and cells carry the decision; whether a concept means what it seems to mean, they do not.",
    ]


def _counterfactual(found: Counterfactual, pictures: CellPictures) -> dict[str, Any]:
    cells = []
    for cell, row in found.cells.head(REMOVED).iterrows():
        picture = figures.picture_uri(pictures.small(str(cell), figures.SMALL))
        value = float(row["contribution"])
        cells.append(ReferenceView(picture, "", pictures.label(str(cell)), value, str(cell), ""))
    margin = f"The margin of {found.decided} is {fixed(found.before, 2)} with all cells"
    margin += f" and {fixed(found.after, 2)} without them." if found.flips else "."
    return {
        "sentence": found.sentence(),
        "margin": margin,
        "cells": cells,
        "more": max(len(found.cells) - REMOVED, 0),
    }


def _specific(table: pd.DataFrame | None) -> Table | None:
    if table is None or table.empty:
        return None
    head = ["Latent", *(str(name).replace("_", " ") for name in table.columns)]
    rows = []
    for latent, row in table.iterrows():
        words = [number(value) if isinstance(value, (int, float)) else str(value) for value in row]
        rows.append(TableRow([str(latent), *words]))
    return Table(head, rows, frozenset(range(1, len(head))), "Outliers against the patients of the same diagnosis.")

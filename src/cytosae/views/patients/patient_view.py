"""One patient: a decision whose numbers add up, with the cells and patches behind them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cytosae.cells.focus.patch_grid import Grid
from cytosae.cohort.explanation.counterfactual import Counterfactual, counterfactual
from cytosae.cohort.explanation.faithfulness import BAND, Curve, cell_curve, concept_curve
from cytosae.cohort.explanation.patient_explanation import PatientExplanation
from cytosae.common.errors import UsageError
from cytosae.views.concepts.concept_view import ConceptView, views_of_concepts
from cytosae.views.parts.number_words import count, fixed, percent, signed, whole
from cytosae.views.parts.opened_dataset import CellView, OpenedDataset, map_views
from cytosae.views.parts.page_parts import Fact, Head, Page, Shown, Table, define, known, series, table_of
from cytosae.views.parts.plots import Axis, Chart, Series
from cytosae.views.patients.evidence import Shared

ROWS, OWN_CELLS, PATCHES, REMOVED = 15, 5, 16, 36
"""Concepts in the table, this patient's cells shown of each concept, strongest patches, cells of the counterfactual."""

RESIDUALS = ("concepts", "cells", "tokens")
WORDS = ("Decision", "Contribution", "Typical", "Alone", "Deletion, insertion", "Follows colour")
"""Levels of the sum, and words that are defined on the page."""


@dataclass(frozen=True)
class KnownOfPatient:
    """What is known of a patient besides the cells, and what is to be said first, a sentence each.

    ``specific`` : concepts in which the patient differs from its own group; index latent, columns shown as they are.
    """

    diagnosis: str | None = None
    notes: Sequence[str] = ()
    specific: pd.DataFrame | None = None


@dataclass(frozen=True)
class PatchView:
    """One patch of a cell; ``row`` and ``column`` count from 0 on the ``grid``."""

    cell: str
    row: int
    column: int
    grid: Grid
    value: float
    latent: int
    label: str | None


@dataclass(frozen=True, kw_only=True)
class PatientView(Page):
    """One patient: a decision, the concepts, cells and patches that add up to it, and what would change it.

    The decision ``value`` is for ``target`` where it is above 0. Contributions of the rows of ``sum`` and of
    ``cells`` add up to it, and so do their differences from the typical patient. ``removed`` are the first of the
    ``removed_cells`` that would have to be taken away for another decision.
    """

    patient: str
    target: str
    against: str
    diagnosis: str | None
    value: float
    decision: str
    sum: Table | None
    residuals: tuple[Fact, ...]
    n_cells: int
    concepts: tuple[ConceptView, ...]
    supporting: tuple[CellView, ...]
    opposing: tuple[CellView, ...]
    patches: tuple[PatchView, ...]
    cells: Table | None
    faithfulness: tuple[str, ...]
    curves: tuple[Chart, ...]
    counterfactual: str
    removed: tuple[CellView, ...]
    removed_cells: int
    specific: Table | None


def view_of_patient(
    explanation: PatientExplanation,
    shared: Shared,
    known_of: KnownOfPatient | None = None,
    *,
    concepts: int = 8,
    orders: int = 200,
    seed: int = 0,
) -> PatientView:
    """Gather a patient.

    ``shared.dataset`` is the one that the explanation is of, ``orders`` are random orders behind the curves.
    """
    dataset, known_of = shared.dataset, known_of or KnownOfPatient()
    first = explanation.concepts.head(concepts).query("difference != 0")
    differs = first.index.astype(int).tolist()
    found, curves = counterfactual(explanation), _curves(explanation, orders, seed)
    supporting, opposing = _big_cells(explanation, dataset)
    target, against = explanation.target, explanation.against or "the others"
    question = f"{target} or {against}?" if explanation.against else f"why {target}, or why not"
    return PatientView(
        head=Head(
            kicker="One patient explained",
            title=f"Patient {explanation.patient}: {question}",
            byline=f"{whole(explanation.n_cells)} cells of {dataset.name}"
            + (f" · known diagnosis: {known_of.diagnosis}" if known_of.diagnosis else ""),
            verdict=_verdict(explanation, known_of.diagnosis),
            warnings=(*known_of.notes, *shared.evidence.doubts),
            notice=shared.evidence.notice,
        ),
        patient=explanation.patient,
        target=target,
        against=against,
        diagnosis=known_of.diagnosis,
        value=explanation.value,
        decision=_decision(explanation),
        tiles=_tiles(explanation, found),
        sum=_sum(explanation, shared),
        residuals=tuple(Fact(name, known(getattr(explanation.residuals, name))) for name in RESIDUALS),
        n_cells=explanation.n_cells,
        concepts=_concepts(explanation, shared, differs),
        supporting=supporting,
        opposing=opposing,
        patches=_patches(explanation, dataset),
        cells=_all_cells(explanation, dataset),
        faithfulness=_faithfulness(curves, target),
        curves=tuple(_chart(curve, target, None if explanation.against is None else 0.0) for curve in curves),
        counterfactual=_counterfactual(found),
        removed=tuple(
            CellView(str(cell), dataset.labels[str(cell)], float(value))
            for cell, value in found.cells["contribution"].head(REMOVED).items()
        ),
        removed_cells=len(found.cells),
        specific=_specific(known_of.specific),
        definitions=define(f"Barcode:{explanation.kind}", *WORDS, target=target),
        made_from=dataset.made_from,
    )


def _verdict(explanation: PatientExplanation, diagnosis: str | None) -> str:
    decided = explanation.decided
    share = percent(float(explanation.probabilities[decided]))
    words = f"The model calls {decided}, with a probability of {share}"
    if not diagnosis:
        return f"{words}."
    return (
        f"{words}; that {'agrees with' if diagnosis == decided else 'differs from'} the known diagnosis ({diagnosis})."
    )


def _decision(explanation: PatientExplanation) -> str:
    words = (
        f"{explanation.decided} is called because, given the cells, it is likelier than its share of the training "
        "patients; the probability holds where the diagnoses are as frequent as among these. The decision of the "
        f"typical patient is {fixed(explanation.reference_value, 2)}."
    )
    if explanation.left_out:
        words += f" {count(explanation.left_out, 'cell')} of types that the model does not count."
    return words


def _tiles(explanation: PatientExplanation, found: Counterfactual) -> tuple[Fact, ...]:
    target, typical = explanation.target, explanation.reference_value
    removal = (
        Fact("cells whose removal changes the decision, at the least", f"{len(found.cells)} of {found.n_cells}")
        if found.flips
        else Fact("removal of cells changes the decision", "no")
    )
    return (
        Fact(
            f"decision; above 0 it is for {target}", fixed(explanation.value, 2), "text", fixed(typical, 2), "typical"
        ),
        Fact(f"probability of {target}, by the model", float(explanation.probabilities[target]), "percent"),
        Fact("cells", explanation.n_cells, "count"),
        Fact("concepts in the model", len(explanation.concepts), "count"),
        removal,
    )


def _sum(explanation: PatientExplanation, shared: Shared) -> Table | None:
    """Intercept, the largest concepts, all others in one, and the decision."""
    most = len(explanation.concepts) if len(explanation.concepts) <= 2 * ROWS else ROWS
    first, rest = explanation.concepts.head(most), explanation.concepts.iloc[most:]
    rows = [_part("Intercept; decision of the typical patient", explanation.intercept, explanation.reference_value)]
    for latent, row in zip(first.index.astype(int), first.to_dict("records"), strict=True):
        named = {"concept": f"Latent {latent}", "mostly on": shared.dataset.top_class(latent), "bar": row["difference"]}
        rows.append({**named, **row, "typical": row["reference"], "doubts": shared.marks.label(latent)})
    if len(rest):
        words = f"The other {count(len(rest), 'concept')}"
        rows.append(_part(words, rest["contribution"].sum(), rest["difference"].sum()))
    rows.append(_part("Decision", explanation.value, explanation.value))
    bar = f"{explanation.against or 'the others'} ← → {explanation.target}"
    heads = ["concept", "mostly on", "cells", "coefficient", "barcode", "typical"]
    heads += ["contribution", "difference", "bar", "doubts"]
    frame = pd.DataFrame([{head.capitalize(): row.get(head) for head in heads} for row in rows])
    ways: dict[str, Shown] = {"Coefficient": "signed", "Cells": "count", "Contribution": "fixed", "Difference": "fixed"}
    return table_of(
        frame.rename(columns={"Bar": bar}),
        f"{_which(len(first), len(explanation.concepts))}, by how far the patient is from the typical one. "
        "Contributions and differences add up to the decision. Bars: difference.",
        shown={**ways, bar: "bar"},
        strong=[False] * (len(rows) - 1) + [True],
    )


def _which(shown: int, there: int) -> str:
    return f"All {count(there, 'concept')}" if shown == there else f"The {shown} largest of {count(there, 'concept')}"


def _part(words: str, contribution: float, difference: float) -> dict[str, Any]:
    return {"concept": words, "contribution": contribution, "difference": difference}


def _all_cells(explanation: PatientExplanation, dataset: OpenedDataset) -> Table | None:
    """Every cell with what it adds, and the sum."""
    value = explanation.value
    rows = [
        (str(cell)[:12], dataset.labels[str(cell)] or "unlabelled", *numbers)
        for cell, *numbers in explanation.cells[["contribution", "difference", "alone"]].itertuples()
    ]
    rows.append(("Intercept; typical patient", "", explanation.intercept, explanation.reference_value, None))
    rows.append(("Decision", "", value, value, value))
    heads = ["Cell", "Label", "Contribution", "Difference", "Decision from this cell alone"]
    return table_of(
        pd.DataFrame([dict(zip(heads, row, strict=True)) for row in rows]),
        "Contributions and differences add up to the decision, which is the mean over cells of what each alone gives.",
        shown={"Contribution": "fixed", "Difference": "fixed", "Decision from this cell alone": "signed"},
        strong=[False] * (len(rows) - 1) + [True],
    )


def _concepts(explanation: PatientExplanation, shared: Shared, shown: list[int]) -> tuple[ConceptView, ...]:
    own = {latent: _own_cells(explanation, latent) for latent in shown}
    maps = shared.dataset.maps((cell, latent) for latent in shown for cell in own[latent])
    facts = {latent: _facts(explanation.concepts.loc[latent], explanation.n_cells) for latent in shown}
    views = views_of_concepts(shared.dataset, shown, facts=facts, marks=shared.marks)
    made = []
    for view in views:
        cells = shared.dataset.cell_views(list(own[view.latent]), list(own[view.latent].values()), view.latent, maps)
        there = explanation.concepts.at[view.latent, "cells"]
        words = f"In this patient: {whole(there)} of {whole(explanation.n_cells)} cells have it"
        made.append(replace(view, own=cells, own_words=words))
    return tuple(made)


def _facts(row: Any, n_cells: int) -> tuple[Fact, ...]:
    return (
        Fact("Contribution", float(row["contribution"]), "signed"),
        Fact("Difference from typical", float(row["difference"]), "signed"),
        Fact("Coefficient", float(row["coefficient"]), "signed"),
        Fact("Barcode here", float(row["barcode"]), "number", float(row["reference"]), "typical"),
        Fact("Cells with it", float(row["cells"]) / n_cells, "percent"),
    )


def _own_cells(explanation: PatientExplanation, latent: int) -> dict[str, float]:
    """The patient's cells through which the concept adds most, in size, with what they add."""
    column = explanation.by_cell[:, [explanation.concepts.index.get_loc(latent)]].toarray().ravel()
    order = [int(i) for i in np.argsort(-np.abs(column), kind="stable")[:OWN_CELLS] if column[i] != 0]
    return {str(explanation.cells.index[i]): float(column[i]) for i in order}


def _big_cells(
    explanation: PatientExplanation, dataset: OpenedDataset
) -> tuple[tuple[CellView, ...], tuple[CellView, ...]]:
    """Cells taken apart into tokens: those for the target, largest first, and those against it, likewise."""
    if explanation.by_token is None or not len(explanation.detailed):
        return (), ()
    # Beyond an average token of the typical patient: what fires on every token of everybody drops out.
    offset = float(explanation.typical_token.sum())
    tokens = [explanation.cell_tokens(place) - offset for place in range(len(explanation.detailed))]
    maps = map_views([own[1:].reshape(explanation.grid) for own in tokens])
    views = []
    for i, own, grid in zip(explanation.detailed, tokens, maps, strict=True):
        cell = str(explanation.cells.index[i])
        words = f"patches {fixed(float(own[1:].sum()))}, CLS {fixed(float(own[0]))}; {_through(explanation, int(i))}"
        value = float(explanation.cells["difference"].iloc[i])
        views.append(CellView(cell, dataset.labels[cell], value, grid, words=words))
    half = (len(views) + 1) // 2
    supporting = [view for view in views[:half] if (view.value or 0.0) > 0]
    return tuple(supporting), tuple(view for view in views[half:][::-1] if (view.value or 0.0) < 0)


def _through(explanation: PatientExplanation, i: int, n: int = 2) -> str:
    """The concepts through which a cell adds most to its own direction."""
    row = explanation.by_cell[[i]].toarray().ravel() - explanation.typical_token * explanation.n_tokens
    direction = np.sign(row.sum()) or 1.0
    order = [k for k in np.argsort(-direction * row, kind="stable")[:n] if direction * row[k] > 0]
    latents = [f"{explanation.concepts.index[k]} ({signed(float(row[k]), 2)})" for k in order]
    return f"most by latent{'s' if len(latents) > 1 else ''} {', '.join(latents)}" if latents else "no concept in it"


def _patches(explanation: PatientExplanation, dataset: OpenedDataset) -> tuple[PatchView, ...]:
    """The patches that add most for the target among the cells taken apart, two of a cell at the most."""
    if explanation.by_token is None:
        return ()
    T, typical = explanation.n_tokens, explanation.typical_token
    offset = float(typical.sum())
    found: list[tuple[float, int, int, int]] = []
    for place, i in enumerate(explanation.detailed):
        flat = explanation.cell_map(place).ravel() - offset
        found += [(float(flat[k]), place, int(i), int(k)) for k in np.argsort(-flat, kind="stable")[:2] if flat[k] > 0]
    views = []
    for value, place, i, k in sorted(found, reverse=True)[:PATCHES]:
        cell = str(explanation.cells.index[i])
        row = explanation.by_token[[place * T + 1 + k]].toarray().ravel() - typical
        latent = int(explanation.concepts.index.to_numpy()[row.argmax()])
        views.append(
            PatchView(cell, *divmod(k, explanation.grid[1]), explanation.grid, value, latent, dataset.labels[cell])
        )
    return tuple(views)


def _curves(explanation: PatientExplanation, orders: int, seed: int) -> list[Curve]:
    if orders < 2:
        raise UsageError(f"{orders} random orders give no band; ask for at least 2.")
    draw = (concept_curve, cell_curve)
    return [curve(explanation, mode, orders=orders, seed=seed) for curve in draw for mode in ("deletion", "insertion")]


def _chart(curve: Curve, target: str, level: float | None) -> Chart:
    def plain(values: NDArray[Any]) -> tuple[float, ...]:
        return series(values, 6)

    mean, low, high = (plain(values) for values in (curve.random_mean, curve.random_low, curve.random_high))
    steps = plain(curve.steps)
    band = whole(100 * (BAND[1] - BAND[0]))
    return Chart(
        words=(
            f"{curve.mode.capitalize()} of {curve.what}: area {signed(curve.area)}. Green: in order of contribution; "
            f"grey: mean and {band} % band of {whole(curve.orders)} random orders. Dashed: where the decision changes."
        ),
        x=Axis(f"{curve.what} {'taken away' if curve.mode == 'deletion' else 'put in'}"),
        y=Axis(f"decision for {target}"),
        series=(
            Series("random order", steps, mean, low, high),
            Series("by contribution", steps, plain(curve.values), strong=True),
        ),
        title=f"{curve.mode.capitalize()} of {curve.what}",
        level=level,
    )


def _faithfulness(curves: Sequence[Curve], target: str) -> tuple[str, ...]:
    """What the curves say, and what they cannot say for a linear model."""
    area = {(curve.what, curve.mode): signed(curve.area) for curve in curves}
    return (
        f"Taking concepts away in the order of their contribution moves the decision for {target} by a mean of "
        f"{area['concepts', 'deletion']} more than taking them away at random, and putting them in by "
        f"{area['concepts', 'insertion']}; for cells it is {area['cells', 'deletion']} and "
        f"{area['cells', 'insertion']} (0: no better than chance).",
        "The model is linear, so that a larger contribution moves it further is arithmetic. What the curves show is "
        "how few concepts and cells carry the decision; whether a concept means what it seems to mean, they do not.",
    )


def _counterfactual(found: Counterfactual) -> str:
    margin = f"The margin of {found.decided} is {fixed(found.before, 2)} with all cells"
    margin += f" and {fixed(found.after, 2)} without them." if found.flips else "."
    return f"{found.sentence()} {margin}"


def _specific(table: pd.DataFrame | None) -> Table | None:
    if table is None or table.empty:
        return None
    named = table.rename_axis("latent").reset_index().astype({"latent": str})
    return table_of(named, "Outliers against the patients of the same diagnosis.")

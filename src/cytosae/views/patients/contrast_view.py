"""Two groups of patients compared, latent by latent, as it is shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cytosae.cohort.contrasts.contrast import conclusion
from cytosae.cohort.patients.diagnoses import REST
from cytosae.views.concepts.concept_view import ConceptView, views_of_concepts
from cytosae.views.parts.marks import Marks
from cytosae.views.parts.number_words import count, whole
from cytosae.views.parts.opened_dataset import OpenedDataset
from cytosae.views.parts.page_parts import Fact, Table, known, measured, series, table_of
from cytosae.views.parts.plots import Axis, Scatter

UNITS = {"mean": "mean activation", "count": "tokens a cell", "presence": "share of cells"}
"""Units of the kinds of barcodes."""

EFFECT = "Cliff’s delta"
"""Effect that is shown: the share of pairs of patients in which the first is higher, less the reverse."""


@dataclass(frozen=True)
class ContrastView:
    """Patients of ``group`` against those of ``against``; effects are above 0 where ``group`` is higher.

    ``found`` of the ``tested`` concepts have a q of at most ``level``; of those shown, ``higher`` are so in ``group``
    and ``doubtful`` have a mark; ``set_aside`` of those found live in the background and are not shown.
    """

    group: str
    against: str
    kind: str
    patients: int
    patients_against: int
    tested: int
    found: int
    level: float
    shown: int
    higher: int
    doubtful: int
    set_aside: int
    conclusion: str
    volcano: Scatter
    diagonal: Scatter
    table: Table | None


def view_of_contrast(table: pd.DataFrame, dataset: OpenedDataset, marks: Marks, concepts: int) -> ContrastView:
    """What `cytosae.cohort.contrast` returned, with its ``concepts`` clearest concepts."""
    facts = table.attrs
    group, against, kind, level = str(facts["a"]), against_words(table), str(facts["kind"]), float(facts["fdr"])
    shown = clearest(table, concepts, marks)
    latents = [int(latent) for latent in shown.index]
    return ContrastView(
        group=group,
        against=against,
        kind=kind,
        patients=int(facts["n_a"]),
        patients_against=int(facts["n_b"]),
        tested=int(table["p"].notna().sum()),
        found=int((table["q"] <= level).sum()),
        level=level,
        shown=len(latents),
        higher=int((shown["cliffs_delta"] > 0).sum()),
        doubtful=marks.count(latents),
        set_aside=sum(marks.set_aside(int(latent)) for latent in table.index[table["q"] <= level]),
        conclusion=conclusion(table),
        volcano=_volcano(table, latents, group, level),
        diagonal=_diagonal(table, latents, (group, against), UNITS[kind]),
        table=_table(shown, dataset, marks, (group, against), UNITS[kind]),
    )


def clearest(table: pd.DataFrame, n: int, marks: Marks) -> pd.DataFrame:
    """The ``n`` clearest concepts: smallest p first, ties by size of effect; those that are set aside left out."""
    tested = table.dropna(subset=["p"])
    known_p = tested.loc[[not marks.set_aside(int(latent)) for latent in tested.index]]
    order = np.lexsort((-np.abs(known_p["cliffs_delta"].to_numpy()), known_p["p"].to_numpy()))
    return known_p.iloc[order[:n]]


def against_words(table: pd.DataFrame) -> str:
    """Who the others are."""
    return "the other patients" if table.attrs["b"] == REST else str(table.attrs["b"])


def contrast_facts(view: ContrastView) -> tuple[Fact, ...]:
    """The numbers that matter of a contrast."""
    return (
        Fact(f"patients with {view.group}", view.patients, "count"),
        Fact(f"patients with {view.against}", view.patients_against, "count"),
        Fact(f"of {whole(view.tested)} concepts differ (q ≤ {view.level:g})", view.found, "count"),
        Fact(f"of {count(view.shown, 'concept')} shown to be doubted", view.doubtful, "count"),
    )


def set_aside_words(view: ContrastView) -> str:
    """What is said of concepts that are not shown; empty where there are none."""
    if not view.set_aside:
        return ""
    live = "lives" if view.set_aside == 1 else "live"
    return (
        f"Of those that differ {count(view.set_aside, 'more concept')} {live} in the background, beside the cells, and "
        "are not shown here (--cohort.background shows them)."
    )


def contrast_concepts(
    table: pd.DataFrame, dataset: OpenedDataset, marks: Marks, concepts: int
) -> tuple[ConceptView, ...]:
    """The clearest concepts of a contrast with their reference cells and maps."""
    shown = clearest(table, concepts, marks)
    group, against = str(table.attrs["a"]), against_words(table)
    facts = {}
    for latent, row in zip(shown.index, shown.to_dict("records"), strict=True):
        facts[int(latent)] = (
            Fact(f"In {group}", known(row["mean_a"]), "number", known(row["mean_b"]), f"in {against}"),
            Fact(EFFECT, measured(row, "cliffs_delta"), "two"),
            Fact("q", known(row["q"]), "p"),
        )
    return views_of_concepts(dataset, list(facts), facts=facts, marks=marks)


def _table(
    shown: pd.DataFrame, dataset: OpenedDataset, marks: Marks, names: tuple[str, str], unit: str
) -> Table | None:
    latents = [int(latent) for latent in shown.index]
    frame = pd.DataFrame(
        {
            "Latent": [str(latent) for latent in latents],
            "Mostly on": [dataset.top_class(latent) for latent in latents],
            **{name: shown[mean].tolist() for name, mean in zip(names, ("mean_a", "mean_b"), strict=True)},
            EFFECT: [measured(row, "cliffs_delta") for row in shown.to_dict("records")],
            "p": shown["p"].tolist(),
            "q": shown["q"].tolist(),
            "": [marks.label(latent) for latent in latents],
        }
    )
    caption = f"Barcodes: {unit}, means over patients. In brackets: 95 % intervals."
    return table_of(frame, caption, shown={EFFECT: "two", "p": "p", "q": "p"})


def _volcano(table: pd.DataFrame, ringed: Sequence[int], group: str, level: float) -> Scatter:
    tested = table.dropna(subset=["cliffs_delta", "p"])
    effect, p, q = (tested[name].to_numpy(dtype=float) for name in ("cliffs_delta", "p", "q"))
    sizes, certain = -np.log10(np.maximum(p, 1e-300)), q <= level
    return Scatter(
        words=f"Every tested concept by {EFFECT} and p. Coloured: q ≤ {level:g}. Rings: the clearest.",
        x=Axis(f"{EFFECT}: lower  ←  in {group}  →  higher"),
        y=Axis("−log₁₀ p"),
        latents=tuple(int(latent) for latent in tested.index),
        xs=series(effect),
        ys=series(sizes),
        ringed=tuple(ringed),
        sides=tuple(np.where(certain, np.where(effect > 0, 1, -1), 0).tolist()),
        guide="middle",
        level=float(f"{sizes[certain].min():.4g}") if certain.any() else None,
    )


def _diagonal(table: pd.DataFrame, ringed: Sequence[int], names: tuple[str, str], unit: str) -> Scatter:
    """Barcodes of both groups against each other; on a logarithmic axis what is 0 stands at half of the smallest."""
    first, second = table["mean_b"].to_numpy(dtype=float), table["mean_a"].to_numpy(dtype=float)
    there = (first > 0) | (second > 0)
    positive = np.concatenate([first[first > 0], second[second > 0]])
    floor = float(positive.min()) / 2 if len(positive) else 1e-6
    marked = np.isin(table.index.astype(int), list(ringed))
    return Scatter(
        words=f"Disease barcodes ({unit}): means over patients. On the line: no difference. Rings: the clearest.",
        x=Axis(f"{names[1]}, {unit}", log=True),
        y=Axis(f"{names[0]}, {unit}", log=True),
        latents=tuple(int(latent) for latent in table.index[there]),
        xs=series(np.maximum(first, floor)[there]),
        ys=series(np.maximum(second, floor)[there]),
        ringed=tuple(ringed),
        sides=tuple(np.where(marked, np.where(second > first, 1, -1), 0)[there].tolist()),
        guide="diagonal",
    )

"""What speaks for one concept of a study: beside random latents, taken out of cells, and what steps have measured."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cytosae.atlas.explaining.intervention import Effect, change_concepts
from cytosae.backbones import Backbone
from cytosae.common.errors import InputError
from cytosae.evaluation.concept_evidence import Latent, beside_random, strongest
from cytosae.evaluation.quality_table import read_quality
from cytosae.pipeline.pairs_step import PAIRS
from cytosae.tokens.focus.part_shares import shares_of_table
from cytosae.views.concepts.concept_evidence_view import (
    Compared,
    EvidencePage,
    KnownOfConcept,
    view_of_effects,
    view_of_quality_beside,
)
from cytosae.views.concepts.concept_names import name_of, reference_ids
from cytosae.views.datasets.pairs_view import facts_of_pairs, sentence
from cytosae.views.parts.number_words import percent, whole
from cytosae.views.parts.opened_dataset import OpenedDataset
from cytosae.views.parts.page_parts import Fact, Number, known

if TYPE_CHECKING:
    from cytosae.atlas.stored.latent_columns import Columns
    from cytosae.pipeline.concept_changes import ConceptChanges
    from cytosae.pipeline.study import Study

CHANGED, CONTROLS = 6, 20
"""Reference cells that a concept is taken out of, and random latents beside it."""


def evidence_of(changes: ConceptChanges, columns: Columns, latent: int) -> EvidencePage:
    """Compare a concept with random latents, and take it out of its reference cells; takes some seconds.

    Parameters
    ----------
    changes : ConceptChanges
        The data set.
    columns : Columns
        The atlas of the data set by latent.
    latent : int
        The concept.
    """
    dataset = changes.dataset
    names = dataset.atlas.obs_names
    place = names.get_indexer(pd.Index(dataset.store.cell_ids))
    rows, values = columns.of(latent)
    dense = np.zeros(len(names), np.float32)
    dense[rows] = values
    frequency = float(dataset.fact(latent, "token_frequency"))
    one = Latent(latent, dense[place], frequency)
    labels = [dataset.labels[str(cell)] for cell in dataset.store.cell_ids]
    areas = _areas(dataset, strongest(dataset.store, one))
    quality = view_of_quality_beside(beside_random(dataset.sae, dataset.store, one, labels, areas=areas, seed=latent))
    effect = _effect(changes, latent)
    return EvidencePage(dataset.name, latent, name_of(dataset, latent), quality, effect)


def known_of_concept(study: Study, dataset: str, latent: int) -> KnownOfConcept:
    """What `cytosae atlas quality` and `cytosae atlas verdicts` have left in the study about a concept."""
    folder = study.path / "quality"
    facts: list[Fact] = []
    missing: list[str] = []
    stability = _row(folder / f"{dataset}_stability.csv", latent)
    if stability is None:
        missing.append(
            "Whether the concept comes back when the SAE is trained from another seed is not known; find out with: "
            "cytosae atlas quality --study STUDY."
        )
    else:
        chance = _chance(folder / f"{dataset}.csv")
        words = "" if chance is None else "random directions"
        facts.append(Fact("Stability", known(float(stability["stability"])), "two", chance, words))
    verdict = _row(folder / f"{dataset}_verdicts.csv", latent)
    if verdict is None:
        atlas = study.place("atlas", dataset).name
        missing.append(
            "Whether the concept goes with the cell or with how its image came about is not known; find out with: "
            f"cytosae atlas verdicts STUDY/atlas/{atlas} --out STUDY/quality/{dataset}_verdicts.csv."
        )
    else:
        facts.append(Fact("Artefact or morphology", verdict["verdict"]))
        for name, words in (("morphology", "Explained by the cell"), ("artefact", "Explained by the image")):
            ends = [known(float(verdict[f"{name}{end}"])) for end in ("", "_low", "_high")]
            facts.append(Fact(words, Number(*ends), "percent"))
    followed = ""
    if not study.has(PAIRS):
        missing.append(
            "Whether the concept follows one attribute of a cell and nothing else is not known; find out with: "
            "cytosae atlas pairs --study STUDY."
        )
    elif row := _in_pairs(study, latent):
        followed = sentence(row)
        facts += facts_of_pairs(row)
    else:
        followed = "It is active on no drawn cell, so that drawn pairs tell nothing of it."
    return KnownOfConcept(tuple(facts), tuple(missing), followed)


def _in_pairs(study: Study, latent: int) -> dict[Any, Any] | None:
    """What pairs of drawn cells tell of a concept, where it is active on any."""
    found = study.read(PAIRS).latents
    rows = found[(found["weights"] == "learned") & (found["latent"] == latent)].to_dict("records")
    return rows[0] if rows else None


def verdicts_known(study: Study, dataset: str) -> dict[int, str] | None:
    """Latent -> artefact or morphology, as `cytosae atlas verdicts` has left it in the study; None where it has not."""
    try:
        table = pd.read_csv(study.path / "quality" / f"{dataset}_verdicts.csv", index_col=0)
        return dict(zip(map(int, table.index.to_numpy()), map(str, table["verdict"]), strict=True))
    except (OSError, ValueError, KeyError):
        return None


def _effect(changes: ConceptChanges, latent: int) -> Compared:
    """What the model makes of the reference cells of a concept without it, by the image token and by the probe."""
    dataset, probe, backbone = changes.dataset, changes.probe, changes.study.backbone
    if not isinstance(backbone, Backbone):
        return Compared(f"What removing it does cannot be seen: {backbone.name} runs elsewhere than in torch.", ())
    row_in_atlas = {str(cell): row for row, cell in enumerate(dataset.atlas.obs_names)}
    ends: list[Effect] = []
    types: list[Effect] = []
    own = []
    for cell in reference_ids(dataset, latent)[:CHANGED]:
        at = dataset.row_in_store[cell]
        tokens = dataset.store.read(at, at + 1)[0].float()
        counted = None if dataset.store.counted is None else np.flatnonzero(dataset.store.counted[at][1:]).tolist()
        half = None if isinstance(probe, str) else probe.unseen(row_in_atlas[cell])
        effect = change_concepts(
            *(tokens, dataset.sae, changes.ends_of, {latent: 0.0}),
            patches=counted,
            controls=CONTROLS,
            seed=latent,
        )
        ends.append(effect)
        if half is not None:
            before, after = half.probabilities(np.stack([effect.before, effect.after]))
            types.append(Effect(before, after, half.probabilities(effect.before + effect.random) - before))
            own.append(dataset.labels[cell])
    if isinstance(probe, str):
        return view_of_effects(ends, (), (), (), probe)
    note = (
        f"The type is read by a probe fitted on {whole(probe.cells)} cells of other patients: balanced accuracy "
        f"{percent(probe.accuracy)}, by chance {percent(1 / len(probe.types))}. Random latents change every token "
        "by as much, along another direction of the decoder."
    )
    return view_of_effects(ends, types, probe.types, own, note)


def _areas(dataset: OpenedDataset, rows: NDArray[np.intp]) -> dict[int, NDArray[np.float32]] | None:
    """Share of each patch that nucleus and the rest of the cell cover, (2, P) a row; None without images."""
    if not len(rows) or not dataset.cells.root.is_dir():
        return None
    of_cell = pd.Index(dataset.cells.frame["cell_id"]).get_indexer(pd.Index([dataset.store.cell_ids[r] for r in rows]))
    try:
        shares = np.concatenate(list(shares_of_table(dataset.cells.subset(of_cell), dataset.store.grid)))
    except InputError:
        return None
    return {int(row): own[:2] for row, own in zip(rows, shares, strict=True)}


def _row(file: Path, latent: int) -> dict[str, str] | None:
    """The row of a latent in a table that a command has left, None where there is none."""
    try:
        with file.open(encoding="utf-8", newline="") as lines:
            head = next(lines)
            line = next((one for one in lines if one.startswith(f"{latent},")), None)
    except (OSError, StopIteration, UnicodeDecodeError):
        return None
    return None if line is None else next(csv.DictReader([head, line]))


def _chance(file: Path) -> float | None:
    """Stability of random directions, in the table of measures."""
    quality = read_quality(file)
    if quality is None:
        return None
    table = quality.table
    found = table.loc[(table["measure"] == "stability") & (table["family"] == "random directions"), "value"]
    return known(found.iloc[0]) if len(found) else None

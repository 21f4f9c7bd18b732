"""The quality of a study's SAE: controls are trained by its recipe and on its tokens, then all are measured."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cytosae.atlas.comparing.matching import Matching, match_directions
from cytosae.backbones import Backbone
from cytosae.common.errors import ArtifactError, InputError, UsageError
from cytosae.evaluation.config import QualityConfig
from cytosae.evaluation.dictionary_quality import chosen_cells, score_families, summed_up
from cytosae.evaluation.quality_families import FAMILIES, RANDOM_BACKBONE, quality_families
from cytosae.evaluation.quality_table import DictionaryQuality, localisation_rows, stability_rows, with_rows
from cytosae.evaluation.untrained_controls import TRAINED, random_backbone, train_controls
from cytosae.pipeline.step import Place
from cytosae.sae import Trainer
from cytosae.tokens import ReaderConfig, TokenReader, TokenStore, extract

if TYPE_CHECKING:
    from cytosae.pipeline.study import Study
    from cytosae.sae import Recipe


@dataclass(frozen=True)
class Scores:
    """What was measured of some families of units, and how the SAE recurs where that is among it.

    Attributes
    ----------
    table : DataFrame
        A row for each ``dataset``, ``measure``, ``family`` and ``split`` with its ``value``.
    facts : dict of str to dict
        Data set -> facts of it.
    matching : Matching or None
        The SAE's latents with those of another seed.
    """

    table: pd.DataFrame
    facts: dict[str, dict[str, Any]]
    matching: Matching | None


def measure_study(
    study: Study, datasets: Sequence[str], config: QualityConfig, pieces: Sequence[Scores] = ()
) -> tuple[dict[str, DictionaryQuality], Matching]:
    """Quality of a study's SAE on the labelled cells of data sets, and how its latents recur with another seed.

    ``pieces`` are scores that are there (`cytosae.pipeline.quality_parts`); without any all are measured. A data set
    without enough labelled cells is an `InputError`.
    """
    pieces = pieces or [score_study(study, datasets, config)]
    matching = next(piece.matching for piece in pieces if piece.matching is not None)
    rows = stability_rows(matching.table["likeness"].to_numpy(), matching.by_chance)
    with suppress(ArtifactError):  # a study without masks has none
        rows += localisation_rows(study.read(Place("localisation")).table)
    table = pd.concat([piece.table for piece in pieces], ignore_index=True)
    table = table.drop_duplicates(["dataset", "measure", "family", "split"])  # each knows the tokens themselves
    order = [*FAMILIES, *table["family"].unique()]
    table = table.sort_values("family", key=lambda names: names.map(order.index), kind="stable")
    scores: dict[Any, pd.DataFrame] = dict(iter(table.groupby("dataset")))
    found = {name: summed_up(scores[name], pieces[0].facts[name]) for name in datasets}
    return {name: with_rows(one, rows) for name, one in found.items()}, matching


def score_study(
    study: Study, datasets: Sequence[str], config: QualityConfig, names: Collection[str] = FAMILIES
) -> Scores:
    """Train and measure families of units, all or some.

    The controls are trained once, on all data sets that the SAE was trained on, and the SAE on the backbone with random
    weights on the data sets that are measured.
    """
    labels = {name: labels_of(study, name) for name in datasets}
    for one in labels.values():
        chosen_cells(one, config)  # what cannot be measured is refused before anything is trained
    recipe, sae = recipe_of_controls(study, config), study.sae()
    stores = [study.tokens(name) for name in study.trained_on]
    which = study.config.reading.which
    wanted = [name for name in TRAINED if name in names]
    trained = {}
    if wanted:
        trained = train_controls(recipe, stores, which=which, seed=recipe.train.seed + 1, names=wanted)
    again = trained.get("another seed")
    matching = None if again is None else match_directions(sae, again, seed=config.seed)
    tables, facts = [], {}
    with tempfile.TemporaryDirectory() as folder:
        untaught, random_stores = None, {}
        if config.random_backbone and RANDOM_BACKBONE in names:
            random_stores = {name: _random_tokens(study, name, Path(folder) / name) for name in datasets}
            untaught = recipe.build(stores[0].width)
            asked = ReaderConfig(batch_tokens=recipe.train.batch_tokens, which=which)
            Trainer(untaught, recipe.train).fit(TokenReader(list(random_stores.values()), asked))
        for name in datasets:
            other = None if untaught is None else (untaught, random_stores[name])
            families = quality_families(sae, study.tokens(name), config, trained=trained, random_backbone=other)
            asked_for = {family: units for family, units in families.items() if family in names}
            finish = _of_torch(study).finish
            table, facts[name] = score_families(
                asked_for, study.tokens(name), labels[name], finish=finish, config=config
            )
            tables.append(table.assign(dataset=name))
    return Scores(pd.concat(tables, ignore_index=True), facts, matching)


def recipe_of_controls(study: Study, config: QualityConfig) -> Recipe:
    """The recipe by which controls are trained."""
    recipe = study.config.sae
    return recipe if config.steps is None else replace(recipe, train=replace(recipe.train, steps=config.steps))


def measurable(study: Study, config: QualityConfig, say: Callable[[str], None]) -> list[str]:
    """Data sets of a study with enough labelled cells to measure quality; ``say`` hears why others are left out."""
    names = []
    for name in study.datasets:
        try:
            chosen_cells(labels_of(study, name), config)
            names.append(name)
        except InputError as error:
            say(f"{name} is left out: {error}")
    if not names:
        raise InputError(f"No data set of the study {study.path} has enough labelled cells to measure quality.")
    return names


def labels_of(study: Study, dataset: str) -> list[str | None]:
    """Labels of a data set's cells in the order of its tokens."""
    frame = study.cells(dataset).frame.set_index("cell_id").loc[list(study.tokens(dataset).cell_ids)]
    return [label if isinstance(label, str) else None for label in frame["label"].astype(object)]


def _random_tokens(study: Study, dataset: str, folder: Path) -> TokenStore:
    """Tokens of a data set by the study's backbone with random weights, in the order of its own tokens."""
    cells = study.cells(dataset)
    place = {cell: row for row, cell in enumerate(cells.frame["cell_id"])}
    ordered = cells.subset(np.array([place[cell] for cell in study.tokens(dataset).cell_ids]))
    return extract(ordered, random_backbone(_of_torch(study)), folder, config=study.config.extract)


def _of_torch(study: Study) -> Backbone:
    """The study's backbone, whose remaining blocks can be run and whose weights can be dealt out anew."""
    backbone = study.backbone
    if not isinstance(backbone, Backbone):
        raise UsageError(f"The quality of an SAE needs its backbone in torch; {backbone.name} runs elsewhere.")
    return backbone

"""The quality of a study's SAE: controls are trained by its recipe and on its tokens, then all are measured."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cytosae.atlas.matching import Matching, match_directions
from cytosae.backbones import Backbone
from cytosae.common.errors import ArtifactError, InputError, UsageError
from cytosae.evaluation.config import QualityConfig
from cytosae.evaluation.dictionary_quality import chosen_cells, measure_quality
from cytosae.evaluation.quality_families import quality_families
from cytosae.evaluation.quality_table import DictionaryQuality, localisation_rows, stability_rows, with_rows
from cytosae.evaluation.untrained_controls import random_backbone, train_controls
from cytosae.pipeline.step import Place
from cytosae.sae import Trainer
from cytosae.tokens import ReaderConfig, TokenReader, TokenStore, extract

if TYPE_CHECKING:
    from cytosae.pipeline.study import Study


def measure_study(
    study: Study, datasets: Sequence[str], config: QualityConfig
) -> tuple[dict[str, DictionaryQuality], Matching]:
    """Quality of a study's SAE on the labelled cells of data sets, and how its latents recur with another seed.

    The controls are trained once, on all data sets that the SAE was trained on, and the SAE on the backbone with random
    weights on the data sets that are measured. A data set without enough labelled cells is an `InputError`.
    """
    labels = {name: labels_of(study, name) for name in datasets}
    for one in labels.values():
        chosen_cells(one, config)  # what cannot be measured is refused before anything is trained
    recipe = study.config.sae
    if config.steps is not None:
        recipe = replace(recipe, train=replace(recipe.train, steps=config.steps))
    sae = study.sae()
    stores = [study.tokens(name) for name in study.trained_on]
    which = study.config.reading.which
    trained = train_controls(recipe, stores, which=which, seed=recipe.train.seed + 1)
    matching = match_directions(sae, trained["another seed"], seed=config.seed)
    rows = stability_rows(matching.table["likeness"].to_numpy(), matching.by_chance)
    with suppress(ArtifactError):  # a study without masks has none
        rows += localisation_rows(study.read(Place("localisation")).table)
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        untaught, random_stores = None, {}
        if config.random_backbone:
            random_stores = {name: _random_tokens(study, name, Path(folder) / name) for name in datasets}
            untaught = recipe.build(stores[0].width)
            asked = ReaderConfig(batch_tokens=recipe.train.batch_tokens, which=which)
            Trainer(untaught, recipe.train).fit(TokenReader(list(random_stores.values()), asked))
        for name in datasets:
            other = None if untaught is None else (untaught, random_stores[name])
            families = quality_families(sae, study.tokens(name), config, trained=trained, random_backbone=other)
            finish = _of_torch(study).finish
            measured = measure_quality(families, study.tokens(name), labels[name], finish=finish, config=config)
            found[name] = with_rows(measured, rows)
    return found, matching


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

"""The quality of a study's SAE: controls are trained by its recipe and on its tokens, then all are measured."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cytosae.atlas.matching import Matching, match_directions
from cytosae.backbones import Backbone
from cytosae.common.errors import ArtifactError, UsageError
from cytosae.evaluation.config import QualityConfig
from cytosae.evaluation.dictionary_quality import measure_quality
from cytosae.evaluation.quality_families import quality_families
from cytosae.evaluation.quality_table import DictionaryQuality, localisation_rows, stability_rows, with_rows
from cytosae.evaluation.untrained_controls import random_backbone, train_controls
from cytosae.pipeline.step import Place
from cytosae.sae import Trainer
from cytosae.tokens import ReaderConfig, TokenReader, TokenStore, extract

if TYPE_CHECKING:
    from cytosae.pipeline.study import Study


def measure_study(study: Study, dataset: str, config: QualityConfig) -> tuple[DictionaryQuality, Matching]:
    """Quality of a study's SAE on the labelled cells of a data set, and how its latents recur with another seed.

    The controls are trained on all data sets that the SAE was trained on.
    """
    recipe = study.config.sae
    if config.steps is not None:
        recipe = replace(recipe, train=replace(recipe.train, steps=config.steps))
    sae, cells = study.sae(), study.cells(dataset)
    stores = [study.tokens(name) for name in study.trained_on]
    which = study.config.reading.which
    trained = train_controls(recipe, stores, which=which, seed=recipe.train.seed + 1)
    store = study.tokens(dataset)
    frame = cells.frame.set_index("cell_id").loc[list(store.cell_ids)]
    labels = [label if isinstance(label, str) else None for label in frame["label"].astype(object)]
    with tempfile.TemporaryDirectory() as folder:
        other = None
        if config.random_backbone:
            tokens = _random_tokens(study, dataset, Path(folder))
            untaught = recipe.build(tokens.width)
            reader = TokenReader([tokens], ReaderConfig(batch_tokens=recipe.train.batch_tokens, which=which))
            Trainer(untaught, recipe.train).fit(reader)
            other = (untaught, tokens)
        families = quality_families(sae, store, config, trained=trained, random_backbone=other)
        found = measure_quality(families, store, labels, finish=_of_torch(study).finish, config=config)
    matching = match_directions(sae, trained["another seed"], seed=config.seed)
    rows = stability_rows(matching.table["likeness"].to_numpy(), matching.by_chance)
    with suppress(ArtifactError):  # a study without masks has none
        rows += localisation_rows(study.read(Place("localisation")).table)
    return with_rows(found, rows), matching


def _random_tokens(study: Study, dataset: str, folder: Path) -> TokenStore:
    """Tokens of a data set by the study's backbone with random weights, in the order of its own tokens."""
    cells = study.cells(dataset)
    place = {cell: row for row, cell in enumerate(cells.frame["cell_id"])}
    ordered = cells.subset(np.array([place[cell] for cell in study.tokens(dataset).cell_ids]))
    return extract(ordered, random_backbone(_of_torch(study)), folder / "tokens", config=study.config.extract)


def _of_torch(study: Study) -> Backbone:
    """The study's backbone, whose remaining blocks can be run and whose weights can be dealt out anew."""
    backbone = study.backbone
    if not isinstance(backbone, Backbone):
        raise UsageError(f"The quality of an SAE needs its backbone in torch; {backbone.name} runs elsewhere.")
    return backbone

"""The concept benchmark: any SAE on any backbone, on real cells, drawn cells and drawn cohorts, beside controls."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cytosae.cells import read_cells
from cytosae.common.errors import InputError, UsageError
from cytosae.common.progress import progress
from cytosae.evaluation.config import ConceptsConfig
from cytosae.evaluation.drawn_cells import draw_benchmark
from cytosae.evaluation.drawn_cohorts import score_cohorts
from cytosae.evaluation.drawn_structures import score_attributes, score_structures
from cytosae.evaluation.real_cells import annotators, localise, read_truth, score_human_attributes
from cytosae.evaluation.units import (
    Units,
    cell_values,
    centroid_units,
    component_units,
    neuron_units,
    place_units,
    sae_units,
    sample_tokens,
)
from cytosae.sae.model.randomised import randomised
from cytosae.tokens import ExtractConfig, extract

if TYPE_CHECKING:
    from cytosae.backbones import AnyBackbone
    from cytosae.sae import SparseAutoencoder

MASKED = ("tecom_wbc", "cellavision_wbc")
"""Data sets with masks of nucleus and cytoplasm."""
ATTRIBUTED = "acevedo"
"""Data set with attributes by two annotators."""


@dataclass(frozen=True)
class ConceptBenchmark:
    """What was measured.

    Attributes
    ----------
    facts : dict of str to object
        Backbone, SAEs, numbers of cells, configuration.
    tables : dict of str to DataFrame
        Title -> table; columns ``x``, ``x_low``, ``x_high`` are a value and its interval.
    """

    facts: dict[str, Any]
    tables: dict[str, pd.DataFrame]


def measure_concepts(
    saes: Mapping[str, SparseAutoencoder],
    backbone: AnyBackbone,
    *,
    data: Path | None = None,
    config: ConceptsConfig | None = None,
    work: Path | None = None,
    trained_on: Collection[str] = (),
) -> ConceptBenchmark:
    """Measure what single latents and small groups of them say, beside controls that went the same way.

    Parameters
    ----------
    saes : mapping of str to SparseAutoencoder
        Name -> SAE for the tokens of ``backbone``.
    backbone : AnyBackbone
        Makes the tokens.
    data : Path or None
        Folder that holds acevedo, tecom_wbc and cellavision_wbc; None leaves real cells out.
    config : ConceptsConfig or None
        See `ConceptsConfig`.
    work : Path or None
        Folder for tokens, kept for the next call; None for one that is removed.
    trained_on : collection of str
        cell_id of the cells that the SAEs were trained on; those of them with attributes are left out.

    Returns
    -------
    ConceptBenchmark
        Tables as defined in docs/concept_benchmark.md.

    Raises
    ------
    InputError
        an SAE for tokens of another width, data that are not there, or too few cells with attributes.
    UsageError
        nothing is to be measured.
    """
    config = config or ConceptsConfig()
    if not saes or (data is None and not config.cells):
        raise UsageError("there is nothing to measure; give an SAE, and real cells (data) or a number of drawn cells.")
    for name, sae in saes.items():
        if sae.d_in != backbone.width:
            raise InputError(
                f"The SAE {name} takes tokens of width {sae.d_in}, but {backbone.name} makes {backbone.width}; give "
                "the backbone that it was trained with."
            )
    controls = {f"{name}, random weights": randomised(sae, config.seed) for name, sae in saes.items()}
    facts: dict[str, Any] = {"backbone": backbone.describe(), "config": config}
    facts["saes"] = {name: {"latents": sae.d_sae, "fingerprint": sae.fingerprint} for name, sae in saes.items()}
    tables: dict[str, pd.DataFrame] = {}
    with _folder(work) as folder, _quiet_fits():
        if data is not None:
            found = _real(saes, controls, backbone, data, folder, config, set(trained_on))
            facts |= found.facts
            tables |= found.tables
        if config.cells:
            with tempfile.TemporaryDirectory(dir=folder) as drawings:
                found, matched = _drawn(saes, controls, backbone, Path(drawings), config)
                facts |= found.facts
                tables |= found.tables
                if config.cohorts is not None:
                    tables |= score_cohorts(saes, controls, matched, backbone, Path(drawings), config.cohorts)
    return ConceptBenchmark(facts, tables)


def _real(
    saes: Mapping[str, SparseAutoencoder],
    controls: Mapping[str, SparseAutoencoder],
    backbone: AnyBackbone,
    data: Path,
    folder: Path,
    config: ConceptsConfig,
    trained_on: set[str],
) -> ConceptBenchmark:
    absent = [name for name in (ATTRIBUTED, *MASKED) if not (data / name).is_dir()]
    if absent:
        raise InputError(
            f"{data} has no folder {absent[0]}; give the folder that holds {ATTRIBUTED}, {', '.join(MASKED)}."
        )
    truth = read_truth(data / ATTRIBUTED)
    cells = read_cells(data / ATTRIBUTED, name=ATTRIBUTED)
    known = cells.frame["image"].isin(list(truth.first.index)).to_numpy()
    seen = cells.frame["cell_id"].isin(list(trained_on)).to_numpy()
    rows = np.flatnonzero(known & ~seen)
    if config.real_cells:
        rows = np.sort(np.random.default_rng([config.seed, 4]).permutation(rows)[: config.real_cells])
    if len(rows) < 100:
        raise InputError(
            f"Only {len(rows)} cells with attributes are left ({int((known & seen).sum())} were trained on); give an "
            "SAE that was trained on other cells, or leave real cells out."
        )
    cells = cells.subset(rows)
    settings = ExtractConfig(workers=config.workers)
    store = extract(cells, backbone, folder / "tokens" / ATTRIBUTED, config=settings)
    named = truth.first.loc[cells.frame["image"].astype(str)]
    everyone = np.arange(len(store))
    options = {"seed": config.seed, "resamples": config.resamples, "confidence": config.confidence}
    means, single = [], []
    families = [
        *_families({**saes, **controls}, backbone),
        *_fitted(sample_tokens(store, everyone, config.sample, config.seed), config),
    ]
    with progress("Attributes of real cells", len(families), "families of units") as bar:
        for units in families:
            table, mean = score_human_attributes(units, cell_values(units, store, everyone), named, **options)
            single.append(table)
            means.append(mean)
            bar.advance(1)
    masked = [read_cells(data / name, name=name) for name in MASKED]
    sources = [(extract(c, backbone, folder / "tokens" / c.name, config=settings), c) for c in masked]
    tables = {
        "human attributes in short": pd.concat(means, ignore_index=True),
        "human attributes": pd.concat(single, ignore_index=True),
        "two annotators": annotators(truth, **options),
        "nucleus and cytoplasm": localise({**saes, **controls}, sources, config.localisation),
    }
    facts = {"real_cells": len(cells), "cells_trained_on_left_out": int((known & seen).sum())}
    return ConceptBenchmark(facts, tables)


def _drawn(
    saes: Mapping[str, SparseAutoencoder],
    controls: Mapping[str, SparseAutoencoder],
    backbone: AnyBackbone,
    folder: Path,
    config: ConceptsConfig,
) -> tuple[ConceptBenchmark, dict[str, dict[str, list[int]]]]:
    cells = draw_benchmark(
        backbone, folder, cells=config.cells, seed=config.seed, difficulty=config.difficulty, size=config.size
    )
    search, test = cells.halves(config.seed)
    sample = sample_tokens(cells.tokens, search, config.sample, config.seed)
    families = [*_families({**saes, **controls}, backbone), *_fitted(sample, config)]
    options = {"seed": config.seed, "resamples": config.resamples, "confidence": config.confidence}
    tables, summaries, attributes, matched = [], [], [], {}
    with progress("Structures of drawn cells", len(families) + 1, "families of units") as bar:
        for units in [*families, place_units(cells.shows[search].mean(0))]:
            found = score_structures(units, cells, **options)
            tables.append(found.table)
            summaries.append(found.summary)
            matched[units.name] = found.matched
            bar.advance(1)
    for units in families:
        attributes.append(score_attributes(units, cells, **options))
    by_attribute = pd.concat(attributes, ignore_index=True)
    mean = by_attribute["attribute"] == "mean"
    short = pd.DataFrame(summaries).merge(
        by_attribute.loc[mean, ["units", "rho", "rho_low", "rho_high"]], on="units", how="left"
    )
    result = {
        "drawn cells in short": short,
        "structures": pd.concat(tables, ignore_index=True),
        "drawn attributes": by_attribute[~mean].reset_index(drop=True),
    }
    return ConceptBenchmark({"drawn_cells": {"search": len(search), "scored": len(test)}}, result), matched


def _families(saes: Mapping[str, SparseAutoencoder], backbone: AnyBackbone) -> Iterator[Units]:
    for name, sae in saes.items():
        yield sae_units(sae, name)
    yield neuron_units(backbone.width)


def _fitted(sample: Any, config: ConceptsConfig) -> list[Units]:
    return [component_units(sample), centroid_units(sample, config.clusters, seed=config.seed)]


@contextmanager
def _folder(work: Path | None) -> Iterator[Path]:
    if work is None:
        with tempfile.TemporaryDirectory(prefix="cytosae-bench-") as folder:
            yield Path(folder)
        return
    work.mkdir(parents=True, exist_ok=True)
    yield work


@contextmanager
def _quiet_fits() -> Iterator[None]:
    with warnings.catch_warnings():
        # a probe that has not converged to the last digit is still scored on other cells
        warnings.filterwarnings("ignore", message="lbfgs failed to converge")
        yield

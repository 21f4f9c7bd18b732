"""Claims about patients, tested where the truth is known: synthetic cohorts of several seeds and difficulties."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import binomtest

from cytosae.cells import read_cells
from cytosae.cells.stain.colour import colour_statistics
from cytosae.cells.synthetic import DIAGNOSES, specific_structures, synthesize
from cytosae.cohort import (
    REST,
    ClassificationConfig,
    Intervals,
    barcodes,
    contrast,
    evaluate_rankings,
    gather,
    neighbour_scores,
    pathognomonic_cells,
)
from cytosae.cohort.classification.assessment import cross_validate
from cytosae.cohort.classification.cohort_arrays import CohortArrays
from cytosae.cohort.classification.linear import L2
from cytosae.cohort.classification.models import build_models
from cytosae.cohort.classification.scores import auroc_of
from cytosae.evaluation.config import CohortsConfig
from cytosae.evaluation.laboratory import score_laboratory, shuffled_aurocs
from cytosae.evaluation.unit_scores import with_interval
from cytosae.tokens import ExtractConfig, extract

if TYPE_CHECKING:
    from anndata import AnnData

    from cytosae.backbones import AnyBackbone
    from cytosae.cells import CellTable
    from cytosae.sae import SparseAutoencoder
    from cytosae.tokens import TokenStore

NEIGHBOURS = "nearest mean tokens"
COLOUR = L2(strengths=(0.1, 1.0, 10.0), inner_folds=3)
"""Of few colours that tell everything, weaker penalties take thousands of steps and change no order."""


@dataclass(frozen=True)
class SmearCohort:
    """One drawn cohort.

    Attributes
    ----------
    cells, tokens : CellTable, TokenStore
        As of any cohort.
    truth : DataFrame
        One row a cell of ``truth/cells.csv``, index cell_id.
    colours : DataFrame
        Colour statistics of the images.
    """

    cells: CellTable
    tokens: TokenStore
    truth: pd.DataFrame
    colours: pd.DataFrame

    def atlas(self, sae: SparseAutoencoder) -> AnnData:
        """Cells x latents."""
        from cytosae.atlas import build_atlas

        return build_atlas(sae, self.tokens, self.cells)


def score_cohorts(
    saes: Mapping[str, SparseAutoencoder],
    controls: Mapping[str, SparseAutoencoder],
    matched: Mapping[str, Mapping[str, Sequence[int]]],
    backbone: AnyBackbone,
    work: Path,
    config: CohortsConfig,
) -> dict[str, pd.DataFrame]:
    """Draw the cohorts and score what can be claimed of them.

    Parameters
    ----------
    saes : mapping of str to SparseAutoencoder
        Name -> SAE.
    controls : mapping of str to SparseAutoencoder
        SAEs with random weights, scored in the same way.
    matched : mapping of str to mapping of str to sequence of int
        Name -> structure -> latents that stand for it, found on other cells.
    backbone : AnyBackbone
        Makes the tokens.
    work : Path
        Folder for images and tokens, which are removed after each cohort.

    Returns
    -------
    dict of str to DataFrame
        Tables "contrasts", "contrasts in short", "pathognomonic cells", "classification" and "laboratory", as in
        docs/concept_benchmark.md.
    """
    named = {**saes, **controls}
    of_contrasts, of_models, of_laboratory, shuffles = [], [], [], []
    rankings: dict[float, list[pd.DataFrame]] = {difficulty: [] for difficulty in config.difficulties}
    for difficulty in config.difficulties:
        for seed in config.seeds:
            facts = {"difficulty": difficulty, "seed": seed}
            place = work / "cohort"
            cohort = draw_cohort(backbone, place, config, config.domain, difficulty=difficulty, seed=seed)
            atlases = {name: cohort.atlas(sae) for name, sae in named.items()}
            for name, atlas in atlases.items():
                of_contrasts.append(find_structures(atlas, matched[name], config).assign(**facts, units=name))
            rankings[difficulty].append(rank_cells(atlases, cohort, config, prefix=f"{difficulty}/{seed}"))
            models, shuffled = classify_patients(atlases, cohort.colours, config, seed=seed)
            of_models.append((facts, models))
            shuffles.append(pd.DataFrame({**facts, "auroc": shuffled}))
            shutil.rmtree(place)
            for planted in (0.0, config.planted):
                asked = {"difficulty": difficulty, "seed": seed, "planted": planted}
                mixed = draw_cohort(backbone, place, config, "mixed", **asked)
                found = _laboratory(mixed.atlas(next(iter(saes.values()))), mixed, config, seed)
                of_laboratory.append({**asked, **found})
                shutil.rmtree(place)
    contrasts = pd.concat(of_contrasts, ignore_index=True)
    return {
        "contrasts in short": summarise_contrasts(contrasts, config.confidence),
        "contrasts": contrasts,
        "pathognomonic cells": evaluate_all(rankings, config),
        "classification": summarise_models(of_models, pd.concat(shuffles), config.confidence),
        "laboratory": pd.DataFrame(of_laboratory),
    }


def draw_cohort(
    backbone: AnyBackbone,
    folder: Path,
    config: CohortsConfig,
    domain: str,
    *,
    difficulty: float,
    seed: int,
    planted: float = 0.0,
) -> SmearCohort:
    """Draw a cohort into ``folder`` and make its tokens."""
    smear = synthesize(
        folder / "smear",
        patients=config.patients,
        cells=config.cells_per_patient,
        seed=seed,
        domain=domain,
        difficulty=difficulty,
        planted=planted,
    )
    cells = read_cells(smear, name="smear")
    tokens = extract(cells, backbone, folder / "tokens", config=ExtractConfig(workers=config.workers))
    truth = pd.read_csv(smear / "truth" / "cells.csv", keep_default_na=False).set_index("image")
    frame = cells.frame
    truth = truth.loc[frame["image"].astype(str)].set_index(pd.Index(frame["cell_id"].astype(str), name="cell_id"))
    return SmearCohort(cells, tokens, truth, colour_statistics(cells, workers=1))


def find_structures(atlas: AnnData, matched: Mapping[str, Sequence[int]], config: CohortsConfig) -> pd.DataFrame:
    """Is a latent that stands for a disease's own structure among the top contrasts of the disease?

    Returns
    -------
    DataFrame
        One row a structure that occurs in one diagnosis alone and was matched: structure, diagnosis, latents (that
        stand for it), rank (of the best of them among all tested latents by AUC in favour of the diagnosis), tested
        (latents), auc, q, found (rank <= top), chance (of as many random latents), rank_elsewhere (the smallest rank in
        the other diagnoses' contrasts).
    """
    made = barcodes(atlas, kinds=[config.kind])
    present = set(made.obs["diagnosis"])
    specific = {s: d for s, d in specific_structures().items() if s in matched and d in present}
    asked: dict[str, Any] = {"kind": config.kind, "min_patients": 1, "intervals": Intervals(resamples=1)}
    tables = {d: contrast(made, d, REST, **asked) for d in sorted(present)}
    rows = []
    for structure, diagnosis in specific.items():
        latents = [int(latent) for latent in matched[structure]]
        ranks = {d: _ranks(table, latents) for d, table in tables.items()}
        here = ranks.pop(diagnosis)
        best = latents[int(np.argmin(here))]
        table = tables[diagnosis].iloc[best]
        m = int(tables[diagnosis]["tested"].sum())
        rows.append(
            {
                "structure": structure,
                "diagnosis": diagnosis,
                "latents": len(latents),
                "rank": int(min(here)),
                "tested": m,
                "auc": float(table["auc"]),
                "q": float(table["q"]),
                "found": bool(min(here) <= config.top),
                "chance": chance_of_hit(m, len(latents), config.top),
                "rank_elsewhere": int(min(min(r) for r in ranks.values())),
            }
        )
    names = ["structure", "diagnosis", "latents", "rank", "tested", "auc", "q", "found", "chance", "rank_elsewhere"]
    return pd.DataFrame(rows, columns=pd.Index(names))


def chance_of_hit(m: int, marked: int, top: int) -> float:
    """Probability that one of ``marked`` of m latents is among ``top`` drawn at random."""
    top, marked = min(top, m), min(marked, m)
    return 1 - math.comb(m - marked, top) / math.comb(m, top) if m else 0.0


def summarise_contrasts(table: pd.DataFrame, confidence: float) -> pd.DataFrame:
    """Share of structures found, with Wilson's interval over structures and cohorts, beside chance."""
    rows = []
    for (units, difficulty), rows_of in table.groupby(["units", "difficulty"], sort=False).groups.items():  # pyright: ignore[reportGeneralTypeIssues]
        group = table.loc[rows_of]
        tried, found = len(group), int(group["found"].sum())
        low, high = binomtest(found, tried).proportion_ci(confidence, method="wilson")
        facts = {"units": units, "difficulty": difficulty, "structures": tried, "found": found, "share": found / tried}
        facts |= {"share_low": float(low), "share_high": float(high), "chance": float(group["chance"].mean())}
        rows.append({**facts, "median_rank": float(group["rank"].median())})
    return pd.DataFrame(rows)


def rank_cells(
    atlases: Mapping[str, AnnData], cohort: SmearCohort, config: CohortsConfig, *, prefix: str
) -> pd.DataFrame:
    """Scores of the cells of every patient with a leukemia, by concepts and by nearest neighbours.

    Returns
    -------
    DataFrame
        Index cell_id; patient (with ``prefix``), truth, one column a ranking.
    """
    first = next(iter(atlases.values()))
    diagnosis = first.obs["diagnosis"].astype(str)
    parts = []
    for disease in [d for d in DIAGNOSES if d != "control" and (diagnosis == d).any()]:
        table = pd.DataFrame(index=first.obs_names[(diagnosis == disease).to_numpy()])
        table["patient"] = prefix + "/" + pd.Series(first.obs["patient"]).astype(str).reindex(table.index)
        table["truth"] = cohort.truth["pathognomonic"].reindex(table.index).astype(bool)
        for name, atlas in atlases.items():
            ranked = pathognomonic_cells(atlas, disease, REST, kind=config.kind)
            table[name] = ranked.set_index("cell_id")["score"].reindex(table.index)
        table[NEIGHBOURS] = pd.Series(neighbour_scores(first, disease), first.obs_names).reindex(table.index)
        parts.append(table)
    return pd.concat(parts)


def evaluate_all(rankings: Mapping[float, Sequence[pd.DataFrame]], config: CohortsConfig) -> pd.DataFrame:
    """Precision among the first cells and average precision, mean over the patients of all seeds, by difficulty."""
    tables = []
    for difficulty, parts in rankings.items():
        cells = pd.concat(parts)
        names = [name for name in cells if name not in ("patient", "truth")]
        found = evaluate_rankings(
            {str(name): cells[name].to_numpy(float) for name in names},
            pd.Series(cells["truth"]),
            pd.Series(cells["patient"]),
            k=config.k,
            intervals=Intervals(config.confidence, config.bootstrap),
        )
        table = found.table.reset_index()
        table.insert(0, "difficulty", difficulty)
        tables.append(table.assign(patients=found.patients))
    return pd.concat(tables, ignore_index=True)


def classify_patients(
    atlases: Mapping[str, AnnData], colours: pd.DataFrame, config: CohortsConfig, *, seed: int
) -> tuple[dict[str, NDArray[np.float64]], NDArray[np.float64]]:
    """AUROC (mean of each diagnosis against the rest) in resamples of patients [1 + B] by model, and of shuffled runs.

    The first SAE's barcodes are what diagnoses are shuffled for. All models are fitted in the same folds.
    """
    draws: dict[str, NDArray[np.float64]] = {}
    shuffled = np.zeros(0)
    for turn, (name, atlas) in enumerate(atlases.items()):
        data = gather_cohort(atlas, colours, config)
        folds = data.design.folds(config.folds, seed=seed)
        weights = data.design.bootstrap(config.bootstrap, np.random.default_rng(seed))
        models = {model.name: model for model in build_models(data, _asked(config, seed))}
        concepts = models[f"concepts ({config.kind})"]
        wanted = {f"concepts of {name}": concepts}
        if not turn:
            others = ("ABMIL on tokens", "mean token", "cell-type shares", "colour alone")
            wanted |= {other: models[other] for other in others}
            shuffled = shuffled_aurocs(concepts, data, shuffles=config.shuffles, folds=config.folds, seed=seed)
        for label, model in wanted.items():
            scores = cross_validate(model, data.design, folds)
            draws[label] = auroc_of(scores, data.y[scores.rows], len(data.classes), weights)
    return draws, shuffled


def gather_cohort(atlas: AnnData, colours: pd.DataFrame, config: CohortsConfig) -> CohortArrays:
    """Barcodes, cells and colours of all patients."""
    made = barcodes(atlas, kinds=[config.kind])
    return gather(made, atlas, colours, config=ClassificationConfig(kind=config.kind, kinds=(config.kind,)))


def summarise_models(
    of_models: Sequence[tuple[dict[str, Any], dict[str, NDArray[np.float64]]]],
    shuffled: pd.DataFrame,
    confidence: float,
) -> pd.DataFrame:
    """AUROC by difficulty, mean over seeds, with the difference to the multiple-instance model and shuffled runs."""
    rows = []
    for difficulty in dict.fromkeys(facts["difficulty"] for facts, _ in of_models):
        runs = [draws for facts, draws in of_models if facts["difficulty"] == difficulty]
        reference = np.mean([draws["ABMIL on tokens"] for draws in runs], axis=0)
        for name in runs[0]:
            mean = np.mean([draws[name] for draws in runs], axis=0)
            row = {"difficulty": difficulty, "model": name, **with_interval("auroc", mean, confidence)}
            if name != "ABMIL on tokens":
                row |= with_interval("less_abmil", mean - reference, confidence)
            rows.append(row)
        values = shuffled.loc[shuffled["difficulty"] == difficulty, "auroc"].to_numpy(float)
        if len(values):
            low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
            row = {"difficulty": difficulty, "model": f"concepts, diagnoses shuffled ({len(values)} times)"}
            rows.append({**row, "auroc": float(values.mean()), "auroc_low": float(low), "auroc_high": float(high)})
    return pd.DataFrame(rows)


def _laboratory(atlas: AnnData, cohort: SmearCohort, config: CohortsConfig, seed: int) -> dict[str, Any]:
    data = gather_cohort(atlas, cohort.colours, config)
    return score_laboratory(
        data,
        config.kind,
        COLOUR,
        folds=config.folds,
        resamples=config.bootstrap,
        shuffles=config.shuffles,
        seed=seed,
        confidence=config.confidence,
    )


def _ranks(table: pd.DataFrame, latents: Sequence[int]) -> list[int]:
    """Rank of latents by AUC in favour of the first group, ties at the worst; untested ones come last."""
    auc = np.where(table["tested"], table["auc"], -1.0)
    return [int((auc >= auc[latent]).sum()) for latent in latents]


def _asked(config: CohortsConfig, seed: int) -> ClassificationConfig:
    return ClassificationConfig(
        kind=config.kind,
        kinds=(config.kind,),
        immature=(),
        promyelocytes=(),
        strengths=(0.1, 1.0, 10.0, 100.0),
        inner_folds=3,
        attention=config.attention,
        slow_repeats=1,
        seed=seed,
    )

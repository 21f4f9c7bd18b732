"""The steps of a cohort as values: colours, barcodes, contrasts, classification, ranked cells, classifier, pages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from cytosae.common.configuration import from_plain
from cytosae.pipeline.dataset_steps import backbone_source, tokens_needed
from cytosae.pipeline.patients import Patients
from cytosae.pipeline.places import Place
from cytosae.pipeline.step import Job, Step, Surroundings
from cytosae.pipeline.study_config import CohortConfig, RankingConfig, ReadingConfig

if TYPE_CHECKING:
    from anndata import AnnData

    from cytosae.cohort.classification.cohort_arrays import BarcodesOf
    from cytosae.cohort.config import ClassificationConfig
    from cytosae.pipeline.context import Context
    from cytosae.pipeline.study_config import StudyConfig
    from cytosae.sae import Recipe, SparseAutoencoder


def all_steps(work: Patients, config: StudyConfig, context: Context) -> Iterator[Step]:
    """Every step of a cohort before its pages, in order; each is to be done before the next is asked for."""
    name, asked = work.dataset, work.config
    yield colours_step(name)
    yield barcodes_step(name, asked)
    yield control_step(name, asked, config)
    if asked.retest_cells:
        yield retest_step(name, asked, config, context)
    if asked.painted_cells:
        yield focus_step(name, asked, config, context)
    for a, b in work.comparisons:
        yield contrast_step(work, a, b)
    yield classification_step(work, config)
    yield classifier_step(work)
    for a, b in work.comparisons:
        yield ranking_step(work, a, b)


def colours_step(dataset: str) -> Step:
    """Mean and spread of the colours of every image."""
    return Step(Place("colours", dataset), _read_colours, needs=(Place("cells", dataset),))


def _read_colours(job: Job) -> None:
    from cytosae.cells.stain.colour import colour_statistics, save_colours

    save_colours(colour_statistics(job.cells(job.of)), job.path, inputs=job.inputs)


def barcodes_step(dataset: str, asked: CohortConfig) -> Step:
    """Sum up the cells of each patient."""
    return Step(Place("cohort", dataset), _make_barcodes, columns_of(asked), (Place("atlas", dataset),))


def columns_of(asked: CohortConfig) -> dict[str, object]:
    """What barcodes are made by, whichever SAE makes them."""
    return {"patient": asked.patient, "diagnosis": asked.diagnosis, "min_cells": asked.min_cells}


def _make_barcodes(job: Job) -> None:
    from cytosae.cohort import barcodes, save_cohort

    save_cohort(barcodes(job.atlas(job.of, backed="r"), **job.asked), job.path, **job.record)


def control_step(dataset: str, asked: CohortConfig, config: StudyConfig) -> Step:
    """Barcodes by an SAE with random weights, a negative control."""
    slice_ = {**columns_of(asked), "seed": asked.classification.seed, "reading": config.reading}
    return Step(Place("control", dataset), _make_control, slice_, encoded(dataset, config))


def encoded(dataset: str, config: StudyConfig) -> tuple[Place, ...]:
    """What encoding cells anew takes; the atlas says how it was done before."""
    return (Place("atlas", dataset), *tokens_needed(config, [dataset]), Place("cells", dataset), Place("sae"))


def _make_control(job: Job) -> None:
    from cytosae.cohort import save_cohort
    from cytosae.sae.model.randomised import randomised

    columns = {name: job.asked[name] for name in ("patient", "diagnosis", "min_cells")}
    found = _barcodes_by(randomised(job.sae(), job.asked["seed"]), job, job.of, columns, job.asked["reading"])
    save_cohort(found, job.path, **job.record)


def _barcodes_by(
    sae: SparseAutoencoder, job: Job, dataset: str, columns: dict[str, object], reading: ReadingConfig
) -> AnnData:
    """Barcodes of all patients by another SAE, with its own threshold by the same rule."""
    from cytosae.pipeline.training import measure_tau

    return barcodes_at(sae, job, dataset, columns, measure_tau(sae, [job.tokens(dataset)], reading))


def barcodes_at(sae: SparseAutoencoder, job: Job, dataset: str, columns: dict[str, object], tau: float) -> AnnData:
    """Barcodes of all patients by another SAE, at a given threshold."""
    from cytosae.atlas import open_atlas, write_atlas
    from cytosae.cohort import barcodes

    tokens, cells = job.tokens(dataset), job.cells(dataset)
    with TemporaryDirectory(prefix=".atlas-", dir=job.context.path) as folder:
        path = write_atlas(Path(folder) / "atlas.h5ad", sae, tokens, cells, tau=tau)
        return barcodes(open_atlas(path, verify=False, backed="r"), **columns)  # pyright: ignore[reportArgumentType]


def retest_step(dataset: str, asked: CohortConfig, config: StudyConfig, context: Context) -> Step:
    """Encode some cells anew in a changed stain, by the SAE and by the control."""
    slice_ = {"patient": asked.patient, "cells": asked.retest_cells, "seed": asked.classification.seed}
    needs = (*encoded(dataset, config), Place("cohort", dataset), Place("control", dataset))
    sources = {"backbone": backbone_source(context.backbone(config.backbone))}
    return Step(Place("retest", dataset), _retest_stain, slice_, needs, sources)


def _retest_stain(job: Job) -> None:
    from cytosae.cohort import save_retest
    from cytosae.pipeline.stain_retest import retest_stain
    from cytosae.sae.model.randomised import randomised
    from cytosae.tokens import ExtractConfig
    from cytosae.tokens.extraction.extract import Forward

    sae = job.sae()
    saes = {"concepts": sae, "control": randomised(sae, job.asked["seed"]).eval()}
    roles = {"concepts": "cohort", "control": "control"}
    taus = {name: float(job.read(Place(role, job.of)).uns["barcode"]["tau"]) for name, role in roles.items()}
    extraction = from_plain(ExtractConfig, job.artifact(Place("tokens", job.of)).config)
    found = retest_stain(
        job.cells(job.of),
        job.tokens(job.of),
        {name: (saes[name], taus[name]) for name in saes},
        Forward(job.source("backbone"), extraction, job.context.device),
        patient=job.asked["patient"],
        most=job.asked["cells"],
    )
    save_retest(job.path, found, **job.record)


def focus_step(dataset: str, asked: CohortConfig, config: StudyConfig, context: Context) -> Step:
    """Encode cells anew with the cell painted out, and alone."""
    slice_ = {"patient": asked.patient, "diagnosis": asked.diagnosis, "most": asked.painted_cells}
    sources = {"backbone": backbone_source(context.backbone(config.backbone))}
    needs = (*encoded(dataset, config), Place("cohort", dataset))
    return Step(Place("focus", dataset), _paint_out, slice_, needs, sources)


def _paint_out(job: Job) -> None:
    from cytosae.cohort import save_cell_controls
    from cytosae.pipeline.changed_cells import Encoder, barcodes_without_the_cell
    from cytosae.tokens import ExtractConfig
    from cytosae.tokens.extraction.extract import Forward

    tokens, tau = job.tokens(job.of), float(job.read(Place("cohort", job.of)).uns["barcode"]["tau"])
    extraction = from_plain(ExtractConfig, job.artifact(Place("tokens", job.of)).config)
    encoder = Encoder(job.sae(), tau, Forward(job.source("backbone"), extraction, job.context.device))
    found = barcodes_without_the_cell(job.cells(job.of), tokens, encoder, **job.asked)
    save_cell_controls(job.path, found, **job.record)


def contrast_step(work: Patients, a: str, b: str) -> Step:
    """Compare two groups of patients, latent by latent."""
    asked = _only(work.asked, "kind", "seed", "confidence", "group", "sessions")
    config = {"a": a, "b": b, "patient": work.config.patient, "classification": asked}
    needs = (Place("cohort", work.dataset), Place("atlas", work.dataset))
    return Step(Place("contrasts", work.pair(a, b)), _contrast, config, needs)


def _only(asked: ClassificationConfig, *names: str) -> ClassificationConfig:
    """The fields that a step reads, all others as by default: what is asked of them is no matter of the step."""
    return replace(type(asked)(), **{name: getattr(asked, name) for name in names})


def _contrast(job: Job) -> None:
    from cytosae.cohort import Intervals, contrast, save_contrast

    asked: ClassificationConfig = job.asked["classification"]
    cohort, groups = _grouped(job, asked, job.asked["patient"])
    intervals = Intervals(asked.confidence, resamples=1000, seed=asked.seed, groups=groups)
    table = contrast(cohort, job.asked["a"], job.asked["b"], kind=asked.kind, intervals=intervals)
    save_contrast(table, job.path, **job.record)


def _grouped(job: Job, asked: ClassificationConfig, patient: str) -> tuple[AnnData, pd.Series | None]:
    """The barcodes of the data set of a comparison, and what keeps patients together, as asked."""
    from cytosae.cohort import patient_groups

    dataset = job.step.at.dataset
    cohort = job.read(Place("cohort", dataset))
    return cohort, patient_groups(cohort, job.atlas(str(dataset), backed="r"), asked, patient=patient)


def classification_step(work: Patients, config: StudyConfig) -> Step:
    """Classify by every model, baseline and control in the same nested folds."""
    name, asked = work.dataset, work.config
    roles = ["cohort", "control", "colours", "atlas", *(["retest"] if asked.retest_cells else [])]
    roles += ["focus"] if asked.painted_cells else []
    slice_ = {"cohort": classified(asked, work.asked), "stain": config.extract.stain}
    needs = tuple(Place(role, name) for role in roles)
    if asked.strict:
        needs += (*tokens_needed(config, [name]), Place("cells", name))
        slice_ |= {"recipe": config.sae, "reading": config.reading}
    return Step(Place("classification", name), _classify, slice_, needs)


def classified(asked: CohortConfig, classification: ClassificationConfig) -> CohortConfig:
    """What is asked of a cohort, without what only pages and rankings read."""
    plain = CohortConfig()
    shown = {
        name: getattr(plain, name) for name in ("dataset", "experts", "stability", "concepts", "background", "pages")
    }
    return replace(asked, classification=classification, **shown)


def _classify(job: Job) -> None:
    from cytosae.cohort import Controls, classify

    asked: CohortConfig = job.asked["cohort"]
    there = Patients(job, job.of, asked)
    result = classify(
        there.barcodes,
        there.atlas,
        colours=there.colours,
        retest=there.retest,
        controls=Controls(
            random=there.control,
            of_cells=there.cell_controls,
            retest=there.retest_by("control"),
            barcodes_of=_strict_barcodes(job, asked) if asked.strict else None,
        ),
        classes=there.classes,
        patient=asked.patient,
        config=asked.classification,
    )
    notes = (*result.notes, *stain_advice(result.table, job.asked["stain"]))
    replace(result, notes=notes).save(job.path, **job.record)


def _strict_barcodes(job: Job, asked: CohortConfig) -> BarcodesOf:
    """Barcodes by an SAE that has not seen the cells of a fold's test patients."""
    from cytosae.pipeline.training import open_reader
    from cytosae.sae import Trainer
    from cytosae.tokens.store.subset import SelectedCells

    recipe: Recipe = job.asked["recipe"]
    reading, fabric, tokens = job.asked["reading"], job.context.fabric, job.tokens(job.of)
    patient = job.cells(job.of).frame.set_index("cell_id")[asked.patient]
    of_row = patient.reindex(tokens.cell_ids).astype(str).to_numpy()

    def barcodes_of(fold: int, train: Sequence[str]) -> AnnData:
        seen = SelectedCells(tokens, np.flatnonzero(np.isin(of_row, list(train))))
        trained = replace(recipe, train=replace(recipe.train, seed=recipe.train.seed + fold))
        sae = recipe.build(tokens.width, seed=trained.train.seed)
        Trainer(sae, trained.train, fabric=fabric).fit(open_reader([seen], trained, reading, fabric))
        return _barcodes_by(sae.eval(), job, job.of, columns_of(asked), reading)

    return barcodes_of


def stain_advice(table: pd.DataFrame, stain: str) -> list[str]:
    """What to try where colour alone tells the classes of a classification apart and images are as they were taken."""
    colour = next((row for row in table.to_dict("records") if row["model"] == "colour alone"), None)
    if stain != "none" or colour is None or not colour["auroc_low"] > 0.5:
        return []
    return [
        f"Colour alone tells the classes apart (AUROC {colour['auroc']:.2f}, {colour['auroc_low']:.2f} to "
        f"{colour['auroc_high']:.2f}) and the images are not stain-normalised: run a study of its own with "
        "--extract.stain macenko, and look at the concepts of both."
    ]


def classifier_step(work: Patients) -> Step:
    """Fit the recommended configuration on all patients, to be applied to new ones."""
    roles = ["classification", "cohort", "colours", "atlas", *(["retest"] if work.config.retest_cells else [])]
    needs = tuple(Place(role, work.dataset) for role in roles)
    return Step(Place("classifier", work.dataset), _fit, classified(work.config, work.asked), needs)


def _fit(job: Job) -> None:
    from cytosae.cohort import fit_classifier, save_classifier

    asked: CohortConfig = job.asked
    there = Patients(job, job.of, asked)
    classifier = fit_classifier(
        there.barcodes,
        there.atlas,
        configuration=there.result().recommended,
        colours=there.colours,
        classes=there.classes,
        patient=asked.patient,
        retest=there.retest,
        config=asked.classification,
    )
    save_classifier(job.path, classifier, **job.record)


def ranking_step(work: Patients, a: str, b: str) -> Step:
    """Rank the cells of the patients of a disease, and measure what an expert would find among the first."""
    config = work.config
    slice_ = RankingConfig(
        disease=a,
        against=b,
        patient=config.patient,
        diagnosis=config.diagnosis,
        experts=config.experts,
        classification=_only(work.asked, "kind", "confidence", "seed", "folds", "attention", "group", "sessions"),
    )
    needs = (Place("cohort", work.dataset), Place("atlas", work.dataset))
    return Step(Place("ranking", work.pair(a, b)), _rank_cells, slice_, needs)


def _rank_cells(job: Job) -> None:
    from cytosae.pipeline.cohort_cells import rank_and_evaluate, save_ranking

    asked: RankingConfig = job.asked
    _, groups = _grouped(job, asked.classification, asked.patient)
    ranking, tables = rank_and_evaluate(job.atlas(str(job.step.at.dataset), backed="r"), asked, groups)
    save_ranking(job.path, ranking, tables, **job.record)


def pages_step(work: Patients, config: StudyConfig, context: Context) -> Step:
    """Write the pages of the cohort, of its diseases and of some of its patients."""
    name = work.dataset
    roles = ["classification", "classifier", "cohort", "colours", "atlas", "cells"]
    needs = [Place(role, name) for role in [*roles, *(["retest"] if work.config.retest_cells else [])]]
    known = [Place(role, name) for role in ("random_latents", "looks")]
    needs += [place for place in known if work.source.has(place)]
    needs += [Place("approval", name)] if is_priced(context, name) else []
    pairs = [work.pair(a, b) for a, b in work.comparisons]
    needs += [Place(role, pair) for role in ("contrasts", "ranking") for pair in pairs]
    asked = replace(work.config, classification=work.asked)
    needs += tokens_needed(config, [name])
    return Step(Place("cohort_report", name), _write_pages, asked, (*needs, Place("sae")))


def is_priced(context: Surroundings, dataset: str) -> bool:
    """Whether it is known what approved concepts alone tell, in the classification that is there."""
    approval = Place("approval", dataset)
    if not approval.below(context.path).exists():
        return False
    classified = context.artifact(Place("classification", dataset)).fingerprint
    return context.artifact(approval).inputs.get("classification") == classified


def _write_pages(job: Job) -> None:
    from cytosae.pipeline.cohort_pages import write_pages

    write_pages(Patients(job, job.of, job.asked), job.path, **job.record)

"""``cytosae bench concepts``: how well single latents say what is true of cells, beside controls."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

import cytosae
from cytosae.cli.options import changes_of, some_of
from cytosae.cli.output import Json, Output
from cytosae.common.errors import InputError, UsageError
from cytosae.evaluation.config import CohortsConfig, ConceptsConfig

if TYPE_CHECKING:
    from cytosae.backbones import AnyBackbone
    from cytosae.evaluation.concept_benchmark import ConceptBenchmark
    from cytosae.sae import SparseAutoencoder

SHORT = ("human attributes in short", "nucleus and cytoplasm", "drawn cells in short")
SHORT_COHORTS = ("contrasts in short", "pathognomonic cells", "classification", "laboratory")

if TYPE_CHECKING:  # types made while running mean nothing to a type checker
    Cells = Any
    Cohorts = Any
else:
    Cells = some_of(ConceptsConfig, "cells", "real_cells", "difficulty", "resamples", "seed", "workers")
    Cohorts = some_of(CohortsConfig, "seeds", "difficulties", "patients", "cells_per_patient", "domain")


@dataclass(frozen=True)
class Subject:
    """Whose latents are scored.

    Attributes
    ----------
    study : Path or None
        Folder of a study with a trained SAE; real cells that it was trained on are left out.
    sae : tuple of Path
        An SAE (a folder, a published .pt file); may be given several times.
    backbone : str
        Backbone of the SAEs: tiny, dinobloom-s, -b, -l, -g, or timm:MODEL.
    weights : Path or None
        File with the backbone's weights.
    block : int or None
        Block whose output the SAEs read; the second to last if left out.
    """

    study: Path | None = None
    sae: tuple[Path, ...] = ()
    backbone: str = "tiny"
    weights: Path | None = None
    block: int | None = None


@dataclass(frozen=True)
class Tables:
    """Where the tables go.

    Attributes
    ----------
    out : Path or None
        Folder for all tables as CSV, and as Markdown in one file.
    markdown : bool
        Print all tables as Markdown.
    """

    out: Path | None = None
    markdown: Annotated[bool, Parameter(negative="")] = False


def concepts(
    *,
    subject: Annotated[Subject, Parameter(name="*", negative_iterable=())] = Subject(),
    data: Path | None = None,
    asked: Cells | None = None,
    cohorts: Annotated[bool, Parameter(negative="")] = False,
    drawn: Cohorts | None = None,
    work: Path | None = None,
    tables: Annotated[Tables, Parameter(name="*")] = Tables(),
    as_json: Json = False,
) -> None:
    """Score the latents of an SAE on real cells, drawn cells and drawn cohorts, beside controls.

    Units are chosen on one half of the cells and scored on the other. The controls (raw neurons, principal components,
    k-means, the same SAE with random weights, the usual place in the image) go the same way. Give a study, or one SAE
    or several with their backbone.

    Parameters
    ----------
    data
        Folder that holds acevedo, tecom_wbc and cellavision_wbc; real cells are left out without it.
    cohorts
        Also score claims about patients on drawn cohorts.
    work
        Folder to keep the tokens of real cells in for another run.
    """
    from cytosae.evaluation.concept_benchmark import measure_concepts

    output = Output(as_json=as_json)
    config = ConceptsConfig(**changes_of(asked))
    localisation = replace(config.localisation, bootstrap=config.resamples, seed=config.seed)
    config = replace(config, localisation=localisation)
    if cohorts:
        of_cohorts = CohortsConfig(**changes_of(drawn), bootstrap=config.resamples, workers=config.workers)
        config = replace(config, cohorts=of_cohorts)
    saes, model, trained_on = _models(subject)
    result = measure_concepts(saes, model, data=data, config=config, work=work, trained_on=trained_on)
    _write(result, tables, output)
    output.result(facts=result.facts, tables={title: _records(table) for title, table in result.tables.items()})
    output.finish()


def _write(result: ConceptBenchmark, asked: Tables, output: Output) -> None:
    from cytosae.evaluation.tables import concepts_markdown

    if asked.markdown:
        output.line(concepts_markdown(result))
    else:
        for title in (*SHORT, *SHORT_COHORTS):
            if title in result.tables:
                _show(output, title, result.tables[title])
    if asked.out is not None:
        asked.out.mkdir(parents=True, exist_ok=True)
        for title, table in result.tables.items():
            table.to_csv(asked.out / f"{title.replace(' ', '_')}.csv", index=False)
        (asked.out / "concepts.md").write_text(concepts_markdown(result) + "\n", encoding="utf-8")
        output.line(f"All tables are in {asked.out}.")


def _models(subject: Subject) -> tuple[dict[str, SparseAutoencoder], AnyBackbone, set[str]]:
    saes = subject.sae
    if (subject.study is None) == (not saes):
        raise UsageError("give either a study (--study) or one SAE or several (--sae).")
    if subject.study is not None:
        study = cytosae.Study(subject.study)
        return {"SAE": study.sae()}, study.backbone, _trained_on(study)
    names = [path.name if path.name != "sae" else path.absolute().parent.name for path in saes]
    if len(set(names)) < len(names):
        names = [path.as_posix() for path in saes]
    return (
        {name: cytosae.load_sae(path) for name, path in zip(names, saes, strict=True)},
        cytosae.load_backbone(subject.backbone, subject.weights, block=subject.block),
        set(),
    )


def _trained_on(study: cytosae.Study) -> set[str]:
    """The cells that a study's SAE was trained on; refuses a backbone that is not the one of its tokens."""
    found = set[str]()
    for name in study.trained_on:
        tokens = study.tokens(name)
        if tokens.manifest["weights_hash"] != study.backbone.weights_hash:
            raise InputError(
                f"The weights of {study.backbone.name} are not those that made {tokens.path}; run the study again."
            )
        found |= set(tokens.cell_ids)
    return found


def _show(output: Output, title: str, table: Any) -> None:
    from cytosae.evaluation.tables import with_intervals

    shown = with_intervals(table)
    output.table([str(name) for name in shown], shown.to_numpy(dtype=object).tolist(), title=title)
    output.line("")


def _records(table: Any) -> list[dict[str, Any]]:
    return [
        {name: None if isinstance(value, float) and value != value else value for name, value in row.items()}
        for row in table.to_dict("records")
    ]

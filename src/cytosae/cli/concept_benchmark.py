"""``cytosae bench concepts``: how well single latents say what is true of cells, beside controls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from cytosae.cli.output import Json, Output
from cytosae.common.errors import InputError, UsageError

if TYPE_CHECKING:
    from cytosae.backbones import Backbone
    from cytosae.pipeline import Study
    from cytosae.sae import SparseAutoencoder

SHORT = ("human attributes in short", "nucleus and cytoplasm", "drawn cells in short")
SHORT_COHORTS = ("contrasts in short", "pathognomonic cells", "classification", "laboratory")


def concepts(
    *,
    study: Annotated[Path | None, Parameter(name="--study")] = None,
    sae: Annotated[tuple[Path, ...], Parameter(negative="")] = (),
    backbone: str = "tiny",
    weights: Path | None = None,
    block: int | None = None,
    data: Path | None = None,
    cells: int = 480,
    real_cells: int = 0,
    difficulty: float = 0.3,
    resamples: int = 500,
    seed: int = 0,
    cohorts: Annotated[bool, Parameter(negative="")] = False,
    seeds: Annotated[tuple[int, ...], Parameter(negative="")] = (0,),
    difficulties: Annotated[tuple[float, ...], Parameter(negative="")] = (0.5,),
    patients: int = 40,
    cells_per_patient: int = 50,
    domain: str = "reference",
    workers: int = 0,
    work: Path | None = None,
    out: Path | None = None,
    markdown: Annotated[bool, Parameter(negative="")] = False,
    as_json: Json = False,
) -> None:
    """Score the latents of an SAE on real cells, drawn cells and drawn cohorts, beside controls.

    Units are chosen on one half of the cells and scored on the other. The controls (raw neurons, principal components,
    k-means, the same SAE with random weights, the usual place in the image) go the same way. Give a study, or one SAE
    or several with their backbone.

    Parameters
    ----------
    study
        Folder of a study with a trained SAE; real cells that it was trained on are left out.
    sae
        An SAE (a folder, a published .pt file); may be given several times.
    backbone
        Backbone of the SAEs: tiny, dinobloom-s, -b, -l, -g, or timm:MODEL.
    weights
        File with the backbone's weights.
    block
        Block whose output the SAEs read; the second to last if left out.
    data
        Folder that holds acevedo, tecom_wbc and cellavision_wbc; real cells are left out without it.
    cells
        Drawn cells, as many of every type; 0 leaves them out.
    real_cells
        At most so many of the cells with attributes; 0 for all.
    difficulty
        Of the drawn cells, 0 to 1.
    resamples
        Of the scored cells (in cohorts: of patients) behind each interval.
    seed
        Of drawings, halves and controls.
    cohorts
        Also score claims about patients on drawn cohorts.
    seeds
        A cohort for each, and for each difficulty.
    difficulties
        Of the cohorts, 0 to 1.
    patients
        Of a cohort.
    cells_per_patient
        Of a cohort.
    domain
        Laboratory of the cohorts, or mixed; the laboratory effect is always sought in cohorts of all laboratories.
    workers
        Processes that decode images.
    work
        Folder to keep the tokens of real cells in for another run.
    out
        Folder for all tables as CSV, and as Markdown in one file.
    markdown
        Print all tables as Markdown.
    """
    from cytosae.evaluation.concept_benchmark import ConceptsConfig, measure_concepts
    from cytosae.evaluation.drawn_cohorts import CohortsConfig
    from cytosae.evaluation.tables import concepts_markdown

    output = Output(as_json=as_json)
    asked = None
    if cohorts:
        asked = CohortsConfig(
            seeds, difficulties, patients, cells_per_patient, domain, bootstrap=resamples, workers=workers
        )
    config = ConceptsConfig(
        cells=cells,
        difficulty=difficulty,
        real_cells=real_cells,
        resamples=resamples,
        workers=workers,
        seed=seed,
        cohorts=asked,
    )
    config = replace(config, localisation=replace(config.localisation, bootstrap=resamples, seed=seed))
    saes, model, trained_on = _models(study, sae, backbone, weights, block)
    result = measure_concepts(saes, model, data=data, config=config, work=work, trained_on=trained_on)
    if markdown:
        output.line(concepts_markdown(result))
    else:
        for title in (*SHORT, *SHORT_COHORTS):
            if title in result.tables:
                _show(output, title, result.tables[title])
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        for title, table in result.tables.items():
            table.to_csv(out / f"{title.replace(' ', '_')}.csv", index=False)
        (out / "concepts.md").write_text(concepts_markdown(result) + "\n", encoding="utf-8")
        output.line(f"All tables are in {out}.")
    plain = {title: _records(table) for title, table in result.tables.items()}
    output.result(facts=result.facts, tables=plain)
    output.finish()


def _models(
    study: Path | None, saes: Sequence[Path], backbone: str, weights: Path | None, block: int | None
) -> tuple[dict[str, SparseAutoencoder], Backbone, set[str]]:
    if (study is None) == (not saes):
        raise UsageError("give either a study (--study) or one SAE or several (--sae).")
    if study is not None:
        from cytosae.pipeline import Study

        work = Study(study)
        return {"SAE": work.sae()}, work.backbone, _trained_on(work)
    from cytosae.backbones import load_backbone
    from cytosae.sae import load_sae

    names = [path.name if path.name != "sae" else path.absolute().parent.name for path in saes]
    if len(set(names)) < len(names):
        names = [path.as_posix() for path in saes]
    return (
        {name: load_sae(path) for name, path in zip(names, saes, strict=True)},
        load_backbone(backbone, weights, block=block),
        set(),
    )


def _trained_on(study: Study) -> set[str]:
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

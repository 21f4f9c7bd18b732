"""The commands, in the order in which people meet them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

import cytosae
from cytosae.cli.atlas_commands import atlas_app, report_of_atlases
from cytosae.cli.bench_commands import bench_app
from cytosae.cli.cohort_commands import cohort_app
from cytosae.cli.compare_commands import compare
from cytosae.cli.data import data_app
from cytosae.cli.explore import explore_app
from cytosae.cli.model import model_app
from cytosae.cli.options import options_of
from cytosae.cli.output import Json, Output
from cytosae.cli.searching import search
from cytosae.cli.studies import (
    ConfigFile,
    ExistingStudy,
    FocusOption,
    HowToRead,
    StartingPoint,
    StudyPath,
    asked_for,
    open_study,
)
from cytosae.common.errors import UsageError
from cytosae.pipeline import StudyConfig, tidy

app: App = App(
    name="cytosae",
    version=lambda: cytosae.__version__,
    help="""Concepts of a blood-cell vision transformer that a hematologist can see and check.

    Begin with **cytosae demo**, or with your own images: **cytosae run IMAGES --study DIR** goes from folders of
    single-cell images to a report. Each step can also be run by itself. A step whose inputs and options have not
    changed is skipped, and interrupted work goes on where it stopped. Errors are one sentence; --debug shows more.
    """,
    help_format="markdown",
    suppress_keyboard_interrupt=False,  # main has a word to say
)
app.command(atlas_app)
app.command(compare)
app.command(cohort_app)
app.command(model_app)
app.command(data_app)
app.command(bench_app)
app.command(explore_app)

if TYPE_CHECKING:  # types made while running mean nothing to a type checker
    RunOptions = Any
    ExtractOptions = Any
    TrainOptions = Any
    ReportOptions = Any
    RuntimeOptions = Any
else:
    RunOptions = options_of(
        StudyConfig, "cells", "backbone", "extract", "reading", "sae", "atlas", "localisation", "report", "runtime"
    )
    ExtractOptions = options_of(StudyConfig, "cells", "backbone", "extract", "runtime")
    TrainOptions = options_of(StudyConfig, "sae", "reading", "runtime")
    ReportOptions = options_of(StudyConfig, "report", "runtime")
    RuntimeOptions = options_of(StudyConfig, "runtime")


@app.command
def run(
    *images: Path,
    study: StudyPath,
    how: HowToRead | None = None,
    train_on: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    focus: FocusOption = None,
    start: StartingPoint | None = None,
    dry_run: Annotated[bool, Parameter(negative="")] = False,
    options: RunOptions | None = None,
    as_json: Json = False,
) -> None:
    """Go the whole way: cells, tokens, SAE, atlas, localisation, report.

    Each IMAGES is a data set: a folder of class folders, a flat folder, a folder with a manifest (manifest.csv, .xlsx,
    .parquet), or such a table. Without IMAGES, a study that is there is brought up to date.

    Parameters
    ----------
    images
        Folders of images or manifests; one atlas each.
    train_on
        Data sets (by name) whose tokens the SAE is trained on; all of them if left out.
    dry_run
        Tell which steps would be done, and the time, disk and memory they would take here; write nothing.
    """
    output = Output(as_json=as_json)
    start = start or StartingPoint()
    asked = asked_for(recipe=start.recipe, config=start.config, options=options, train_on=train_on, focus=focus)
    work = open_study(study, output, asked, images=(how or HowToRead()).of(images))
    output.line(f"Study {work.path}: {', '.join(work.datasets)}")
    if dry_run:
        from cytosae.cli.planning import show_plan

        show_plan(work.plan(), output)
        return
    work.run()
    report = work.place("report")
    output.line(f"The report is {report}; open it in a browser.")
    output.result(study=work.path, report=report)
    output.finish()


@app.command
def extract(
    *images: Path,
    study: StudyPath,
    how: HowToRead | None = None,
    config: ConfigFile = None,
    options: ExtractOptions | None = None,
    as_json: Json = False,
) -> None:
    """Read the cells of data sets and turn them into tokens.

    Parameters
    ----------
    images
        Folders of images or manifests, added to those of the study.
    """
    output = Output(as_json=as_json)
    asked = asked_for(config=config, options=options)
    work = open_study(study, output, asked, images=(how or HowToRead()).of(images))
    with work.alone():
        work.read_all_cells()
        for name in work.datasets:
            work.extract(name)
    output.finish()


@app.command
def train(
    *,
    study: ExistingStudy,
    train_on: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    focus: FocusOption = None,
    start: StartingPoint | None = None,
    sweep: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    options: TrainOptions | None = None,
    as_json: Json = False,
) -> None:
    """Train the SAE of a study, or a sweep of several on one reading of the tokens.

    A sweep, e.g. `--sweep k=16,32,64 --sweep expansion=8,16`, trains an SAE for each combination and ends in a table
    and a plot of explained variance against L0 in STUDY/sweep; the SAE of the study stays as it is.

    Parameters
    ----------
    train_on
        Data sets (by name) to train on; all of them if left out.
    sweep
        field=value,value,...; a field of the sparsity, expansion or seed.
    """
    output = Output(as_json=as_json)
    start = start or StartingPoint()
    asked = asked_for(recipe=start.recipe, config=start.config, options=options, train_on=train_on, focus=focus)
    work = open_study(study, output, asked)
    with work.alone():
        work.check()
        work.save_config()
        if sweep:
            result = work.sweep(sweep_values(sweep))
            show_sweep(result.path, output)
        else:
            work.train()
    output.finish()


@app.command
def report(
    *,
    study: Annotated[Path | None, Parameter(name="--study")] = None,
    atlas: Annotated[tuple[Path, ...], Parameter(negative="")] = (),
    images: Path | None = None,
    out: Path | None = None,
    options: ReportOptions | None = None,
    as_json: Json = False,
) -> None:
    """Write the report of a study, or of atlases by themselves: one HTML file that works offline.

    Parameters
    ----------
    study
        Folder of the study.
    atlas
        An atlas, FILE.h5ad, such as `cytosae atlas import-official` writes; several of one SAE are compared.
    images
        Folder where the images of an atlas lie now, if they have moved.
    out
        Page to write of atlases, by default FILE.html beside the first.
    """
    output = Output(as_json=as_json)
    if (study is None) == (not atlas):
        raise UsageError("give either a study (--study) or an atlas (--atlas FILE.h5ad).")
    if study is None:
        path = report_of_atlases(atlas, images, out, options)
    else:
        if images or out:
            raise UsageError("--images and --out are about --atlas; the report of a study is STUDY/report.html.")
        work = open_study(study, output, asked_for(options=options))
        with work.alone():
            work.save_config()
            path = work.write_report().path
    output.line(f"The report is {path}; open it in a browser.")
    output.result(report=path)
    output.finish()


@app.command
def explain(
    image: Path,
    /,
    *,
    study: ExistingStudy,
    dataset: str | None = None,
    concepts: int = 12,
    change: str | None = None,
    out: Path | None = None,
    options: RuntimeOptions | None = None,
    as_json: Json = False,
) -> None:
    """Explain one image: its concepts, where they lie in the cell, and the reference cells most like it.

    Parameters
    ----------
    image
        Any image of a single cell.
    dataset
        Data set of the study whose atlas describes the concepts; the first one if left out.
    concepts
        How many concepts to give.
    change
        A concept to change and its factor, such as 12=0: how its cell type by a probe and its patient's decision move,
        and at other doses; of two, 12,40=0, what both do together.
    out
        HTML page to write, by default STUDY/explained/IMAGE~DIGEST.html, with a digest of the image's content; none if
        the study is read-only.
    """
    from cytosae.cli.changing import show_change
    from cytosae.common.artifact import hash_file
    from cytosae.common.names import short_name
    from cytosae.report import Pictures, write_page
    from cytosae.views import OpenedDataset, view_of_image

    output = Output(as_json=as_json)
    work = open_study(study, output, asked_for(options=options))
    name = dataset or work.datasets[0]
    explanation = work.explain(image, name, concepts=concepts)
    there = (work.atlas(name, backed="r"), work.cells(name), work.tokens(name), work.sae())
    opened = OpenedDataset(*there, looks=work.looks(name))
    columns = ["latent", "activation", "peak", "patches", "activation_frequency", "top_class"]
    rows = explanation.concepts.reset_index()[columns].to_numpy(dtype=object).tolist()
    output.table(["latent", "mean", "peak", "patches", "on cells", "mostly"], rows, title=f"Concepts of {image}")
    similar = explanation.similar.reset_index()
    alike = [[a, b, str(c)[:12]] for a, b, c in similar[["label", "similarity", "cell_id"]].itertuples(index=False)]
    output.table(["label", "similarity", "cell"], alike, title=f"Most alike in {name}")
    if change is not None:
        show_change(work, opened, image, change, output)
    page = out
    if page is None and os.access(work.path, os.W_OK):
        page = work.path / "explained" / f"{short_name(image.stem)}~{hash_file(image)[:8]}.html"
    if page is not None:
        view = view_of_image(image.name, hash_file(image), explanation, opened)
        write_page(page, view, Pictures([opened.cells], {view.cell.cell: image}))
    read_only = f"{work.path} is read-only, so no page was written; name one with --out."
    output.line(f"With pictures and maps: {page}" if page else read_only)
    output.result(image=image, page=page, dataset=name)
    output.result(
        concepts=explanation.concepts.reset_index().to_dict("records"),
        maps={str(k): m.tolist() for k, m in zip(explanation.concepts.index, explanation.maps, strict=True)},
        similar=similar.to_dict("records"),
    )
    output.finish()


app.command(search)


@app.command
def demo(
    *,
    study: Annotated[Path | None, Parameter(name="--study")] = None,
    quick: Annotated[bool, Parameter(negative="")] = False,
    as_json: Json = False,
) -> None:
    """Go the whole way on a synthetic cohort that is drawn first: no images, no downloads, a few minutes.

    Parameters
    ----------
    study
        Folder of the study; by default runs/demo, or runs/demo-quick.
    quick
        Draw few patients and train little: to see that every step works here and what it leaves. Its figures mean
        nothing.
    """
    from cytosae.cli.demonstration import QUICK, WHOLE, demonstrate

    demonstrate(QUICK if quick else WHOLE, study, Output(as_json=as_json))


@app.command
def doctor(*, study: Annotated[Path | None, Parameter(name="--study")] = None, as_json: Json = False) -> int:
    """Say what works here, what is missing, and how to get it; the exit code is 1 if something needed is broken.

    Parameters
    ----------
    study
        Also verify every artifact of this study, byte by byte.
    """
    from cytosae.cli.doctor import examine

    output = Output(as_json=as_json)
    findings = examine(study)
    output.table(["what", "state", "detail"], findings)
    output.result(findings=[finding._asdict() for finding in findings])
    output.finish()
    return int(any(finding.state == "broken" for finding in findings))


@app.command(name="config")
def show_config(*, study: Annotated[Path | None, Parameter(name="--study")] = None, as_json: Json = False) -> None:
    """Print every option with its value, as TOML: the defaults, or those of a study.

    Parameters
    ----------
    study
        Folder of the study.
    """
    import tomli_w

    output = Output(as_json=as_json)
    plain = tidy(cytosae.Study(study).config if study else StudyConfig())
    output.line(tomli_w.dumps(plain).rstrip())
    output.result(**plain)
    output.finish()


def sweep_values(texts: Sequence[str]) -> dict[str, list[float]]:
    """``("k=16,32",)`` -> ``{"k": [16.0, 32.0]}``."""
    values: dict[str, list[float]] = {}
    for text in texts:
        field, _, rest = text.partition("=")
        try:
            values[field.strip().replace("-", "_")] = [float(value) for value in rest.split(",")]
        except ValueError as problem:
            raise UsageError(
                f"--sweep {text!r} is not understood; write it as field=value,value, e.g. k=16,32."
            ) from problem
    return values


def show_sweep(path: Path, output: Output) -> None:
    """Print the table of a sweep."""
    import pandas as pd

    table = pd.read_csv(path / "sweep.csv")
    shown = ["name", "d_sae", "l0", "explained_variance", "explained_variance_after_position", "dead_share"]
    output.table(shown, table[shown].to_numpy(dtype=object).tolist(), title=f"Sweep ({path / 'sweep.png'})")
    output.result(sweep=table.to_dict("records"))

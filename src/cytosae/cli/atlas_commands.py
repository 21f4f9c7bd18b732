"""Commands about atlases: what each latent does on a data set, here and elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

import cytosae
from cytosae.atlas.config import Part
from cytosae.cli.meaning_commands import names, pairs, suppress, verdicts
from cytosae.cli.options import changes_of, options_of, some_of
from cytosae.cli.output import Json, Output
from cytosae.cli.studies import ExistingStudy, FocusOption, asked_for, open_study
from cytosae.common.configuration import replace_from_plain
from cytosae.common.errors import UsageError
from cytosae.evaluation.config import QualityConfig
from cytosae.pipeline import StudyConfig

atlas_app: App = App(
    name="atlas",
    help="""The atlas: what each latent does on a data set.

    **cytosae atlas --study DIR** makes the atlases of a study. The other commands work on finished ones.
    """,
)

atlas_app.command(verdicts)
atlas_app.command(suppress)
atlas_app.command(pairs)
atlas_app.command(names)

if TYPE_CHECKING:  # types made while running mean nothing to a type checker
    AtlasOptions = Any
    QualityOptions = Any
else:
    AtlasOptions = options_of(StudyConfig, "atlas", "localisation", "runtime")
    QualityOptions = some_of(
        QualityConfig, "cells", "splits", "clusters", "maps", "sample", "steps", "random_backbone", "seed"
    )

SHOWN_ABSENT = 5
SHOWN_DRIFTED = 10


@atlas_app.default
def atlas(
    *,
    study: ExistingStudy,
    focus: FocusOption = None,
    part: str | None = None,
    options: AtlasOptions | None = None,
    as_json: Json = False,
) -> None:
    """Describe every latent on every data set of a study, and latents of random weights; compare maps with masks.

    Parameters
    ----------
    part
        Only this part of the cells, e.g. 2/8: the second of eight. Parts are made side by side, on any machines that
        see the study; the same command without --part then joins them.
    """
    output = Output(as_json=as_json)
    work = open_study(study, output, asked_for(options=options, focus=focus))
    if part is not None:
        _make_parts(work, Part.parse(part))
        output.finish()
        return
    with work.alone():
        work.save_config()
        for name in work.datasets:
            work.build_atlas(name)
            work.describe_random(name)
        work.localise()
    output.finish()


@atlas_app.command
def looks(*, study: ExistingStudy, dataset: str | None = None, as_json: Json = False) -> None:
    """Measure colour and texture where each concept lights up, beside random patches; drafts of names say them then.

    Parameters
    ----------
    dataset
        Data set whose reference cells are looked at; all of them if left out.
    """
    output = Output(as_json=as_json)
    work = open_study(study, output)
    names = [dataset] if dataset else work.datasets
    with work.alone():
        for name in names:
            work.measure_looks(name)
    output.finish()


def _make_parts(work: cytosae.Study, part: Part) -> None:
    with work.beside_others():
        work.save_config()
        for name in work.datasets:
            work.build_part(name, part)


@atlas_app.command(name="import-official")
def import_statistics(
    directory: Path,
    /,
    *,
    out: Path,
    images: Annotated[tuple[Path, ...], Parameter(negative="", consume_multiple=True)] = (),
    name: str | None = None,
    as_json: Json = False,
) -> None:
    """Make an atlas of the statistics that the authors of CytoSAE publish, with pictures where images are at hand.

    No weights and no GPU are needed. Which image is which is known for Acevedo, a whole download or parts of it. Beside
    FILE.h5ad lies FILE.cells, the table of the images that were found.

    Parameters
    ----------
    directory
        Folder of their torch files of one data set, with classnames.txt; nothing in them is executed.
    out
        The atlas to write, FILE.h5ad.
    images
        Folders with images of Acevedo.
    name
        Name of the data set, by default that of the folder.
    """
    from cytosae.atlas import cells_place, import_official, save_atlas

    if out.suffix not in (".h5ad", ".zarr"):
        raise UsageError(f"--out {out} ends with neither .h5ad nor .zarr; name such a place.")
    output = Output(as_json=as_json)
    found = import_official(directory, images=images, name=name)
    var, absent = found.atlas.var, list(found.cells.skipped["path"])
    if images:
        found.cells.save(cells_place(out))
    save_atlas(found.atlas, out)
    alive = int((var["cells_active"] > 0).sum())
    output.line(f"{found.atlas.n_obs:,} cells, {found.atlas.n_vars:,} latents, {alive:,} of them active somewhere.")
    if found.entropy_error is not None:
        output.line(f"Label entropies agree with the published ones to {found.entropy_error:.1g} nats.")
    if images:
        more = f" and {len(absent) - SHOWN_ABSENT:,} more, listed in {cells_place(out)}/skipped.csv"
        names = ", ".join(absent[:SHOWN_ABSENT]) + (more if len(absent) > SHOWN_ABSENT else "")
        output.line(f"{len(found.cells):,} images found, {len(absent):,} absent{f': {names}' if absent else ''}.")
        for note in found.cells.notes:
            output.line(note)
    output.line(f"The atlas is {out}; see it with: cytosae report --atlas {out}")
    output.result(
        atlas=out,
        cells=found.atlas.n_obs,
        latents=found.atlas.n_vars,
        alive=alive,
        entropy_error=found.entropy_error,
        images=len(found.cells),
        absent=absent if images else None,
    )
    output.finish()


@atlas_app.command
def quality(
    *,
    study: ExistingStudy,
    dataset: Sequence[str] = (),
    all_datasets: Annotated[bool, Parameter(name="--all", negative="")] = False,
    asked: QualityOptions | None = None,
    part: str | None = None,
    out: Path | None = None,
    as_json: Json = False,
) -> None:
    """Measure the quality of a study's SAE beside controls: on what does learning win, on what not?

    Trains controls by the recipe of the study: a decoder frozen at random directions, one that may turn little, another
    seed, and an SAE on the backbone with random weights; this takes four times as long as training the SAE did, for one
    data set or for all.

    Parameters
    ----------
    dataset
        Data set whose labelled cells are measured, may be given several times; the first one if left out.
    all_datasets
        Measure every data set of the study that has enough labelled cells.
    part
        Only some of the controls, e.g. 2/5: the second of five parts. Parts are measured side by side, on any machines
        that see the study; the same command without --part then joins them.
    out
        Folder for the pages and the tables, STUDY/quality if left out.
    """
    from cytosae.pipeline.quality_parts import joined_parts, make_part, remove_parts
    from cytosae.pipeline.quality_work import measurable, measure_study
    from cytosae.report import Pictures, write_page
    from cytosae.views.datasets.quality_view import view_of_qualities, view_of_quality
    from cytosae.views.parts.page_parts import MadeFrom, say

    def made_from(*names: str) -> tuple[MadeFrom, ...]:
        tokens = (MadeFrom(f"tokens/{name}", work.fingerprint("tokens", name)) for name in names)
        return (MadeFrom("sae", work.fingerprint("sae")), *tokens)

    output = Output(as_json=as_json)
    work = cytosae.Study(study)
    config = QualityConfig(**changes_of(asked))
    names = measurable(work, config, output.line) if all_datasets else list(dataset) or work.datasets[:1]
    if part is not None:
        output.line(f"Part {part}: {', '.join(make_part(work, names, config, Part.parse(part)))}.")
        output.finish()
        return
    pieces = joined_parts(work, names, config)
    found, matching = measure_study(work, names, config, pieces)
    folder = out or work.path / "quality"
    stability = matching.table.rename(columns={"a": "latent", "b": "of_another_seed", "likeness": "stability"})
    views = {name: view_of_quality(one, dataset=name, made_from=made_from(name)) for name, one in found.items()}
    pages = [write_page(folder / f"{name}.html", view, Pictures([work.cells(name)])) for name, view in views.items()]
    for name, one in found.items():
        one.table.to_csv(folder / f"{name}.csv", index=False)
        stability.to_csv(folder / f"{name}_stability.csv", index=False)
    if pieces:
        remove_parts(work)
    view = views[names[0]]
    if len(found) > 1:
        view = view_of_qualities(found, made_from=made_from(*found))
        pages.insert(0, write_page(folder / "index.html", view, Pictures([])))
    output.line(view.head.verdict)
    rows = [
        [say(value, column.shown) for value, column in zip(row.values, view.verdicts.columns, strict=True)]
        for row in view.verdicts.rows
    ]
    output.table([column.words for column in view.verdicts.columns], rows)
    output.line(f"With pictures: {pages[0]}")
    output.result(
        page=pages[0],
        datasets={
            name: {
                "page": folder / f"{name}.html",
                "measures": one.table.to_dict("records"),
                "verdicts": one.verdicts.to_dict("records"),
                "facts": one.facts,
            }
            for name, one in found.items()
        },
    )
    output.finish()


@atlas_app.command
def share(path: Path, /, *, out: Path, site: str, as_json: Json = False) -> None:
    """Write what may leave a site of an atlas: no image, no path, no name of a person; to be merged with others.

    Parameters
    ----------
    path
        The atlas, FILE.h5ad.
    out
        The file to send; send the .artifact.json beside it, too.
    site
        Name of the site.
    """
    from cytosae.atlas import share_atlas
    from cytosae.common.artifact import record_path

    output = Output(as_json=as_json)
    sent = share_atlas(path, out, site=site)
    files = [sent, record_path(sent)]
    output.line("These files hold what each cell's latents do, its label and diagnosis, and patients by number:")
    for file in files:
        output.line(f"  {file}")
    output.result(files=files)
    output.finish()


@atlas_app.command
def merge(*atlases: Path, out: Path, name: str | None = None, as_json: Json = False) -> None:
    """Make one atlas of several of one SAE, the same as of all their cells together.

    Reference cells are known by identifier; their images stay where they are.

    Parameters
    ----------
    atlases
        Two atlases or more, without a common cell.
    out
        The atlas to write.
    name
        Name of the merged data set.
    """
    from cytosae.atlas import merge_atlases, open_atlas

    output = Output(as_json=as_json)
    merged = open_atlas(merge_atlases(atlases, out, name=name), backed="r")
    output.line(f"{merged.n_obs:,} cells, {merged.n_vars:,} latents: {out}")
    output.result(atlas=out, cells=merged.n_obs, latents=merged.n_vars)
    output.finish()


@atlas_app.command
def drift(
    new: Path,
    /,
    *,
    against: Path,
    looks: Annotated[int, Parameter(negative="")] = 500,
    unreconstructed: Annotated[bool, Parameter(negative="")] = False,
    out: Path | None = None,
    as_json: Json = False,
) -> int:
    """Say whether new cells differ from old ones: concepts, case mix, stain, focus. The exit code is 1 if they do.

    Compared is within cell types, so that another mixture of cells is not taken for another look of them; patients are
    the units where both have five or more. Stain and focus are looked at where the images are there.

    Parameters
    ----------
    new
        The atlas of the new cells, FILE.h5ad.
    against
        The atlas of the old cells, of the same SAE.
    looks
        At most so many images of each side are looked at for stain and focus; 0 for none.
    unreconstructed
        Also ask whether the SAE leaves more of the new cells unexplained; needs the tokens of both studies.
    out
        CSV file for the concepts.
    """
    from cytosae.atlas import measure_drift, open_atlas
    from cytosae.pipeline.artefact_work import looks_of_atlas

    output = Output(as_json=as_json)
    atlases = [open_atlas(path) for path in (new, against)]
    seen = [
        looks_of_atlas(path, one, looks, unreconstructed=unreconstructed)
        for path, one in zip((new, against), atlases, strict=True)
    ]
    found = measure_drift(*atlases, looks=(seen[0], seen[1]))
    for sentence in found.sentences:
        output.line(sentence)
    if out is not None:
        found.concepts.to_csv(out)
    top: Any = found.concepts[found.concepts["drifted"]]
    top = top.reindex(top["strength_size"].abs().sort_values(ascending=False).index).head(SHOWN_DRIFTED)
    columns = ["frequency", "frequency_size", "strength", "strength_size"]
    rows = [[int(latent), *values] for latent, values in zip(top.index, top[columns].to_numpy().tolist(), strict=True)]
    if rows:
        output.table(["concept", "frequency, change", "in s.d.", "mean activation, change", "in s.d."], rows)
    output.result(
        called=found.called,
        sentences=found.sentences,
        units=found.units,
        drifted=int(found.concepts["drifted"].sum()),
        mix=found.mix.reset_index().to_dict("records"),
        looks=found.looks.rename_axis("what").reset_index().to_dict("records"),
    )
    output.finish()
    return int(bool(found.concepts["drifted"].any()) or any(bool(one) for one in found.called.values()))


def report_of_atlases(paths: Sequence[Path], images: Path | None, out: Path | None, options: Any) -> Path:
    """Write the page of atlases by themselves, beside the first of them if ``out`` names no other place."""
    from cytosae.atlas import open_atlas, open_cells
    from cytosae.report import Pictures, write_page
    from cytosae.views import OpenedAtlas, view_of_atlas

    asked = replace_from_plain(StudyConfig(), changes_of(options)).report
    atlases = [open_atlas(path, backed="r") for path in paths]
    opened = [
        OpenedAtlas(one, open_cells(path, one.uns["provenance"]["dataset"], images=images))
        for path, one in zip(paths, atlases, strict=True)
    ]
    view = view_of_atlas(opened, concepts=asked.concepts, title=asked.title or "")
    return write_page(out or paths[0].with_suffix(".html"), view, Pictures([one.cells for one in opened]))

"""Commands about atlases: what each latent does on a data set, here and elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from cytosae.cli.options import changes_of, options_of
from cytosae.cli.output import Json, Output
from cytosae.cli.studies import ExistingStudy, asked_for, open_study
from cytosae.common.configuration import replace_from_plain
from cytosae.pipeline import StudyConfig

atlas_app: App = App(
    name="atlas",
    help="""The atlas: what each latent does on a data set.

    **cytosae atlas --study DIR** makes the atlases of a study. The other commands work on finished ones.
    """,
)

if TYPE_CHECKING:  # types made while running mean nothing to a type checker
    AtlasOptions = Any
else:
    AtlasOptions = options_of(StudyConfig, "atlas", "localisation", "runtime")

SHOWN_ABSENT = 5


@atlas_app.default
def atlas(*, study: ExistingStudy, options: AtlasOptions | None = None, as_json: Json = False) -> None:
    """Describe every latent on every data set of a study; compare maps with masks where there are any."""
    output = Output(as_json=as_json)
    work = open_study(study, output, asked_for(options=options))
    with work.alone():
        work.save_config()
        for name in work.datasets:
            work.build_atlas(name)
        work.localise()
    output.finish()


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
    from cytosae.common.errors import UsageError

    if out.suffix != ".h5ad":
        raise UsageError(f"--out {out} is no .h5ad file; name one.")
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

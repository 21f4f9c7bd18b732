"""``cytosae search``: what it finds, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter, validators

import cytosae
from cytosae.cli.output import Json, Output
from cytosae.cli.studies import ExistingStudy
from cytosae.common.errors import UsageError

if TYPE_CHECKING:
    from cytosae.atlas.finding.cell_search import Column
    from cytosae.pipeline import Study
    from cytosae.views import OpenedAtlas
    from cytosae.views.cells.search_view import FoundCell, Likeness, Searched

SHORTEST = 6
"""Fewest characters by which a cell may be named."""


@Parameter(name="*")
@dataclass(frozen=True)
class Where:
    """Which data sets of a study are searched.

    Attributes
    ----------
    dataset : str or None
        Data set of the study; the first one if left out.
    everywhere : bool
        Search the cells of all data sets of the study as those of one; --dataset names the concepts.
    """

    dataset: str | None = None
    everywhere: Annotated[bool, Parameter(negative="")] = False

    def of(self, study: Study) -> list[str]:
        """Their names, first that of the one that names the concepts."""
        first = self.dataset or study.datasets[0]
        return [first, *(name for name in study.datasets if self.everywhere and name != first)]


def search(
    query: str = "",
    /,
    *,
    study: ExistingStudy,
    where: Where = Where(),
    like: str | None = None,
    patches: str = "",
    limit: Annotated[int, Parameter(validator=validators.Number(gte=1))] = 20,
    background: Annotated[bool, Parameter(negative="")] = False,
    as_json: Json = False,
) -> None:
    """Find cells by their concepts ("has 12 and 40, not 7") or by likeness, concepts by name, class or attribute.

    Parameters
    ----------
    query
        Numbers of concepts with and, or, not; or words of a name, a class, an attribute.
    like
        Instead of a query: find cells like a cell of the data set (the beginning of its number, or its image as the
        table of cells names it), or like an image file.
    patches
        With --like: find cells that have much of what is active on these patches of it, such as 119,120; they are
        numbered row by row from 0.
    limit
        Hits to print.
    background
        Find concepts that live beside the cells, too.
    """
    from cytosae.views.cells.search_view import view_of_search

    if bool(query) == (like is not None):
        raise UsageError("Ask for one thing: a query, such as 'has 12 and 40, not 7', or --like CELL.")
    if patches and like is None:
        raise UsageError("--patches are those of a cell; name it with --like.")
    work, output = cytosae.Study(study), Output(as_json=as_json)
    searched = _searched(work, where.of(work))
    asked = None if like is None else _likeness(work, searched.first, like, patches)
    found = view_of_search(searched, q=query, like=asked, size=limit, background=background)
    if found.problem:
        raise UsageError(found.problem)
    output.line(found.understood)
    if found.cells or not found.concepts:
        because = "because" if asked and not asked.patches else "because (concept: activation)"
        _print_cells(output, searched, found.cells[:limit], because)
        output.line(f"{len(found.cells[:limit]):,} of {found.total:,} cells.")
    else:
        shown = found.concepts[:limit]
        output.table(["concept", "name", "reference cells"], [[c.latent, c.name, c.headline] for c in shown])
        output.line(f"{len(shown):,} of {found.concepts_total:,} concepts.")
        if found.set_aside:
            output.line(f"{found.set_aside:,} more live beside the cells and are set aside (--background shows them).")
    output.result(dataset=found.dataset, datasets=found.datasets, understood=found.understood)
    output.result(cells=found.cells[:limit], total=found.total)
    output.result(concepts=found.concepts[:limit], concepts_total=found.concepts_total, set_aside=found.set_aside)
    output.finish()


def _searched(work: Study, names: list[str]) -> Searched:
    """Data sets of a study, opened to be searched; the first names the concepts."""
    from cytosae.atlas import open_atlas
    from cytosae.atlas.stored.latent_columns import column_lookup
    from cytosae.pipeline.dataset_steps import names_accepted
    from cytosae.views import OpenedAtlas
    from cytosae.views.cells.search_view import Searched

    def opened(name: str) -> OpenedAtlas:
        atlas = open_atlas(work.place("atlas", name), backed="r", verify=False)
        return OpenedAtlas(atlas, work.cells(name), accepted=names_accepted(work.path), looks=work.looks(name))

    def columns(one: OpenedAtlas) -> Column:
        return column_lookup(one.atlas.X, work.fingerprint("atlas", one.name))

    return Searched(tuple(map(opened, names)), columns)


def _print_cells(output: Output, searched: Searched, hits: Sequence[FoundCell], because: str) -> None:
    images = {}
    for one in searched.atlases:
        cells = one.cells.frame["cell_id"].astype(str)
        images[one.name] = dict(zip(cells, one.cells.frame["image"].astype(str), strict=True))
    several = len(images) > 1
    rows = []
    for hit in hits:
        where = [hit.dataset] if several else []
        image = images[hit.dataset].get(hit.cell, "")
        rows.append([hit.score, *where, hit.label, image, "; ".join(hit.because), hit.cell[:12]])
    output.table(["score", *(["data set"] if several else []), "label", "image", because, "cell"], rows)


def _likeness(study: Study, atlas: OpenedAtlas, like: str, patches: str) -> Likeness:
    """A cell of the data set, or an image file, as what cells are to be like."""
    from cytosae.cells import load_image
    from cytosae.views import OpenedDataset
    from cytosae.views.cells.cell_page_view import seen_in_store, seen_in_tokens
    from cytosae.views.cells.search_view import like_cell, like_patches

    cell = _cell_named(atlas, like)
    if cell and not patches:
        return like_cell(atlas, cell)
    if not cell and not Path(like).is_file():
        raise UsageError(f"{like!r} is neither a cell of {atlas.name}, nor one of its images, nor an image file.")
    dataset = OpenedDataset(atlas.atlas, atlas.cells, study.tokens(atlas.name), study.sae())
    if cell:
        return like_patches(dataset, seen_in_store(dataset, cell), patches, cell)
    return like_patches(dataset, seen_in_tokens(dataset, *study.see(load_image(Path(like)))), patches)


def _cell_named(atlas: OpenedAtlas, like: str) -> str:
    """``cell_id`` of the cell whose image or number this is, or whose number begins so; empty where there is none."""
    frame = atlas.cells.frame
    numbers, images = frame["cell_id"].astype(str), frame["image"].astype(str)
    begins = numbers.str.startswith(like) & (len(like) >= SHORTEST)
    found = sorted(set(numbers[begins | (images == like)]))
    if len(found) > 1:
        raise UsageError(f"The numbers of {len(found)} cells begin with {like}; give more of it.")
    return found[0] if found else ""

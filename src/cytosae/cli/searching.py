"""How ``cytosae search`` finds, and tells why."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from cytosae.common.errors import UsageError

if TYPE_CHECKING:
    from cytosae.cli.output import Output
    from cytosae.pipeline import Study


def search_study(
    study: Study, query: str, dataset: str | None, limit: int, output: Output, *, background: bool
) -> None:
    """Print what a search finds in a finished study; nothing is written into it."""
    from cytosae.atlas import open_atlas
    from cytosae.atlas.latent_columns import column_lookup
    from cytosae.pipeline.dataset_steps import names_accepted
    from cytosae.views import OpenedAtlas
    from cytosae.views.search_view import view_of_search

    name = dataset or study.datasets[0]
    cells = study.cells(name)
    opened = open_atlas(study.place("atlas", name), backed="r", verify=False)
    atlas = OpenedAtlas(opened, cells, accepted=names_accepted(study.path), looks=study.looks(name))
    column_of = cache(column_lookup(opened.X, study.fingerprint("atlas", name)))
    found = view_of_search(atlas, column_of, q=query, size=limit, background=background)
    if found.problem:
        raise UsageError(found.problem)
    output.line(found.understood or "Nothing is asked for.")
    if found.cells or not found.concepts:
        images = dict(zip(cells.frame["cell_id"].astype(str), cells.frame["image"].astype(str), strict=True))
        rows = [[c.score, c.label, images.get(c.cell, ""), "; ".join(c.because), c.cell[:12]] for c in found.cells]
        output.table(["score", "label", "image", "because (concept: activation)", "cell"], rows)
        output.line(f"{len(found.cells):,} of {found.total:,} cells.")
    else:
        shown = found.concepts[:limit]
        output.table(["concept", "name", "reference cells"], [[c.latent, c.name, c.headline] for c in shown])
        output.line(f"{len(shown):,} of {found.concepts_total:,} concepts.")
        if found.set_aside:
            output.line(f"{found.set_aside:,} more live beside the cells and are set aside (--background shows them).")
    output.result(dataset=name, understood=found.understood, cells=found.cells, total=found.total)
    output.result(concepts=found.concepts[:limit], concepts_total=found.concepts_total, set_aside=found.set_aside)
    output.finish()

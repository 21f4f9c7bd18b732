"""Atlases by themselves: what latents do on data sets of which neither tokens nor the SAE need be at hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cytosae.common.errors import UsageError
from cytosae.views.datasets.dataset_view import DatasetView, view_of_dataset
from cytosae.views.datasets.study_view import NOTICE
from cytosae.views.parts.number_words import count, whole
from cytosae.views.parts.opened_dataset import OpenedAtlas
from cytosae.views.parts.page_parts import Fact, Head, MadeFrom, Page, define

WORDS = ("Cells active", "Mean activation", "Reference cells", "Label entropy", "Usefulness")


@dataclass(frozen=True, kw_only=True)
class AtlasView(Page):
    """Atlases of one SAE with their concepts; nothing is said of how the SAE was made."""

    datasets: tuple[DatasetView, ...]


def view_of_atlas(atlases: Sequence[OpenedAtlas], *, concepts: int = 40, title: str = "") -> AtlasView:
    """Gather atlases of one SAE, ``concepts`` shown of each.

    Raises
    ------
    UsageError
        No atlas is given, or they are of different SAEs.
    """
    if not atlases:
        raise UsageError("A report of an atlas needs one; give its .h5ad file.")
    saes = {str(one.atlas.uns["provenance"]["sae"]) for one in atlases}
    if len(saes) > 1:
        raise UsageError("The atlases are of different SAEs, whose latents have nothing in common; report them apart.")
    views = tuple(view_of_dataset(one, concepts, [other for other in atlases if other is not one]) for one in atlases)
    names = ", ".join(view.name for view in views)
    cells, latents = sum(view.cells for view in views), views[0].latents
    alive = max(view.alive for view in views)
    return AtlasView(
        head=Head(
            kicker="Concepts of single blood cells",
            title=title or f"Atlas of {names}",
            byline=f"{count(cells, 'cell')} from {count(len(views), 'data set')} · {whole(latents)} latents",
            verdict=f"{whole(alive)} of {whole(latents)} latents are active on at least one of these cells.",
            warnings=tuple(one.absent for one in atlases if one.absent),
            notice=NOTICE,
        ),
        datasets=views,
        tiles=(
            Fact("cells", cells, "count"),
            Fact("latents active somewhere", alive, "count"),
            Fact("concepts shown", sum(len(view.concepts) for view in views), "count"),
        ),
        definitions=define(*WORDS),
        made_from=tuple(
            dict.fromkeys(
                MadeFrom(made.name if made.name == "sae" else f"{made.name}/{one.name}", made.fingerprint)
                for one in atlases
                for made in one.made_from
            )
        ),
    )

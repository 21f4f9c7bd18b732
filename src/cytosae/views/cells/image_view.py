"""One explained image: its concepts with maps, their reference cells, and the cells most like it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cytosae.views.concepts.concept_view import ConceptView, views_of_concepts
from cytosae.views.parts.number_words import count
from cytosae.views.parts.opened_dataset import CellView, OpenedDataset, map_views
from cytosae.views.parts.page_parts import Head, Page, Shown, define, facts_of, known, text

if TYPE_CHECKING:
    from cytosae.atlas.explaining.image_explanation import Explanation

REFERENCES = 6
"""Reference cells shown of each concept."""

FACTS: dict[str, tuple[str, Shown]] = {
    "activation": ("Mean activation here", "number"),
    "peak": ("Strongest patch", "number"),
    "patches": ("Patches active", "percent"),
    "surprise": ("Surprise", "number"),
}
"""Column of an explanation -> words, and how it is printed."""


@dataclass(frozen=True, kw_only=True)
class ImageView(Page):
    """One explained image: its concepts, most surprising first, each with its map as ``own``, and cells most alike."""

    cell: CellView
    concepts: tuple[ConceptView, ...]
    similar: tuple[CellView, ...]


def view_of_image(name: str, cell: str, explanation: Explanation, dataset: OpenedDataset) -> ImageView:
    """Gather what was found in an image.

    ``cell`` is the SHA-256 of the image's file, ``dataset`` the one whose cells are shown beside.
    """
    table = explanation.concepts
    latents = [int(latent) for latent in table.index]
    facts = {latent: facts_of(table.loc[latent], FACTS) for latent in latents}
    concepts = views_of_concepts(dataset, latents, facts=facts, references=REFERENCES)
    maps = [map_views([grid], float(grid.max(initial=0.0)))[0] for grid in explanation.maps]
    shown = (CellView(cell, map=grid, latent=latent) for grid, latent in zip(maps, latents, strict=True))
    similar = explanation.similar.reset_index().to_dict("records")
    return ImageView(
        head=Head(
            kicker="One cell explained",
            title=f"Concepts of {name}",
            byline=f"{count(len(latents), 'concept')} · reference cells from {dataset.name}",
            verdict=_verdict(concepts),
            notice=(
                "Research use, not a diagnosis.",
                "A concept is a latent of a model and what its strongest cells have in common. "
                f"Reference cells come from {dataset.name}.",
            ),
        ),
        cell=CellView(cell),
        concepts=tuple(replace(view, own=(own,)) for view, own in zip(concepts, shown, strict=True)),
        similar=tuple(CellView(str(r["cell_id"]), text(r["label"]), known(r["similarity"])) for r in similar),
        definitions=define("Surprise", "Map", "Likeness", "Reference cells", "Cells active", "Label entropy"),
        made_from=dataset.made_from,
    )


def _verdict(concepts: tuple[ConceptView, ...]) -> str:
    if not concepts:
        return "No latent is active in this image."
    first = concepts[0]
    return f"What is most surprising in this cell is latent {first.latent} ({first.headline})."

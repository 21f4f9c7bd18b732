"""The study at a glance, and where to begin."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cytosae.common.artifact import read_artifact
from cytosae.common.errors import CytosaeError
from cytosae.explorer.answering import Pages
from cytosae.explorer.library import Library
from cytosae.views.concepts.gallery_view import ConceptCard, card_of
from cytosae.views.parts.page_parts import Fact, Shown, Table, facts_of, known

pages: Pages = Pages()
FIRST = 6
"""Concepts of each data set to begin with."""
SAE_FACTS: dict[str, tuple[str, Shown]] = {
    "l0": ("latents active on a token (L0)", "number"),
    "explained_variance": ("of the tokens' variance explained", "percent"),
    "dead_share": ("of the latents dead", "percent"),
}


@dataclass(frozen=True)
class DatasetAtAGlance:
    """A data set that is served: its cells, latents active on it, its classes, and concepts to begin with."""

    name: str
    cells: int
    alive: int
    latents: int
    classes: tuple[str, ...]
    label_entropy: float | None
    random_entropy: float | None
    first: tuple[ConceptCard, ...]
    quality: str
    measures: Table | None
    absent: str


@dataclass(frozen=True)
class Overview:
    """What is served, and what is to be known before anything is believed."""

    title: str
    datasets: tuple[DatasetAtAGlance, ...]
    sae: tuple[Fact, ...]
    warnings: tuple[str, ...]
    has_maps: bool
    has_patients: bool
    patients: str


@pages.add("/", "overview.html.j2")
def overview(library: Library) -> Overview:
    """The study at a glance."""
    from cytosae.atlas import select_concepts

    found = []
    for name in library.names:
        atlas = library.atlas(name)
        live = atlas.live
        best = library.remembered.hold(
            list, library.fingerprint(name), "first", lambda atlas=atlas: select_concepts(atlas.atlas, FIRST)
        )
        first = tuple(card_of(atlas, latent) for latent in best)
        classes = tuple(str(c) for c in atlas.atlas.uns["classes"])
        entropy = known(live["label_entropy"].median())
        n, m = atlas.atlas.n_obs, atlas.atlas.n_vars
        quality, measures = _quality(library, name)
        random = atlas.controls.get("label_entropy", np.zeros(0))
        random = random[np.isfinite(random)]
        medians = entropy, float(np.median(random)) if len(random) else None
        found.append(DatasetAtAGlance(name, n, len(live), m, classes, *medians, first, quality, measures, atlas.absent))
    sentence = _patients(library)
    return Overview(
        title=library.title,
        datasets=tuple(found),
        sae=_sae(library),
        warnings=(
            "A concept is a latent of a model, and what its strongest cells have in common. Latents of random weights "
            "often have reference cells of one class, too, and tell patients apart as well: pure reference cells alone "
            "prove nothing. Look at where a concept lies in the cell, and at its weaker cells.",
        ),
        has_maps=library.has_maps,
        has_patients=bool(sentence),
        patients=sentence,
    )


def _quality(library: Library, name: str) -> tuple[str, Table | None]:
    """Whether learning wins over controls on a data set, and measure by measure; or how to find out."""
    if not library.has_maps:
        return "", None
    from cytosae.evaluation.quality_table import read_quality
    from cytosae.views.datasets.quality_view import sentence_of, table_of_verdicts

    file = library.study.path / "quality" / f"{name}.csv"

    def read() -> tuple[str, Table | None]:
        found = read_quality(file)
        if found is None:
            return f"Not measured yet; do it with: cytosae atlas quality --study DIR --dataset {name}", None
        return sentence_of(found), table_of_verdicts(found)

    written = file.stat().st_mtime_ns if file.is_file() else 0  # measured while this is served: read anew
    return library.remembered.hold(tuple, library.fingerprint(name), f"quality {written}", read)


def _sae(library: Library) -> tuple[Fact, ...]:
    if not library.has_maps:
        return ()
    details = read_artifact(library.study.place("sae"), "sae", verify=False).details
    return facts_of(details, SAE_FACTS)


def _patients(library: Library) -> str:
    from cytosae.views.patients.models_view import doubts_of
    from cytosae.views.patients.patients_page_view import verdict_of

    try:
        result = library.patients().result()
    except CytosaeError:
        return ""
    return " ".join([verdict_of(result), *doubts_of(result)])

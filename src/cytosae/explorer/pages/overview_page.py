"""The study at a glance, and where to begin."""

from __future__ import annotations

from dataclasses import dataclass

from cytosae.explorer.answering import Pages
from cytosae.explorer.library import Library

pages = Pages()


@dataclass(frozen=True)
class DatasetAtAGlance:
    """A data set that is served: cells, latents that are active on it, and some concepts to begin with."""

    name: str
    cells: int
    alive: int
    latents: int
    first: tuple[int, ...]


@dataclass(frozen=True)
class Overview:
    """What is served."""

    title: str
    datasets: tuple[DatasetAtAGlance, ...]


@pages.add("/", "overview.html.j2")
def overview(library: Library) -> Overview:
    """The study at a glance."""
    found = []
    for name in library.names:
        var = library.dataset(name).var
        first = var.sort_values("usefulness", ascending=False).index[:12]
        alive = int((var["cells_active"] > 0).sum())
        cells = library.dataset(name).atlas.n_obs
        found.append(DatasetAtAGlance(name, cells, alive, len(var), tuple(int(latent) for latent in first)))
    return Overview(library.title, tuple(found))

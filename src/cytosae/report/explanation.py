"""The page of one explained image: its concepts with maps, their reference cells, and the cells most like it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from cytosae.atlas import reference_table
from cytosae.cells import load_image
from cytosae.common.artifact import package_version
from cytosae.common.errors import CytosaeError
from cytosae.report.figures import THUMBNAIL, overlay, picture_uri, thumbnail
from cytosae.report.html import render, resource

if TYPE_CHECKING:
    from anndata import AnnData

    from cytosae.atlas.explain import Explanation
    from cytosae.cells import CellTable

REFERENCES = 6
"""Reference cells shown of each concept."""


@dataclass(frozen=True)
class CellView:
    """A cell of the atlas as shown: picture (``data:`` address, None where the image is gone) and what it is."""

    picture: str | None
    label: str
    value: float


def write_explanation(
    out: Path, image: Path, explanation: Explanation, atlas: AnnData, cells: CellTable, *, size: int = 2 * THUMBNAIL
) -> Path:
    """Write one self-contained HTML page about ``image``.

    Parameters
    ----------
    out : the page; written beside and renamed
    image : the explained image
    explanation : what was found in it
    atlas, cells : of the data set whose cells are shown beside
    size : pixels of the large pictures
    """
    picture = thumbnail(load_image(image), size)
    rows = cells.frame.reset_index().set_index("cell_id")["index"]
    concepts = [
        {
            **row._asdict(),
            "map": picture_uri(_map_over(picture, grid)),
            "references": _references(row.Index, atlas, cells),
        }
        for row, grid in zip(explanation.concepts.itertuples(), explanation.maps, strict=True)
    ]
    similar = [
        _view(cells, rows.get(str(cell)), str(row.label), float(row.similarity))
        for cell, row in zip(explanation.similar.index, explanation.similar.itertuples(), strict=True)
    ]
    html = render(
        "explanation.html.j2",
        {
            "css": Markup(resource("report.css")),  # noqa: S704  our own file
            "image": image.name,
            "picture": picture_uri(picture),
            "concepts": concepts,
            "similar": similar,
            "dataset": cells.name,
            "package": package_version(),
        },
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f".{out.name}.partial")
    temporary.write_text(html, encoding="utf-8")
    temporary.replace(out)
    return out


def _map_over(picture: NDArray[np.uint8], grid: NDArray[np.float32]) -> NDArray[np.uint8]:
    return overlay(picture, grid, float(grid.max(initial=0.0)))


def _references(latent: Any, atlas: AnnData, cells: CellTable) -> list[CellView]:
    rows = cells.frame.reset_index().set_index("cell_id")["index"]
    table = reference_table(atlas, int(latent)).head(REFERENCES)
    return [
        _view(cells, rows.get(str(cell)), str(row.label), float(row.value))
        for cell, row in zip(table.index, table.itertuples(), strict=True)
    ]


def _view(cells: CellTable, row: Any, label: str, value: float) -> CellView:
    try:
        picture = None if row is None else picture_uri(thumbnail(load_image(cells.image_path(int(row)))))
    except CytosaeError:
        picture = None
    return CellView(picture, label, value)

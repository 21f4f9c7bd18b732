"""The page of one explained image: its concepts with maps, their reference cells, and the cells most like it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from cytosae.atlas import reference_table
from cytosae.cells import load_image
from cytosae.common.artifact import package_version
from cytosae.common.errors import CytosaeError
from cytosae.common.unfinished import unfinished
from cytosae.report.figures import THUMBNAIL, overlay, picture_uri, thumbnail
from cytosae.report.html import render, resource

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

    from cytosae.atlas.image_explanation import Explanation
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
    table = explanation.concepts.reset_index().to_dict("records")
    concepts = [
        {**row, "map": picture_uri(_map_over(picture, grid)), "references": _references(row["latent"], atlas, cells)}
        for row, grid in zip(table, explanation.maps, strict=True)
    ]
    similar = _views(explanation.similar.reset_index().rename(columns={"similarity": "value"}), cells)
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
    temporary = unfinished(out)
    temporary.write_text(html, encoding="utf-8")
    temporary.replace(out)
    return out


def _map_over(picture: NDArray[np.uint8], grid: NDArray[np.float32]) -> NDArray[np.uint8]:
    return overlay(picture, grid, float(grid.max(initial=0.0)))


def _references(latent: int, atlas: AnnData, cells: CellTable) -> list[CellView]:
    return _views(reference_table(atlas, latent).head(REFERENCES).reset_index(), cells)


def _views(found: pd.DataFrame, cells: CellTable) -> list[CellView]:
    """Cells of a table with the columns cell_id, label and value."""
    rows = {str(cell): row for row, cell in enumerate(cells.frame["cell_id"])}
    return [
        CellView(_picture(cells, rows.get(str(r["cell_id"]))), str(r["label"] or "unlabelled"), float(r["value"]))
        for r in found.to_dict("records")
    ]


def _picture(cells: CellTable, row: int | None) -> str | None:
    try:
        return None if row is None else picture_uri(thumbnail(load_image(cells.image_path(row))))
    except CytosaeError:
        return None

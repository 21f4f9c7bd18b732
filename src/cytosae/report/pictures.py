"""Pictures of the cells that a view refers to, as ``data:`` addresses: thumbnails, maps, outlines, patches."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cytosae.cells import load_image, load_mask
from cytosae.cells.focus.patch_grid import Grid
from cytosae.common.errors import CytosaeError
from cytosae.report.colours import AGAINST, FOR, on_scale

if TYPE_CHECKING:
    from cytosae.cells import CellTable
    from cytosae.views import CellView, MapView
    from cytosae.views.patients.patient_view import PatchView

THUMBNAIL, SMALL, LARGE = 128, 80, 192
"""Pixels on a side; a thumbnail is shown at about 80, so that print and dense screens stay sharp."""
CROP = 96
"""Pixels on a side of a patch amid its surroundings."""
DECODED = 512
"""Cells whose pictures are kept in memory."""

Picture = NDArray[np.uint8]


class Pictures:
    """The images of cells by ``cell_id``.

    Parameters
    ----------
    tables : sequence of CellTable
        Where the images lie.
    files : mapping of str to Path, or None
        Images that stand in no table.
    """

    def __init__(self, tables: Sequence[CellTable], files: Mapping[str, Path] | None = None) -> None:
        self._places = {str(cell): (table, row) for table in tables for row, cell in enumerate(table.frame["cell_id"])}
        self._files = dict(files or {})
        self._decoded = lru_cache(maxsize=DECODED)(self._decode)

    def thumbnail(self, cell: str, size: int = THUMBNAIL) -> Picture:
        """The whole image, scaled as for the backbone (no crop), so that maps fit on it; grey where it is gone."""
        return scaled(self._decoded(cell, max(size, LARGE)), size)

    def name(self, cell: str) -> str:
        """Name of the image in its table, empty where it stands in none."""
        if cell not in self._places:
            return ""
        table, row = self._places[cell]
        return str(table.frame["image"].iloc[row])

    def plain(self, view: CellView, size: int = THUMBNAIL) -> str:
        """The cell as it is."""
        return picture_uri(self.thumbnail(view.cell, size))

    def activation(self, view: CellView, size: int = THUMBNAIL) -> str:
        """The cell with its map over it, and the edge of a structure where one is asked for."""
        picture = overlay(self.thumbnail(view.cell, size), view.map) if view.map else self.thumbnail(view.cell, size)
        mask = self._mask(view.cell) if view.outline else None
        if mask is None:
            return picture_uri(picture)
        from cytosae.atlas.places.mask_agreement import shows  # torch, which pictures without outlines do not need

        return picture_uri(outline(picture, shows(mask, view.outline)), quality=82)

    def contribution(self, view: CellView, size: int = LARGE) -> str:
        """The cell with what its patches add over it, for and against."""
        picture = self.thumbnail(view.cell, size)
        return picture_uri(signed_overlay(picture, view.map) if view.map else picture)

    def patch(self, view: PatchView) -> str:
        """A patch amid its surroundings."""
        return picture_uri(patch_crop(self.thumbnail(view.cell, LARGE), view.row, view.column, view.grid))

    def _decode(self, cell: str, size: int) -> Picture:
        try:
            if cell in self._files:
                return scaled(load_image(self._files[cell]), size)
            table, row = self._places[cell]
            return scaled(load_image(table.image_path(row)), size)
        except (CytosaeError, OSError, KeyError):
            # The image was moved after extraction: its map is still right, and the page is worth having.
            return np.full((size, size, 3), 200, np.uint8)

    def _mask(self, cell: str) -> Picture | None:
        try:
            table, row = self._places[cell]
            path = table.mask_path(row)
            return None if path is None else load_mask(path)
        except (CytosaeError, OSError, KeyError):
            return None


def scaled(picture: Picture, size: int) -> Picture:
    """(size, size, 3) uint8."""
    if picture.shape[:2] == (size, size):
        return picture
    return np.asarray(Image.fromarray(picture).resize((size, size), Image.Resampling.LANCZOS))


def overlay(picture: Picture, shown: MapView) -> Picture:
    """A map of activations over a greyed and paled picture: colour and opacity rise with the activation."""
    share = np.clip(_shares(picture, shown), 0, 1)
    return _blend(picture, on_scale(share)[..., :3], 0.92 * share**0.6)


def signed_overlay(picture: Picture, shown: MapView) -> Picture:
    """Contributions over a greyed and paled picture: one colour for, one against, opaque with their size."""
    from matplotlib.colors import to_rgb

    share = np.clip(_shares(picture, shown), -1, 1)
    return _blend(picture, np.where(share[..., None] > 0, to_rgb(FOR), to_rgb(AGAINST)), 0.9 * np.abs(share) ** 0.6)


def outline(picture: Picture, structure: NDArray[np.bool_]) -> Picture:
    """``picture`` (S, S, 3) with the edge of ``structure`` (H, W) (any size, scaled to it) drawn in orange."""
    size = (picture.shape[1], picture.shape[0])
    inside = np.asarray(Image.fromarray(structure).resize(size, Image.Resampling.NEAREST))
    padded = np.pad(inside, 1, mode="edge")
    interior = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    drawn = picture.copy()
    drawn[inside & ~interior] = (224, 94, 20)
    return drawn


def patch_crop(picture: Picture, row: int, column: int, grid: Grid, *, around: int = 2) -> Picture:
    """A patch amid ``around`` patches on each side (the edge repeated), outlined; (`CROP`, `CROP`, 3) uint8.

    Patches are squares, as the backbone has them, whatever the proportions of the picture.
    """
    step = CROP / (2 * around + 1)
    pad = round(around * step)
    rows, columns = (round(patches * step) for patches in grid)
    whole = np.asarray(Image.fromarray(picture).resize((columns, rows), Image.Resampling.LANCZOS))
    padded = np.pad(whole, ((pad, pad), (pad, pad), (0, 0)), mode="edge")
    y, x = round(row * step), round(column * step)
    square = np.zeros((CROP, CROP), dtype=bool)
    square[pad : CROP - pad, pad : CROP - pad] = True
    return outline(scaled(padded[y : y + CROP, x : x + CROP], CROP), square)


def picture_uri(picture: Picture, quality: int = 74) -> str:
    """``data:`` address of a small picture (WebP)."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "WEBP", quality=quality, method=4)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def colour_bar_uri() -> str:
    """``data:`` address of the colour scale of the maps as they appear over a mid-grey cell."""
    share = np.tile(np.linspace(0, 1, 128, dtype=np.float32), (12, 1))
    grey = np.full((12, 128, 3), 190, np.uint8)
    return picture_uri(_blend(grey, on_scale(share)[..., :3], 0.92 * share**0.6), quality=90)


def _shares(picture: Picture, shown: MapView) -> NDArray[np.floating]:
    """Values of a map as shares of full colour, smoothed to the pixels of the picture."""
    grid = np.array(shown.values, np.float32).reshape(shown.grid)
    size = (picture.shape[1], picture.shape[0])
    return np.asarray(Image.fromarray(grid).resize(size, Image.Resampling.BILINEAR)) / (shown.top or np.inf)


def _blend(picture: Picture, colour: NDArray[np.floating], alpha: NDArray[np.floating]) -> Picture:
    """Colours over the greyed picture, paled so that even the dark end of a scale stands out from a dark nucleus."""
    grey = (picture.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32))[..., None]
    base, opacity = 255 - 0.62 * (255 - grey), alpha[..., None]
    return np.clip((1 - opacity) * base + opacity * 255 * colour, 0, 255).astype(np.uint8)

"""Pictures of cells and of maps, made once and kept in memory within a budget."""

from __future__ import annotations

import base64
import io
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from fastapi import FastAPI, Path, Query, Request
from fastapi.responses import Response
from numpy.typing import NDArray
from PIL import Image

from cytosae.cells.focus.patch_grid import grid_of
from cytosae.common.errors import InputError
from cytosae.explorer.library import Library
from cytosae.report.colours import on_scale
from cytosae.report.pictures import LARGE, patch_crop, scaled
from cytosae.views.cells.gaze_view import GazePage
from cytosae.views.parts.opened_dataset import FULL_COLOUR

if TYPE_CHECKING:
    from cytosae.atlas.explaining.gaze import Gaze

Scale = Literal["viridis", "cividis", "magma", "greys"]
SCALES = {"greys": "Greys_r"}
PAINTED = 160
"""Pixels on a side of a picture that is painted over."""
KEPT = {"cache-control": "private, max-age=3600"}


class Kept:
    """Bytes by name, the least recently used ones given up beyond a budget.

    Parameters
    ----------
    budget : int
        Most bytes that are kept.
    """

    def __init__(self, budget: int) -> None:
        self._budget, self._size = budget, 0
        self._held: OrderedDict[tuple[object, ...], bytes] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def size(self) -> int:
        """Bytes that are kept now."""
        return self._size

    def get(self, name: tuple[object, ...], make: Callable[[], bytes]) -> bytes:
        """What is kept under a name, made where it is not; two threads may make the same once each."""
        with self._lock:
            if name in self._held:
                self._held.move_to_end(name)
                return self._held[name]
        made = make()
        with self._lock:
            self._size += len(made) - len(self._held.pop(name, b""))
            self._held[name] = made
            while self._size > self._budget and self._held:
                self._size -= len(self._held.popitem(last=False)[1])
        return made


def add_pictures(app: FastAPI) -> None:
    """Give the app its pictures."""
    app.state.kept = Kept(app.state.settings.thumbnail_bytes)
    app.get("/pictures/{cell}.webp", include_in_schema=False)(picture)
    app.get("/patches/{cell}/{row}/{column}.webp", include_in_schema=False)(patch)
    app.get("/maps/{cell}/{latent}.webp", include_in_schema=False)(heat_map)


def picture(request: Request, cell: str, size: Annotated[int, Query(ge=16, le=1024)] = 128) -> Response:
    """A cell's image, scaled to ``size`` x ``size`` pixels; grey where the image is gone."""
    library: Library = request.app.state.library
    library.place_of(cell)

    def make() -> bytes:
        return webp(library.pictures.thumbnail(cell, size))

    return Response(request.app.state.kept.get(("cell", cell, size), make), media_type="image/webp", headers=KEPT)


def patch(
    request: Request, cell: str, row: Annotated[int, Path(ge=0, lt=256)], column: Annotated[int, Path(ge=0, lt=256)]
) -> Response:
    """A patch of a cell amid its surroundings, outlined."""
    library: Library = request.app.state.library
    atlas, _ = library.place_of(cell)
    grid = grid_of(atlas.atlas.uns["provenance"]["side"])
    if row >= grid[0] or column >= grid[1]:
        raise InputError(f"There is no patch {row}, {column}; the grid has {grid[0]} x {grid[1]}.")

    def make() -> bytes:
        return webp(patch_crop(library.pictures.thumbnail(cell, LARGE), row, column, grid))

    kept = request.app.state.kept.get(("patch", cell, row, column), make)
    return Response(kept, media_type="image/webp", headers=KEPT)


def heat_map(
    request: Request,
    cell: str,
    latent: int,
    size: Annotated[int, Query(ge=16, le=1024)] = 128,
    top: Annotated[float | None, Query(gt=0, allow_inf_nan=False)] = None,
    scale: Scale = "viridis",
) -> Response:
    """The map of a latent on a cell to lie over its picture: transparent where it is 0, opaque at ``top``."""
    library: Library = request.app.state.library
    atlas, _ = library.place_of(cell)
    if not library.has_maps:
        raise InputError("There are no maps: neither tokens nor the SAE are at hand.")
    if latent not in atlas.var.index:
        raise InputError(f"There is no latent {latent} here; they are 0 to {atlas.var.index.max()}.")

    def make() -> bytes:
        with request.app.state.cores.share():
            grid = library.dataset(atlas.name).maps([(cell, latent)])[cell, latent]
        return webp(coloured(grid, size, top, scale), lossless=True)

    name = ("map", cell, latent, size, top, scale)
    return Response(request.app.state.kept.get(name, make), media_type="image/webp", headers=KEPT)


def coloured(grid: NDArray[np.float32], size: int, top: float | None, scale: Scale) -> NDArray[np.uint8]:
    """A map (rows, columns) as (size, size, 4) colours, smoothed; opacity rises with the activation."""
    positive = grid[grid > 0]
    full = top or (float(np.quantile(positive, FULL_COLOUR)) if len(positive) else 1.0)
    smooth = np.asarray(Image.fromarray(grid.astype(np.float32)).resize((size, size), Image.Resampling.BILINEAR))
    share = np.clip(smooth / full, 0, 1)
    colours = on_scale(share, SCALES.get(scale, scale))
    colours[..., 3] = share**0.6
    return np.asarray(255 * colours).round().astype(np.uint8)


def as_address(picture: NDArray[np.uint8]) -> str:
    """A picture as an address that holds it, for what is shown once and kept nowhere."""
    return f"data:image/webp;base64,{base64.b64encode(webp(picture)).decode()}"


def webp(picture: NDArray[np.uint8], *, lossless: bool = False) -> bytes:
    """A picture as WebP."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "WEBP", quality=82, method=2, lossless=lossless)
    return buffer.getvalue()


def with_painted(page: GazePage, found: Mapping[str, Gaze]) -> GazePage:
    """The page with each cell's painted pictures as addresses, by ``cell_id``."""

    def address(picture: NDArray[np.uint8]) -> str:
        return as_address(scaled(picture, PAINTED))

    cells = [
        replace(one, without=address(found[one.cell].without), alone=address(found[one.cell].alone))
        for one in page.cells
    ]
    return replace(page, cells=tuple(cells))

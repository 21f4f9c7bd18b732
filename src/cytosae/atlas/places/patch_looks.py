"""Colour and texture of the patches on which a latent lights up, beside random patches of the same part of cells."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

from cytosae.atlas.encoding.token_activations import encode_cells
from cytosae.common.progress import progress
from cytosae.common.table_artifacts import open_table, save_table
from cytosae.tokens.extraction.batches import prepared_batches
from cytosae.tokens.focus.part_shares import PARTS, PartShares, parts_of

if TYPE_CHECKING:
    from anndata import AnnData

    from cytosae.cells import CellTable
    from cytosae.cells.focus.patch_grid import Grid
    from cytosae.sae import SparseAutoencoder
    from cytosae.tokens import TokenStore

LOOKS = ("darkness", "blueness", "grain")
"""What is measured of a patch, see `looks_of_image`."""
COMPARED = 400
"""Cells, spread evenly, whose patches are the random ones."""
STRONG = 0.5
"""Patches of a reference cell count from this share of the activation of its strongest on."""
MOSTLY = 0.5
"""Share of a patch from which on it belongs to a part of the cell."""
PART_OF = {"nucleus": "nucleus", "cytoplasm": "cytoplasm", "background": "elsewhere"}
"""Where a latent lives -> the part whose patches it is compared with; all patches for others."""
FAINT = 0.02
BATCH = 32


def measure_looks(
    sae: SparseAutoencoder, store: TokenStore, cells: CellTable, atlas: AnnData, *, workers: int = 0
) -> pd.DataFrame:
    """How the patches on which each latent lights up differ from random patches.

    x is the mean of a look over the patches of a reference cell on which the latent has `STRONG` of its largest
    activation there or more, and then over its reference cells; μ and s are mean and standard deviation of the look
    over all patches of `COMPARED` cells that lie in the part in which the latent lives. Given is (x - μ) / s.

    Parameters
    ----------
    sae, store, cells : SparseAutoencoder, TokenStore, CellTable
        Of the atlas; the images are read.
    atlas : AnnData
        Its reference cells, and where latents live (``lives_in``), are used.
    workers : int
        Processes that decode images, 0 for none.

    Returns
    -------
    DataFrame
        Index latent (active ones); `LOOKS`, ``cells`` (reference cells seen), ``compared_with`` ("nucleus", "all").

    Raises
    ------
    InputError
        An image cannot be read.
    """
    names = pd.Index(atlas.obs_names)
    reference = np.asarray(atlas.uns["reference_cells"]["rows"])
    latents = np.flatnonzero((reference >= 0).any(1))
    some = np.unique(np.linspace(0, len(names) - 1, min(COMPARED, len(names))).round().astype(int))
    wanted = np.unique(np.concatenate([reference[reference >= 0], some]))
    referring = _latents_of_rows(reference)
    place = pd.Index(store.cell_ids).get_indexer(names[wanted])
    compared, sums, counted = [], np.zeros((len(reference), len(LOOKS))), np.zeros(len(reference))
    at = 0
    for seen in _looks_of_cells(cells, names[wanted], store.grid, workers):
        rows, of = wanted[at : at + len(seen)], place[at : at + len(seen)]
        at += len(seen)
        compared.append(seen[np.isin(rows, some)])
        tokens = torch.cat([store.read(int(row), int(row) + 1) for row in of]).float()
        codes = encode_cells(sae, tokens, None if store.counted is None else store.counted[of])
        for n, row in enumerate(rows):
            own = referring.get(int(row), np.zeros(0, np.intp))
            lit, means = _where_lit(codes[n * store.n_tokens + 1 : (n + 1) * store.n_tokens, own].toarray(), seen[n])
            sums[own[lit]] += means
            counted[own[lit]] += 1
    usual = _usual(np.concatenate(compared))
    lives = np.asarray(atlas.var["lives_in"].astype(object)) if "lives_in" in atlas.var else np.full(len(reference), "")
    part = [PART_OF.get(str(lives[latent]), "all") for latent in latents]
    part = [one if one in usual else "all" for one in part]
    middle, spread = (np.stack([usual[one][end] for one in part]) for end in (0, 1))
    with np.errstate(invalid="ignore", divide="ignore"):
        shift = np.where(spread > 0, ((sums / counted[:, None])[latents] - middle) / spread, np.nan)
    table = pd.DataFrame(shift, columns=pd.Index(LOOKS), index=pd.Index(latents, name="latent"))
    return table.assign(cells=counted[latents].astype(int), compared_with=part)


def looks_of_image(image: NDArray[np.uint8], grid: Grid) -> NDArray[np.float32]:
    """Looks of each patch of an image: [3, rows * columns of the ``grid``].

    With the optical density D = -ln((I + 1) / (G + 1)) of each channel, G the 99 % quantile of the channel (the glass):

    darkness: mean of D over channels and pixels. blueness: of the patch's mean density in red, green and blue, the
    share in red, which blue dyes take out of the light and eosin hardly does. grain: standard deviation of the mean
    density over channels, less its mean over a square of a third of a patch: what is finer than that.
    """
    pixels = np.asarray(image, np.float32)[..., :3]
    glass = np.percentile(pixels, 99, axis=(0, 1))
    density = np.maximum(-np.log((pixels + 1) / (glass + 1)), 0)
    rows, columns = (
        np.linspace(0, length, n + 1).round().astype(int) for length, n in zip(density.shape[:2], grid, strict=True)
    )
    area = np.diff(rows)[:, None] * np.diff(columns)[None, :]

    def mean(field: Any) -> Any:
        return np.add.reduceat(np.add.reduceat(field, rows[:-1], axis=0), columns[:-1], axis=1) / area

    red, green, blue = (mean(density[..., channel]) for channel in range(3))
    grey = density.mean(2)
    width = max(3, round(min(np.divide(density.shape[:2], grid)) / 3) | 1)
    fine = grey - uniform_filter(grey, width, mode="nearest")
    grain = np.sqrt(np.maximum(mean(fine * fine) - mean(fine) ** 2, 0))
    blueness = (red + FAINT) / (red + green + blue + 3 * FAINT)
    return np.stack([(red + green + blue) / 3, blueness, grain]).reshape(3, -1).astype(np.float32)


def save_looks(table: pd.DataFrame, path: Path, *, config: Any = None, inputs: Mapping[str, str] | None = None) -> Path:
    """Write the table as a Parquet artifact of kind "looks"."""
    return save_table(table, path, "looks", config=config, inputs=inputs, details={"latents": len(table)})


def open_looks(path: Path | str) -> pd.DataFrame:
    """Open what `save_looks` wrote."""
    return open_table(path, "looks", mend="make it again with: cytosae atlas looks --study STUDY")


def _latents_of_rows(reference: NDArray[np.integer]) -> dict[int, NDArray[np.intp]]:
    """Row of a cell -> the latents whose reference cell it is; ``reference`` (m, k) has -1 for none."""
    latents, at = np.nonzero(reference >= 0)
    rows = reference[latents, at]
    order = np.argsort(rows, kind="stable")
    found, first = np.unique(rows[order], return_index=True)
    return dict(zip(found.tolist(), np.split(latents[order], first[1:]), strict=True))


def _where_lit(patches: NDArray[Any], seen: NDArray[np.floating]) -> tuple[NDArray[np.bool_], NDArray[Any]]:
    """Which latents are active on a cell's patches (P, k), and the mean looks (active, 3) of where they are strong."""
    top = patches.max(0, initial=0)
    lit = top > 0
    strong = (patches >= STRONG * top)[:, lit]
    return lit, ((seen[: len(LOOKS)] @ strong) / strong.sum(0)).T


def _looks_of_cells(cells: CellTable, ids: pd.Index, grid: Grid, workers: int) -> Iterator[NDArray[np.float32]]:
    """[b, looks + parts, patches] of these cells in order: what they look like, and which part each patch shows."""
    chosen = cells.subset(pd.Index(cells.frame["cell_id"]).get_indexer(ids))
    batches = [list(range(at, min(at + BATCH, len(chosen)))) for at in range(0, len(chosen), BATCH)]
    change = partial(_looks_and_parts, grid=grid)
    with progress(f"Colour and texture of {cells.name}", len(chosen), "cells") as bar:
        for batch in prepared_batches(chosen, _stacked, batches, workers=workers, change=change):
            yield batch.numpy()
            bar.advance(len(batch))


def _looks_and_parts(image: NDArray[np.uint8], mask: NDArray[np.uint8] | None, *, grid: Grid) -> NDArray[np.float32]:
    shares = PartShares(grid)([parts_of(image, mask)])[0].numpy()
    return np.concatenate([looks_of_image(image, grid), shares])


def _stacked(arrays: Sequence[Any]) -> torch.Tensor:
    return torch.from_numpy(np.stack(arrays))


def _usual(compared: NDArray[np.floating]) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Part -> mean and standard deviation of looks over the patches of cells [n, looks + parts, P] that show it."""
    flat = compared.transpose(1, 0, 2).reshape(len(LOOKS) + len(PARTS), -1)
    where = {name: flat[len(LOOKS) + at] >= MOSTLY for at, name in enumerate(PARTS)}
    where["all"] = np.ones(flat.shape[1], bool)
    looks = {name: flat[: len(LOOKS), here] for name, here in where.items()}
    return {name: (x.mean(1, dtype=float), x.std(1, dtype=float)) for name, x in looks.items() if x.shape[1] > 1}

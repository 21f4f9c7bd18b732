"""Where a concept looks: what of an image its activation, or a decision, needs, beside where its map lights up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from cytosae.atlas.config import GazeConfig
from cytosae.atlas.encoding.token_activations import encode_cells
from cytosae.cells.focus.painting import cover, known_or_found
from cytosae.cells.focus.patch_grid import Grid, checked_grid
from cytosae.common.errors import UsageError
from cytosae.sae import SparseAutoencoder
from cytosae.sae.model.level import trained_grid

Images = Sequence[NDArray[np.uint8]]
Encode = Callable[[Images], torch.Tensor]
"""Images, uint8 [H, W, 3] each, to their tokens, float32 [b, T, D]."""

Watch = Callable[[Images, NDArray[np.bool_] | None], NDArray[np.float64]]
"""Images, and tokens that count, bool [T] (None: all), to what is watched of each token, float64 [b, T]; tokens sum."""
OF_CELL = 0.5
"""Share of the pixels of a patch from which on it is one of the cell."""


@dataclass(frozen=True)
class Gaze:
    """What goes from a concept's activation, or a decision, on one cell with parts of the image; 1 is all of it.

    Attributes
    ----------
    activation : float
        Mean over the tokens of the cell as it is: its activation; what it adds to a decision by their number.
    patches : int
        Patches that the map marks and that are painted out.
    marked : float
        Share of the activation that goes with them; below 0 where it grows.
    random : ndarray of float, shape (draws,)
        Share that goes with as many random patches of the image.
    in_cell : ndarray of float, shape (draws,)
        Share that goes with as many random patches of the cell; empty where it has fewer.
    left : float
        Share that is left when all is painted out but what the map marks.
    without, alone : ndarray of uint8, shape (H, W, 3)
        The image without what the map marks, and with nothing else.
    """

    activation: float
    patches: int
    marked: float
    random: NDArray[np.float64]
    in_cell: NDArray[np.float64]
    left: float
    without: NDArray[np.uint8]
    alone: NDArray[np.uint8]


def where_it_looks(
    images: Images,
    latent: int,
    *,
    sae: SparseAutoencoder,
    encode: Encode,
    masks: Sequence[NDArray[np.uint8] | None] | None = None,
    counted: NDArray[np.bool_] | None = None,
    grid: Grid | None = None,
    config: GazeConfig | None = None,
) -> list[Gaze]:
    """Paint out what a concept's map marks, encode anew, and see how much of its activation goes with it.

    A map says which tokens carry a concept. Attention brings to a token what other patches show, so that a map alone
    does not say which part of the image the concept is about. Painted is with glass and red cells of the same image
    (`cytosae.cells.focus.painting.cover`); a concept of just these therefore loses little wherever one paints.

    Parameters
    ----------
    images : sequence of ndarray of uint8, shape (H, W, 3)
        Cells that have the concept, for instance its reference cells.
    latent : int
        In 0..m-1.
    sae : SparseAutoencoder
        Of m latents.
    encode : callable
        Images to tokens, as the tokens of the SAE were made.
    masks : sequence of ndarray or None, or None
        Masks [H, W] of the cells, as `cytosae.cells.load_mask` reads them; where None, the cell is found.
    counted : ndarray of bool, shape (n, T), or None
        Tokens whose mean is the activation of a cell (`cytosae.tokens.FocusedStore`); None for all.
    grid : tuple of int or None
        Rows and columns of the patches; None for those that the SAE was trained on, or a square where it knows none.
    config : GazeConfig or None
        How many patches are painted out, and how often at random.

    Returns
    -------
    list of Gaze
        One for each image on which the latent is active on a patch; images without it are left out.

    Raises
    ------
    UsageError
        a latent that there is not.
    """
    if not 0 <= latent < sae.d_sae:
        raise UsageError(f"There is no latent {latent}; this SAE has latents 0 to {sae.d_sae - 1}.")
    watch, grid = _Watched(sae, latent, encode), grid or trained_grid(sae)
    found = look_at(images, watch, masks=masks, counted=counted, grid=grid, config=config)
    return [gaze for gaze in found if gaze is not None]


def look_at(
    images: Images,
    watch: Watch,
    *,
    masks: Sequence[NDArray[np.uint8] | None] | None = None,
    counted: NDArray[np.bool_] | None = None,
    grid: Grid | None = None,
    config: GazeConfig | None = None,
) -> list[Gaze | None]:
    """Paint out the patches of each image on which what is watched is largest, and see how much of its sum goes.

    Parameters
    ----------
    images : sequence of ndarray of uint8, shape (H, W, 3)
        Cells.
    watch : callable
        What is watched.
    masks : sequence of ndarray or None, or None
        As of `where_it_looks`.
    counted : ndarray of bool, shape (n, T), or None
        Tokens that count, None for all.
    grid : tuple of int or None
        Rows and columns of the patches; None for a square.
    config : GazeConfig or None
        How many patches are painted out, and how often at random.

    Returns
    -------
    list of Gaze or None
        One for each image; None where the sum is not above 0, or no patch is.
    """
    config = config or GazeConfig()
    rng = np.random.default_rng(config.seed)
    found = []
    for i, image in enumerate(images):
        cell = known_or_found(image, None if masks is None else masks[i]) > 0
        found.append(_look(image, cell, watch, None if counted is None else counted[i], grid, config, rng))
    return found


@dataclass(frozen=True)
class _Watched:
    """One latent, and what makes tokens of images."""

    sae: SparseAutoencoder
    latent: int
    encode: Encode

    @torch.no_grad()
    def __call__(self, images: Images, counted: NDArray[np.bool_] | None) -> NDArray[np.float64]:
        """Activations [b, T] on every token that counts."""
        tokens = self.encode(images)
        mask = None if counted is None else np.tile(counted, (len(images), 1))
        column = encode_cells(self.sae, tokens, mask).tocsc()[:, [self.latent]]
        return column.toarray().reshape(tokens.shape[:2]).astype(np.float64)


def _look(
    image: NDArray[np.uint8],
    cell: NDArray[np.bool_],
    watch: Watch,
    counted: NDArray[np.bool_] | None,
    grid: Grid | None,
    config: GazeConfig,
    rng: np.random.Generator,
) -> Gaze | None:
    draws = config.draws
    before = watch([image], counted)[0]
    shown = before[1:]
    strongest = np.argsort(-shown, kind="stable")[: config.marked]
    strongest = strongest[shown[strongest] > 0]
    if not len(strongest) or before.sum() <= 0:
        return None
    P, n = len(shown), len(strongest)
    patch_of = _patch_of_pixel(image.shape[:2], checked_grid(grid, P))
    share = np.bincount(patch_of.ravel(), cell.ravel(), minlength=P) / np.maximum(
        np.bincount(patch_of.ravel(), minlength=P), 1
    )
    of_cell = np.flatnonzero(share >= OF_CELL)
    sets = [strongest, *(rng.choice(P, n, replace=False) for _ in range(draws))]
    if len(of_cell) >= n:
        sets += [rng.choice(of_cell, n, replace=False) for _ in range(draws)]
    holes = [np.isin(patch_of, one) for one in sets]
    painted = [cover(image, hole, cell) for hole in [*holes, ~holes[0]]]
    gone = 1 - watch(painted, counted).mean(1) / before.mean()
    n_counted = len(before) if counted is None else int(counted.sum())
    return Gaze(
        activation=float(before.sum() / n_counted),
        patches=n,
        marked=float(gone[0]),
        random=gone[1 : 1 + draws],
        in_cell=gone[1 + draws : -1],
        left=float(1 - gone[-1]),
        without=painted[0],
        alone=painted[-1],
    )


def _patch_of_pixel(shape: tuple[int, int], grid: Grid) -> NDArray[np.intp]:
    """[H, W] number of the patch that each pixel lies in."""
    rows, columns = ((np.arange(length) + 0.5) * n // length for length, n in zip(shape, grid, strict=True))
    return (rows[:, None] * grid[1] + columns).astype(np.intp)

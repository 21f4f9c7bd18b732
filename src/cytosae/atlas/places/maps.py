"""Where in the cell a latent is active: its activations on the patch grid."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray

from cytosae.atlas.encoding.cell_codes import CellCodes, column_of
from cytosae.atlas.encoding.token_activations import encode_cells, encode_tokens
from cytosae.cells.focus.patch_grid import checked_grid
from cytosae.common.errors import InputError, UsageError
from cytosae.sae import ReluL1, SparseAutoencoder
from cytosae.sae.model.level import refuse_other_level, trained_grid

CELLS_AT_ONCE = 16
SCORED_AT_ONCE = 8
"""Cells of which some latents are scored together: the tokens of more leave the processor's cache."""

if TYPE_CHECKING:
    from cytosae.backbones import AnyBackbone
    from cytosae.cells.focus.patch_grid import Grid
    from cytosae.tokens import TokenStore


def concept_map(
    image_or_tokens: Any,
    latent: int,
    *,
    sae: SparseAutoencoder,
    backbone: AnyBackbone | None = None,
    grid: Grid | None = None,
) -> NDArray[np.float32]:
    """Map of one latent on one cell.

    Parameters
    ----------
    image_or_tokens : object
        A path, a PIL image or a uint8 array [H, W, 3] (needs ``backbone``), or the cell's float tokens [T, D] with CLS
        first.
    latent : int
        Index in 0..m-1.
    sae : SparseAutoencoder
        The autoencoder.
    backbone : AnyBackbone or None
        Turns the image into tokens.
    grid : tuple of int or None
        Rows and columns of the patches; None for those of the backbone, or as of `concept_maps`.

    Returns
    -------
    ndarray of float32, shape (rows, columns)
        Activations >= 0 on the patch grid; the CLS token is left out.

    Raises
    ------
    InputError
        a backbone, block or image size other than the SAE was trained with.
    UsageError
        an image without a backbone, or a latent that the SAE does not have.

    Examples
    --------
    >>> import cytosae
    >>> import numpy as np
    >>> backbone = cytosae.load_backbone("tiny")
    >>> sae = cytosae.SparseAutoencoder(backbone.width, 64)
    >>> image = np.full((64, 64, 3), 200, np.uint8)
    >>> cytosae.concept_map(image, 5, sae=sae, backbone=backbone).shape
    (16, 16)
    """
    if backbone is not None:
        refuse_other_level(sae, backbone.describe(), f"the backbone {backbone.name}")
        grid = backbone.grid
    tokens = _tokens(image_or_tokens, backbone)
    return concept_maps(tokens[None], [latent], sae=sae, grid=grid)[0, 0]


def concept_maps(
    tokens: torch.Tensor,
    latents: Sequence[int],
    *,
    sae: SparseAutoencoder,
    grid: Grid | None = None,
    batch_cells: int = 16,
) -> NDArray[np.float32]:
    """Maps of several latents on several cells.

    Parameters
    ----------
    tokens : Tensor, shape (n, T, D), float
        CLS first.
    latents : sequence of int
        L indices in 0..m-1.
    grid : tuple of int or None
        Rows and columns of the patches; None for those that the SAE was trained on, or a square where it knows none.

    Returns
    -------
    ndarray of float32, shape (n, L, rows, columns)
    """
    wanted = _checked(latents, sae)
    n, T, _ = tokens.shape
    grid = checked_grid(grid or trained_grid(sae), T - 1)
    maps = np.empty((n, len(wanted), *grid), np.float32)
    for start in range(0, n, batch_cells):
        batch = tokens[start : start + batch_cells].float()
        patches = _activations(sae, batch, wanted).reshape(len(batch), T, len(wanted))[:, 1:]
        maps[start : start + len(batch)] = patches.transpose(0, 2, 1).reshape(len(batch), -1, *grid)
    return maps


def reference_maps(
    store: TokenStore,
    pairs: Sequence[tuple[int, int]],
    *,
    sae: SparseAutoencoder,
    codes: CellCodes | None = None,
) -> dict[tuple[int, int], NDArray[np.float32]]:
    """Maps of (row, latent) pairs, each cell read once and encoded as far as its patches may have these latents.

    Parameters
    ----------
    store : TokenStore
        The cells' tokens.
    pairs : sequence of tuple of int
        (row in the store, latent).
    codes : CellCodes or None
        The same store's cells as far as they have been encoded before.

    Returns
    -------
    dict of tuple of int to ndarray of float32
        (row, latent) -> [rows, columns] float32; 0 on patches that do not count (`cytosae.tokens.FocusedStore`).
    """
    latents_of, maps = _by_row(store, pairs, sae), {}
    if isinstance(getattr(sae, "sparsity", None), ReluL1):
        for row, latents in latents_of.items():
            found = _activations(sae, store.read(row, row + 1).float(), latents)[1:]
            if store.counted is not None:
                found *= store.counted[row, 1:, None]
            maps |= {(row, latent): own.reshape(store.grid) for latent, own in zip(latents, found.T, strict=True)}
        return maps
    held = {row: known for row in latents_of if codes is not None and (known := codes.held(row)) is not None}
    others = sorted(latents_of.keys() - held.keys())
    sparse = isinstance(sae, SparseAutoencoder)
    new = _where_positive(store, sae, others, latents_of) if sparse else CellCodes(store, sae).each(others)
    for row, activations in chain(held.items(), new):
        for latent in latents_of[row]:
            maps[row, latent] = column_of(activations, latent)[1:].reshape(store.grid)
    return maps


@torch.no_grad()
def _where_positive(
    store: TokenStore, sae: SparseAutoencoder, rows: Sequence[int], latents_of: Mapping[int, Sequence[int]]
) -> Iterator[tuple[int, sp.csr_array]]:
    """(row, activations (T, m)) of cells on patches where one of the latents has a positive score; elsewhere none.

    An activation is the score or 0, so that the other patches have none of these latents whatever else is on them.
    """
    for start in range(0, len(rows), CELLS_AT_ONCE):
        block = rows[start : start + CELLS_AT_ONCE]
        cells = torch.cat([store.read(row, row + 1) for row in block])
        pairs = zip(block, cells, strict=True)
        asked = np.stack([(_scores(sae, cell[None], latents_of[row]) > 0).any(1).cpu().numpy() for row, cell in pairs])
        asked[:, 0] = False
        if store.counted is not None:
            asked &= store.counted[block]
        found, T = encode_cells(sae, cells, asked), cells.shape[1]
        yield from ((row, found[i * T : (i + 1) * T]) for i, row in enumerate(block))


@torch.no_grad()
def strongest_patches(
    store: TokenStore, pairs: Sequence[tuple[int, int]], *, sae: SparseAutoencoder, first: int = 4
) -> dict[tuple[int, int], int]:
    """The patch on which a latent is strongest in a cell: the place of the largest value of its map.

    A latent's activation on a token is its score or 0, so the first patch by score on which it is active is the
    strongest. Scores of one latent are a product with one column of the encoder; to know whether it is active,
    ``first`` patches of a cell are encoded instead of all, and all where it is active on none of these.

    Parameters
    ----------
    store : TokenStore
        The cells' tokens.
    pairs : sequence of tuple of int
        (row in the store, latent).
    sae : SparseAutoencoder
        The autoencoder.
    first : int
        Patches of each pair that are encoded at first.

    Returns
    -------
    dict of tuple of int to int
        (row, latent) -> patch, from 0, row by row; 0 where the latent is active on no patch.
    """
    found, asked, tokens = dict.fromkeys(pairs, 0), {}, []
    latents_of = _by_row(store, [*found], sae)
    every = list(latents_of)
    for start in range(0, len(every), SCORED_AT_ONCE):
        rows = every[start : start + SCORED_AT_ONCE]
        cells = torch.cat([store.read(row, row + 1) for row in rows])
        own = [(at, latent) for at, row in enumerate(rows) for latent in latents_of[row]]
        latents = sorted({latent for _, latent in own})
        scores = _scores(sae, cells, latents).cpu().view(len(rows), -1, len(latents))[:, 1:]
        if store.counted is not None:
            scores = scores.where(torch.from_numpy(store.counted[rows, 1:, None]), 0.0)
        places = torch.tensor([at for at, _ in own]), torch.tensor([latents.index(latent) for _, latent in own])
        best, order = scores[places[0], :, places[1]].sort(dim=1, descending=True, stable=True)
        chosen, positive = order[:, :first], (best[:, 0] > 0).tolist()
        for (at, latent), patches, able in zip(own, chosen, positive, strict=True):
            if able:
                asked[rows[at], latent] = patches.numpy()
                tokens.append(cells[at, 1 + patches])
    if not asked:
        return found
    codes = encode_tokens(sae, torch.cat(tokens), 1 + torch.from_numpy(np.concatenate([*asked.values()])))
    unsure, start = [], 0
    for (row, latent), best in asked.items():
        active = column_of(codes[start : start + len(best)], latent) > 0
        if store.counted is not None:
            active &= store.counted[row, 1:][best]
        start += len(best)
        if active.any():
            found[row, latent] = int(best[active.argmax()])
        else:
            unsure.append((row, latent))
    return found | {pair: int(grid.argmax()) for pair, grid in reference_maps(store, unsure, sae=sae).items()}


@torch.no_grad()
def _activations(sae: SparseAutoencoder, tokens: torch.Tensor, latents: list[int]) -> NDArray[np.float32]:
    """[b * T, L] activations of the wanted latents on whole cells' tokens [b, T, D]."""
    if not isinstance(getattr(sae, "sparsity", None), ReluL1):
        # Which latents of a token are active depends on all of its latents.
        return encode_cells(sae, tokens).tocsc()[:, latents].toarray()
    return torch.relu(_scores(sae, tokens, latents)).cpu().numpy()


def _scores(sae: SparseAutoencoder, tokens: torch.Tensor, latents: Sequence[int]) -> torch.Tensor:
    """[b * T, L] scores: each latent's by itself, so that L of m columns of the encoder suffice."""
    tokens = tokens.to(sae.device)
    positions = torch.arange(tokens.shape[1]).repeat(len(tokens))
    x = sae.normaliser(tokens.reshape(-1, tokens.shape[2]), positions)
    chosen = torch.tensor(latents).to(sae.device)
    return (x - sae.b_dec) @ sae.W_enc[:, chosen] + sae.b_enc[chosen]


def _by_row(store: TokenStore, pairs: Sequence[tuple[int, int]], sae: SparseAutoencoder) -> dict[int, list[int]]:
    """Latents that are asked for by cell, where both are there and the store is of the SAE's level."""
    _checked([latent for _, latent in pairs], sae)
    refuse_other_level(sae, store.manifest.get("backbone", {}), str(store.path))
    latents_of: dict[int, list[int]] = {}
    for row, latent in pairs:
        latents_of.setdefault(row, []).append(latent)
    return latents_of


def _tokens(image_or_tokens: Any, backbone: AnyBackbone | None) -> torch.Tensor:
    value = image_or_tokens
    if isinstance(value, (torch.Tensor, np.ndarray)) and value.ndim == 2 and "float" in str(value.dtype):
        return torch.as_tensor(value).float()
    if backbone is None:
        raise UsageError("An image needs a backbone to become tokens; pass backbone=, or the cell's tokens [T, D].")
    if isinstance(value, (str, Path)):
        from cytosae.cells import load_image  # only a path needs the decoders

        value = load_image(Path(value))
    if isinstance(value, np.ndarray) and (value.ndim != 3 or value.dtype != np.uint8):
        raise InputError(
            f"The image has shape {value.shape} and dtype {value.dtype}; a uint8 array [height, width, 3] is needed."
        )
    with torch.no_grad():
        return backbone(backbone.prepare([value]))[0].float()


def _checked(latents: Sequence[int], sae: SparseAutoencoder) -> list[int]:
    wanted = [int(latent) for latent in latents]
    for latent in wanted:
        if not 0 <= latent < sae.d_sae:
            raise UsageError(f"There is no latent {latent}; this SAE has latents 0 to {sae.d_sae - 1}.")
    return wanted

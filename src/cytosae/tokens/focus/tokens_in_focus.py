"""The tokens of each cell that are in focus: found from the images, written down, read again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cytosae.cells.focus.patch_grid import Grid
from cytosae.common.artifact import read_artifact, write_file_artifact
from cytosae.common.configuration import from_plain
from cytosae.common.errors import InputError
from cytosae.common.progress import progress
from cytosae.common.records import reading
from cytosae.tokens.config import Focus
from cytosae.tokens.focus.part_shares import PartShares, parts_of, shares_of_table

if TYPE_CHECKING:
    from cytosae.cells import CellTable

MOSTLY = 0.5
"""Share of a patch from which on it belongs to the cell, or to the nucleus."""


@dataclass(frozen=True)
class TokensInFocus:
    """Which tokens of which cells count.

    Attributes
    ----------
    focus : {"all", "cell", "nucleus"}
        What they show.
    table : DataFrame
        Index cell_id; ``found``, False for a cell in whose image nothing was found, so that all of its tokens count;
        ``tokens``, the numbers of those that count, ascending (0 is CLS, then the patches row by row).
    """

    focus: Focus
    table: pd.DataFrame

    @property
    def not_found(self) -> list[str]:
        """Cells in whose images nothing was found."""
        return [str(cell) for cell in self.table.index[~self.table["found"].to_numpy(bool)]]

    def counted(self, cell_ids: Sequence[str], n_tokens: int) -> NDArray[np.bool_]:
        """Which of the ``n_tokens`` tokens of each of these cells count: [n, T].

        Raises
        ------
        InputError
            a cell of which nothing is known, or a token that there is not.
        """
        rows = self.table.index.get_indexer(pd.Index(list(cell_ids)))
        if (rows < 0).any():
            first = cell_ids[int(np.flatnonzero(rows < 0)[0])]
            raise InputError(f"Which tokens of cell {first[:12]} are in focus is not known; find them again.")
        lists = self.table["tokens"].to_numpy()[rows]
        positions = np.concatenate([np.zeros(0, np.int64), *lists]).astype(np.int64)
        if positions.max(initial=0) >= n_tokens:
            raise InputError(f"Token {positions.max()} is in focus, but a cell has {n_tokens}; find them again.")
        counted = np.zeros((len(rows), n_tokens), bool)
        counted[np.repeat(np.arange(len(rows)), [len(one) for one in lists]), positions] = True
        return counted


def find_tokens_in_focus(cells: CellTable, focus: Focus, grid: Grid, *, workers: int = 0) -> TokensInFocus:
    """Find the tokens of each cell that show its cell, or its nucleus.

    Parameters
    ----------
    cells : CellTable
        Their images are read; a user's masks count before what is found in the image (`find_cell`).
    focus : {"all", "cell", "nucleus"}
        See `in_focus`.
    grid : tuple of int
        Rows and columns of the patches.
    workers : int
        Processes that decode images, 0 for none.

    Raises
    ------
    InputError
        an image that cannot be read or has changed since the table was made.
    """
    found: list[bool] = []
    tokens: list[NDArray[np.uint16]] = []
    with progress(f"Finding cells of {cells.name}", len(cells), "cells") as bar:
        for shares in shares_of_table(cells, grid, workers=workers):
            for one in shares:
                counted, seen = in_focus(one, focus)
                found.append(seen)
                tokens.append(np.flatnonzero(counted).astype(np.uint16))
            bar.advance(len(shares))
    index = pd.Index([str(cell) for cell in cells.frame["cell_id"]], name="cell_id")
    return TokensInFocus(
        focus, pd.DataFrame({"found": found, "tokens": pd.Series(tokens, dtype=object)}).set_index(index)
    )


def in_focus(shares: NDArray[np.floating], focus: Focus) -> tuple[NDArray[np.bool_], bool]:
    """Which tokens of one cell count, and whether there is what they are to show.

    Parameters
    ----------
    shares : ndarray of float, shape (3, P)
        Share of each patch that is nucleus, rest of the cell, and neither.
    focus : {"all", "cell", "nucleus"}
        Patches of which at least half is the cell's, or the nucleus'; where no patch is, the one with most of it. CLS
        counts with "all" only. A cell without what is looked for keeps all of its tokens.

    Returns
    -------
    tuple of ndarray of bool, shape (1 + P,), and bool
    """
    everything = np.ones(1 + shares.shape[1], bool)
    if focus == "all":
        return everything, True
    covered = shares[0] if focus == "nucleus" else shares[0] + shares[1]
    if not covered.max(initial=0) > 0:
        return everything, False
    return np.concatenate([[False], covered >= min(MOSTLY, float(covered.max()))]), True


def image_in_focus(image: NDArray[np.uint8], focus: Focus, grid: Grid) -> NDArray[np.bool_]:
    """Which tokens [T] of an image [H, W, 3] by itself count."""
    return in_focus(PartShares(grid)([parts_of(image, None)])[0].numpy(), focus)[0]


def save_tokens_in_focus(
    found: TokensInFocus, path: Path, *, config: Any = None, inputs: Mapping[str, str] | None = None
) -> Path:
    """Write them as a Parquet artifact of kind "in_focus"; it appears at ``path`` complete or not at all."""
    counts = found.table["tokens"].map(len)
    details = {
        "focus": found.focus,
        "cells": len(found.table),
        "not_found": len(found.not_found),
        "tokens_a_cell": float(counts.mean()) if len(counts) else 0.0,
    }
    with write_file_artifact(path, "in_focus", config=config, inputs=inputs, details=details) as temporary:
        found.table.to_parquet(temporary)
    return path


def open_tokens_in_focus(path: Path | str, *, verify: bool = True) -> TokensInFocus:
    """Open what `save_tokens_in_focus` wrote; refuses another kind, a newer schema and (with ``verify``) damage."""
    artifact = read_artifact(path, "in_focus", verify=verify)
    with reading(artifact.path, "run the step again"):
        focus: Focus = from_plain(Focus, artifact.details["focus"], where="focus")
        return TokensInFocus(focus, pd.read_parquet(artifact.path, columns=["found", "tokens"]))

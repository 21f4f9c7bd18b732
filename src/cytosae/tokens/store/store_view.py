"""A token store that is read through another one: what views of a store have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cytosae.tokens.config import Focus
from cytosae.tokens.store.token_store import TokenStore

if TYPE_CHECKING:
    from pathlib import Path

    from cytosae.cells.focus.patch_grid import Grid
    from cytosae.tokens.store.encoding import Encoding, Memory
    from cytosae.tokens.store.token_store import Manifest


class StoreView(TokenStore):
    """The cells of ``store`` as they are; nothing is copied. What differs in a view is said by its class.

    Parameters
    ----------
    store : TokenStore
        Any token store.
    fingerprint : str
        Of the view.
    focus, counted : str, ndarray of bool or None
        Which tokens of the view count (`TokenStore`).
    """

    path: Path
    manifest: Manifest
    n_tokens: int
    width: int
    grid: Grid
    dtype: str
    encoding: Encoding
    fingerprint: str
    focus: Focus
    counted: NDArray[np.bool_] | None

    def __init__(self, store: TokenStore, fingerprint: str, focus: Focus, counted: NDArray[np.bool_] | None) -> None:
        # Everything is read through ``store``; only what a store says of itself is set here.
        self.path, self.manifest = store.path, store.manifest
        self.n_tokens, self.width, self.grid = store.n_tokens, store.width, store.grid
        self.dtype, self.encoding = store.dtype, store.encoding
        self.focus, self.counted, self.fingerprint = focus, counted, fingerprint
        self._store = store

    def __len__(self) -> int:
        return len(self._store)

    @property
    def cell_ids(self) -> list[str]:
        """SHA-256 of every cell's file, in the order of the rows."""
        return self._store.cell_ids

    def read_stored(self, tokens: NDArray[np.int64], into: Memory, *, at: int) -> None:
        """As `TokenStore.read_stored`."""
        self._store.read_stored(tokens, into, at=at)

"""Some of the cells of a token store, read as if they were a store of their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cytosae.common.artifact import digest
from cytosae.common.errors import InputError
from cytosae.tokens.store.store_view import StoreView

if TYPE_CHECKING:
    from cytosae.tokens.store.encoding import Memory
    from cytosae.tokens.store.token_store import TokenStore


class SelectedCells(StoreView):
    """The rows ``rows`` of ``store``, in ascending order; nothing is copied.

    Parameters
    ----------
    store : TokenStore
        Any token store.
    rows : sequence of int or ndarray of int
        Numbers of its cells, each once.

    Raises
    ------
    InputError
        no rows, or rows that the store lacks.
    """

    def __init__(self, store: TokenStore, rows: Sequence[int] | NDArray[np.integer]) -> None:
        chosen = np.unique(np.asarray(rows, np.int64))
        if not len(chosen) or chosen[0] < 0 or chosen[-1] >= len(store):
            raise InputError(f"{store.path} has {len(store)} cells; choose at least one of them, by row.")
        counted = None if store.counted is None else store.counted[chosen]
        super().__init__(store, digest([store.fingerprint, chosen.tolist()]), store.focus, counted)
        self._chosen = chosen

    def __len__(self) -> int:
        return len(self._chosen)

    @property
    def cell_ids(self) -> list[str]:
        """SHA-256 of every chosen cell's file."""
        ids = self._store.cell_ids
        return [ids[row] for row in self._chosen]

    def read_stored(self, tokens: NDArray[np.int64], into: Memory, *, at: int) -> None:
        """As `TokenStore.read_stored`, tokens counted through the chosen cells."""
        T = self.n_tokens
        self._store.read_stored(self._chosen[tokens // T] * T + tokens % T, into, at=at)

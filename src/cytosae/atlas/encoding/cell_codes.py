"""Activations of single cells of a store: encoded together where several are asked for, and held within a budget."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray

from cytosae.atlas.encoding.token_activations import encode_cells

if TYPE_CHECKING:
    from cytosae.sae import SparseAutoencoder
    from cytosae.tokens import TokenStore

CELLS_AT_ONCE = 16


class CellCodes:
    """The activations of a store's cells; whoever comes back to a cell finds it encoded.

    Parameters
    ----------
    store : TokenStore
        The cells' tokens.
    sae : SparseAutoencoder
        What encodes them.
    budget : int
        Most bytes that are held; those least recently asked for go first. 0 holds nothing.
    """

    store: TokenStore
    sae: SparseAutoencoder

    def __init__(self, store: TokenStore, sae: SparseAutoencoder, *, budget: int = 0) -> None:
        self.store, self.sae, self._budget = store, sae, budget
        self._held: OrderedDict[int, sp.csr_array] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()

    @property
    def size(self) -> int:
        """Bytes that are held now."""
        return self._size

    def of(self, row: int) -> sp.csr_array:
        """Activations (T, m) of one cell, by its row in the store; tokens that do not count have none."""
        return next(self.each([row]))[1]

    def each(self, rows: Sequence[int]) -> Iterator[tuple[int, sp.csr_array]]:
        """(row, activations (T, m)) of cells in the order asked for, encoded some at a time where they are not held."""
        for start in range(0, len(rows), CELLS_AT_ONCE):
            block = list(rows[start : start + CELLS_AT_ONCE])
            found = {row: codes for row in block if (codes := self.held(row)) is not None}
            found |= self._encode([row for row in block if row not in found])
            yield from ((row, found[row]) for row in block)

    def _encode(self, rows: list[int]) -> dict[int, sp.csr_array]:
        if not rows:
            return {}
        T = self.store.n_tokens
        tokens = torch.cat([self.store.read(row, row + 1) for row in rows])
        together = encode_cells(self.sae, tokens, None if self.store.counted is None else self.store.counted[rows])
        made = {row: together[i * T : (i + 1) * T] for i, row in enumerate(rows)}
        for row, codes in made.items():
            self._hold(row, codes)
        return made

    def held(self, row: int) -> sp.csr_array | None:
        """Activations of a cell if they are held."""
        with self._lock:
            if row in self._held:
                self._held.move_to_end(row)
            return self._held.get(row)

    def _hold(self, row: int, codes: sp.csr_array) -> None:
        with self._lock:
            if row not in self._held:
                self._size += _bytes(codes)
            self._held[row] = codes
            while self._size > self._budget and self._held:
                self._size -= _bytes(self._held.popitem(last=False)[1])


def column_of(codes: sp.csr_array, latent: int) -> NDArray[np.float32]:
    """Activations (T,) of one latent; of compressed rows this is far quicker than scipy's choice of a column."""
    column = np.zeros(len(codes.indptr) - 1, np.float32)
    places = np.flatnonzero(codes.indices == latent)
    column[np.searchsorted(codes.indptr, places, side="right") - 1] = codes.data[places]
    return column


def _bytes(codes: sp.csr_array) -> int:
    return codes.data.nbytes + codes.indices.nbytes + codes.indptr.nbytes

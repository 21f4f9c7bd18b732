"""A token store of whose tokens only those in focus count."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cytosae.common.artifact import digest
from cytosae.tokens.config import Focus
from cytosae.tokens.store.token_store import TokenStore

if TYPE_CHECKING:
    from pathlib import Path

    from cytosae.tokens.focus.tokens_in_focus import TokensInFocus
    from cytosae.tokens.store.encoding import Encoding, Memory
    from cytosae.tokens.store.token_store import Manifest


class FocusedStore(TokenStore):
    """All tokens of ``store``, and which of them count; nothing is copied.

    What is read are whole cells, as of the store itself. Training draws only tokens that count, an atlas describes
    latents on them, and maps are 0 elsewhere.

    Parameters
    ----------
    store : TokenStore
        Any token store.
    tokens : TokensInFocus
        Of its cells.

    Raises
    ------
    InputError
        a cell of the store of which nothing is known.
    """

    path: Path
    manifest: Manifest
    n_tokens: int
    width: int
    side: int
    dtype: str
    encoding: Encoding
    fingerprint: str
    focus: Focus
    counted: NDArray[np.bool_] | None

    def __init__(self, store: TokenStore, tokens: TokensInFocus) -> None:
        # Everything is read through ``store``; only what a store says of itself is set here.
        self.path, self.manifest = store.path, store.manifest
        self.n_tokens, self.width, self.side = store.n_tokens, store.width, store.side
        self.dtype, self.encoding = store.dtype, store.encoding
        counted = tokens.counted(store.cell_ids, store.n_tokens)
        self.focus, self.counted = tokens.focus, counted
        self.fingerprint = digest(
            [store.fingerprint, tokens.focus, hashlib.sha256(np.packbits(counted).tobytes()).hexdigest()]
        )
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

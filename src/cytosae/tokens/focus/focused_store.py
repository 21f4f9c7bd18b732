"""A token store of whose tokens only those in focus count."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

from cytosae.common.artifact import digest
from cytosae.tokens.store.store_view import StoreView

if TYPE_CHECKING:
    from cytosae.tokens.focus.tokens_in_focus import TokensInFocus
    from cytosae.tokens.store.token_store import TokenStore


class FocusedStore(StoreView):
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

    def __init__(self, store: TokenStore, tokens: TokensInFocus) -> None:
        counted = tokens.counted(store.cell_ids, store.n_tokens)
        packed = hashlib.sha256(np.packbits(counted).tobytes()).hexdigest()
        super().__init__(store, digest([store.fingerprint, tokens.focus, packed]), tokens.focus, counted)

from .config import ExtractConfig, Focus, ReaderConfig
from .extraction.extract import estimate, estimated_bytes, extract, recipe_for
from .extraction.stream import TokenStream
from .focus.focused_store import FocusedStore
from .focus.tokens_in_focus import (
    TokensInFocus,
    find_tokens_in_focus,
    open_tokens_in_focus,
    save_tokens_in_focus,
)
from .reading.reader import ShuffledTokens, TokenBatch, TokenReader
from .store.token_store import TokenStore, open_tokens
from .store.verification import check_store

__all__ = [
    "ExtractConfig",
    "Focus",
    "FocusedStore",
    "ReaderConfig",
    "ShuffledTokens",
    "TokenBatch",
    "TokenReader",
    "TokenStore",
    "TokenStream",
    "TokensInFocus",
    "check_store",
    "estimate",
    "estimated_bytes",
    "extract",
    "find_tokens_in_focus",
    "open_tokens",
    "open_tokens_in_focus",
    "recipe_for",
    "save_tokens_in_focus",
]

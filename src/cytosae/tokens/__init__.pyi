from .config import ExtractConfig, ReaderConfig
from .extraction.extract import estimate, estimated_bytes, extract, recipe_for
from .extraction.stream import TokenStream
from .reading.reader import ShuffledTokens, TokenBatch, TokenReader
from .store.token_store import TokenStore, open_tokens
from .store.verification import check_store

__all__ = [
    "ExtractConfig",
    "ReaderConfig",
    "ShuffledTokens",
    "TokenBatch",
    "TokenReader",
    "TokenStore",
    "TokenStream",
    "check_store",
    "estimate",
    "estimated_bytes",
    "extract",
    "open_tokens",
    "recipe_for",
]

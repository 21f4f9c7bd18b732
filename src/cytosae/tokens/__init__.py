"""Tokens: extraction, the sharded store on disk, and shuffled reading for training."""

from cytosae.tokens.checking import check_store
from cytosae.tokens.extract import ExtractConfig, estimate, estimated_bytes, extract, recipe_for
from cytosae.tokens.reader import ReaderConfig, ShuffledTokens, TokenBatch, TokenReader
from cytosae.tokens.store import TokenStore, open_tokens
from cytosae.tokens.stream import TokenStream

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

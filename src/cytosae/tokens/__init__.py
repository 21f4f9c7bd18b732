"""Tokens: extraction, the sharded store on disk, and shuffled reading for training."""

from cytosae.tokens.extraction.extract import ExtractConfig, estimate, estimated_bytes, extract, recipe_for
from cytosae.tokens.extraction.stream import TokenStream
from cytosae.tokens.reading.reader import ReaderConfig, ShuffledTokens, TokenBatch, TokenReader
from cytosae.tokens.store.token_store import TokenStore, open_tokens
from cytosae.tokens.store.verification import check_store

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

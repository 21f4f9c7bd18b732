"""Tokens: extraction, the sharded store on disk, and shuffled reading for training."""

from cytosae.tokens.extract import ExtractConfig, extract, recipe_for
from cytosae.tokens.reader import ReaderConfig, ShuffledTokens, TokenBatch, TokenReader
from cytosae.tokens.store import TokenStore, open_tokens

__all__ = [
    "ExtractConfig",
    "ReaderConfig",
    "ShuffledTokens",
    "TokenBatch",
    "TokenReader",
    "TokenStore",
    "extract",
    "open_tokens",
    "recipe_for",
]

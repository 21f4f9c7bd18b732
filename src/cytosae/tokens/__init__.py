"""Tokens: extraction, the sharded store on disk, and shuffled reading for training."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

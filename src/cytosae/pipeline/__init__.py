"""The study: one directory that holds a piece of work, and the steps that fill it."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

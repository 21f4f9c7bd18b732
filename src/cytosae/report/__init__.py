"""Self-contained HTML from views: one file that a reader can open anywhere, offline."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

"""The synthetic smear: drawn blood cells with masks, attributes and patients, deterministic by seed."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

"""The cell table (which images, of whom, labelled what), safe decoding, data-set readers, the synthetic smear."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

"""What each latent does on a data set: statistics, reference cells, maps and where they lie in the cell."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

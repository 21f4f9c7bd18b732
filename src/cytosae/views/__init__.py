"""What a page shows, as plain data that becomes JSON: pictures are references, plots are series, nothing is HTML."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

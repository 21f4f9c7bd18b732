"""Blinded reviews by experts: sessions, answers that are never lost, agreement, and the names that are accepted."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

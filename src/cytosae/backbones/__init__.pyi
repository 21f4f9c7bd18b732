from .backbone import Backbone
from .named_backbones import load_backbone
from .preprocessing import Preprocessing
from .registry import REGISTRY, BackboneEntry

__all__ = [
    "REGISTRY",
    "Backbone",
    "BackboneEntry",
    "Preprocessing",
    "load_backbone",
]

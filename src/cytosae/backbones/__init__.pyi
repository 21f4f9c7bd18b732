from .backbone import Backbone
from .known_answer import verify_answer
from .named_backbones import load_backbone
from .onnx_backbone import OnnxBackbone, export_onnx
from .preprocessing import Preprocessing
from .protocol import AnyBackbone
from .registry import REGISTRY, BackboneEntry

__all__ = [
    "REGISTRY",
    "AnyBackbone",
    "Backbone",
    "BackboneEntry",
    "OnnxBackbone",
    "Preprocessing",
    "export_onnx",
    "load_backbone",
    "verify_answer",
]

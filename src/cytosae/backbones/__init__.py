"""Vision transformers that turn images of cells into tokens: DinoBloom, any timm ViT, and the bundled tiny one."""

from __future__ import annotations

from cytosae.backbones.backbone import Backbone
from cytosae.backbones.loading import load_backbone
from cytosae.backbones.preprocessing import Preprocessing
from cytosae.backbones.registry import REGISTRY, BackboneEntry

__all__ = ["REGISTRY", "Backbone", "BackboneEntry", "Preprocessing", "load_backbone"]

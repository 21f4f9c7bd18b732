"""Vision transformers that turn images of cells into tokens: DinoBloom, any timm ViT, and the bundled tiny one."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

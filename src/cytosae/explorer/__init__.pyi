from .app import create_app
from .explorer_settings import ExplorerSettings
from .library import Library

__all__ = ["ExplorerSettings", "Library", "create_app"]

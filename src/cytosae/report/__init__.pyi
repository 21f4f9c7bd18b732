from .pages import render, write_page
from .pictures import Pictures

__all__ = ["Pictures", "render", "write_page"]

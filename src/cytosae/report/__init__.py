"""Self-contained HTML from views: one file that a reader can open anywhere, offline."""

from __future__ import annotations

from cytosae.report.pages import render, write_page
from cytosae.report.pictures import Pictures

__all__ = ["Pictures", "render", "write_page"]

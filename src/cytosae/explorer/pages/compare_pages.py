"""Two data sets side by side: the report's comparison, shown here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import FastAPI, Query, Request
from fastapi.responses import Response

from cytosae.common.errors import UsageError
from cytosae.explorer.answering import Pages
from cytosae.explorer.library import Library
from cytosae.views.comparison_view import ComparisonView

pages = Pages()
Name = Annotated[str, Query(max_length=200)]


@dataclass(frozen=True)
class ComparePage:
    """What can be compared, and the comparison of ``a`` and ``b`` where both are named."""

    datasets: tuple[str, ...]
    a: str = ""
    b: str = ""
    comparison: ComparisonView | None = None


@pages.add("/compare", "compare.html.j2")
def compare(library: Library, a: Name = "", b: Name = "") -> ComparePage:
    """Two data sets of the study: latents on both, on one only, and cells that are unusual."""
    names = tuple(library.names)
    if not (a and b):
        return ComparePage(names, a, b)
    if a == b:
        raise UsageError("Name two different data sets.")
    return ComparePage(names, a, b, library.comparison(a, b))


def add_style(app: FastAPI) -> None:
    """Give the app the report's style, for what it shows of the report."""
    app.get("/report.css", include_in_schema=False)(style)


def style(request: Request) -> Response:
    """The style of the report, inside ``.report``."""
    from cytosae.report.pages import page_style

    del request
    return Response(page_style(".report"), media_type="text/css", headers={"cache-control": "private, max-age=3600"})

"""Side by side: two data sets, two SAEs on the same cells, two patients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import FastAPI, Query, Request
from fastapi.responses import Response

from cytosae.common.errors import CytosaeError, UsageError
from cytosae.explorer.answering import Pages
from cytosae.explorer.library import Library
from cytosae.views.datasets.comparison_view import ComparisonView, MatchedPair
from cytosae.views.patients.two_patients_view import TwoPatients, view_of_two_patients

pages: Pages = Pages()
Name = Annotated[str, Query(max_length=200)]


@dataclass(frozen=True)
class ComparePage:
    """What can be compared, and the comparison of ``a`` and ``b`` where both are named.

    ``comparison`` is of two data sets or SAEs, of the latter with the most alike ``pairs``; ``two`` is of two patients.
    """

    datasets: tuple[str, ...]
    patients: tuple[str, ...] = ()
    a: str = ""
    b: str = ""
    comparison: ComparisonView | None = None
    pairs: tuple[MatchedPair, ...] = ()
    two: TwoPatients | None = None


@pages.add("/compare", "compare.html.j2")
def compare(library: Library, a: Name = "", b: Name = "") -> ComparePage:
    """Two data sets or SAEs: latents on both, on one only, pairs of latents; or two patients: what tells them apart."""
    names, patients = (*library.names, *library.beside), _patients(library)
    if not (a and b):
        return ComparePage(names, patients, a, b)
    if a == b:
        raise UsageError("Name two different data sets, or two different patients.")
    if a in patients and b in patients and not {a, b} & set(names):
        found = library.patients()
        two = view_of_two_patients(
            library.atlas(found.dataset),
            found.barcodes,
            a,
            b,
            classifier=found.classifier(),
            column=found.config.patient,
        )
        return ComparePage(names, patients, a, b, two=two)
    comparison, pairs = library.comparison(a, b)
    return ComparePage(names, patients, a, b, comparison, pairs)


def _patients(library: Library) -> tuple[str, ...]:
    try:
        return tuple(sorted(library.patients().barcodes.obs_names.astype(str)))
    except CytosaeError:
        return ()


def add_style(app: FastAPI) -> None:
    """Give the app the report's style, for what it shows of the report."""
    app.get("/report.css", include_in_schema=False)(style)


def style(request: Request) -> Response:
    """The style of the report, inside ``.report``."""
    from cytosae.report.pages import page_style

    del request
    return Response(page_style(".report"), media_type="text/css", headers={"cache-control": "private, max-age=3600"})

"""Views become HTML: one self-contained file for each, pictures and plots drawn at the last moment."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from cytosae.common.artifact import package_version, write_file_artifact
from cytosae.common.errors import UsageError
from cytosae.report.drawing import plot_uri
from cytosae.report.pictures import LARGE, SMALL, Pictures, colour_bar_uri
from cytosae.report.templating import make_environment, read_template
from cytosae.views import AtlasView, CohortView, ComparisonView, DiseaseView, ImageView, PatientView, StudyView
from cytosae.views.datasets.names_view import NamesView
from cytosae.views.datasets.pairs_view import PairsView
from cytosae.views.datasets.quality_view import QualityView
from cytosae.views.datasets.suppression_view import SuppressionView
from cytosae.views.parts.page_parts import Page
from cytosae.views.patients.validation_view import ValidationView

PAGES: dict[type[Page], str] = {
    StudyView: "study.html.j2",
    AtlasView: "atlas.html.j2",
    ComparisonView: "comparison.html.j2",
    QualityView: "quality.html.j2",
    SuppressionView: "suppression.html.j2",
    NamesView: "names.html.j2",
    PairsView: "pairs.html.j2",
    ImageView: "image.html.j2",
    CohortView: "cohort.html.j2",
    DiseaseView: "disease.html.j2",
    PatientView: "patient.html.j2",
    ValidationView: "validation.html.j2",
}
"""View -> template; a further page is one more line."""

Links = Mapping[tuple[str, str], str]
"""(kind, name) of a page, such as ("patient", "P03") -> its path relative to the page that is written."""


def write_page(
    out: Path,
    view: Page,
    pictures: Pictures,
    *,
    links: Links | None = None,
    created: datetime.datetime | None = None,
    config: Any = None,
    inputs: Mapping[str, str] | None = None,
) -> Path:
    """Write a view as an artifact of kind "report", whole or not at all.

    ``links`` lead to pages beside this one; ``created`` is the time shown; ``config`` and ``inputs`` are recorded, by
    default the fingerprints that the view was made from.
    """
    html = render(view, pictures, links=links, created=created)
    made_from = {made.name: made.fingerprint for made in view.made_from}
    with write_file_artifact(out, "report", config=config, inputs=inputs or made_from) as temporary:
        temporary.write_text(html, encoding="utf-8")
    return out


def render(
    view: Page,
    pictures: Pictures,
    *,
    links: Links | None = None,
    created: datetime.datetime | None = None,
    embedded: bool = False,
) -> str:
    """HTML of a view that holds everything it shows and loads nothing from elsewhere.

    ``embedded`` is what stands below the head alone, to be shown inside another page (`page_style` is its style).
    """
    created = created or datetime.datetime.now(datetime.UTC)
    checked = {name: relative_link(link) for name, link in (links or {}).items()}
    return (
        _environment()
        .get_template(PAGES[type(view)])
        .render(
            view=view,
            pictures=pictures,
            links=checked,
            created=f"{created.day} {created:%B %Y}",
            package=package_version(),
            embedded=embedded,
            css=Markup(resource("page.css")),  # noqa: S704  our own file
            colour_bar=colour_bar_uri(),
            named=isinstance(view, (StudyView, AtlasView)),  # names of files; pages of patients hold none
        )
    )


def page_style(within: str) -> str:
    """The style of pages, for what stands inside the element that the selector ``within`` names."""
    return f"{within} {{\n{resource('page.css')}\n}}\n"


def relative_link(link: str) -> str:
    """``link`` itself, where it leads to a page beside this one; a page must work wherever its folder is moved."""
    if not link or link.startswith(("/", "\\")) or ":" in link or "\\" in link:
        raise UsageError(f"The link {link!r} is not relative; give the other page's path relative to this one.")
    return link


def resource(name: str) -> str:
    """Text of a file in ``report/templates``."""
    return read_template("cytosae.report", name)


@cache
def _environment() -> jinja2.Environment:
    """Templates of this package, with what draws."""
    environment = make_environment("cytosae.report")
    environment.globals |= {"plot_uri": plot_uri, "SMALL": SMALL, "LARGE": LARGE, "exact": repr}
    return environment

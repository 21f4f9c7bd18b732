"""Assembles the report: numbers into words, everything into one self-contained HTML file."""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import jinja2
from markupsafe import Markup

from cytosae.common.artifact import package_version, write_file_artifact
from cytosae.common.errors import UsageError
from cytosae.report import figures
from cytosae.report.content import DatasetReport, DatasetView, dataset_views
from cytosae.report.findings import localisation_view

if TYPE_CHECKING:
    from cytosae.atlas import Localisation
    from cytosae.sae import SparseAutoencoder

THIN = "\u202f"
"""Narrow no-break space: between thousands, and between a number and its unit."""


def write_report(
    out: Path,
    *,
    datasets: Sequence[DatasetReport],
    sae: SparseAutoencoder,
    sae_summary: Mapping[str, Any],
    backbone: Mapping[str, Any],
    localisation: Localisation | None = None,
    wall_times: Mapping[str, float] | None = None,
    trained_on: Sequence[str] = (),
    title: str = "Concepts of a sparse autoencoder",
    concepts: int = 40,
    created: datetime.datetime | None = None,
    config: Any = None,
    inputs: Mapping[str, str] | None = None,
) -> Path:
    """Write one HTML file that holds everything it shows: pictures, maps, plots and numbers.

    Parameters
    ----------
    out : path of the file, an artifact of kind "report"
    datasets : a section each, in this order
    sae : computes the maps; its description is shown
    sae_summary : measured figures, see `SAE_FACTS` for the names that are known; others are left out
    backbone : `Backbone.describe()`
    localisation : agreement with masks, where there are any
    wall_times : step -> seconds
    trained_on : names of the data sets that the SAE was trained on; empty: not said
    title : headline
    concepts : concepts in the gallery of each data set
    created : time shown, now where None
    config, inputs : recorded in the artifact

    Raises
    ------
    UsageError
        no data set is given.
    """
    if not datasets:
        raise UsageError("A report needs at least one data set; give the atlas of one.")
    views = dataset_views(datasets, sae, concepts=concepts)
    created = created or datetime.datetime.now(datetime.UTC)
    context = {
        "title": title,
        "package": package_version(),
        "created": f"{created.day} {created:%B %Y}",
        "css": Markup(resource("report.css")),  # noqa: S704  our own file
        "totals": _totals(views),
        "tiles": _tiles(views, sae_summary),
        "sae": sae,
        "sae_facts": _facts(SAE_FACTS, {**sae.describe(), **sae_summary}),
        "variance_note": _variance_note(sae_summary),
        "backbone": SimpleNamespace(name=backbone.get("name")),
        "backbone_facts": _facts(BACKBONE_FACTS, backbone),
        "wall_times": list((wall_times or {}).items()),
        "trained_on": list(trained_on),
        "localisation": localisation_view(localisation, datasets, sae) if localisation is not None else None,
        "datasets": views,
        "side": datasets[0].store.side,
        "colour_bar": figures.colour_bar_uri(),
        "provenance": _provenance(datasets),
    }
    html = render("report.html.j2", context)
    inputs = inputs or {f"atlas/{d.name}": str(d.atlas.uns["provenance"]["tokens"]) for d in datasets}
    with write_file_artifact(out, "report", config=config, inputs=inputs) as temporary:
        temporary.write_text(html, encoding="utf-8")
    return out


def render(template: str, context: Mapping[str, Any]) -> str:
    """HTML of a template of this package; every value is escaped unless it is marked as safe."""
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(resource),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "percent": percent, "whole": whole, "duration": duration}
    return environment.get_template(template).render(context)


def resource(name: str) -> str:
    """Text of a file in ``report/templates``."""
    return (files("cytosae.report") / "templates" / name).read_text(encoding="utf-8")


def number(value: float | None, digits: int = 3) -> str:
    """``digits`` significant digits, powers of ten as the eye reads them: 0.0123, 1.2 × 10⁻⁵; an en dash for NaN."""
    if value is None or not math.isfinite(value):
        return "–"
    if value == 0:
        return "0"
    exponent = math.floor(math.log10(abs(value)))
    if -4 < exponent < 5:
        places = max(digits - 1 - exponent, 0)
        text = f"{value:,.{places}f}".replace(",", THIN)
    else:
        power = str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
        text = f"{value / 10**exponent:.{digits - 1}f}{THIN}×{THIN}10{power}"
    return text.replace("-", "−")


def percent(value: float | None) -> str:
    """A share as a percentage: 12.3 %."""
    if value is None or not math.isfinite(value):
        return "–"
    shown = 100 * value
    if 0 < shown < 0.01:
        return f"<{THIN}0.01{THIN}%"
    places = 0 if abs(shown) >= 99.95 or shown == 0 else 1 if abs(shown) >= 1 else 2
    return f"{shown:,.{places}f}{THIN}%".replace(",", THIN).replace("-", "−")


def whole(value: float | None) -> str:
    """A count with thin spaces between thousands."""
    return "–" if value is None or not math.isfinite(value) else f"{value:,.0f}".replace(",", THIN)


def duration(seconds: float) -> str:
    """Seconds, or minutes and seconds."""
    if seconds < 60:
        return f"{seconds:.1f}{THIN}s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}{THIN}h {minutes}{THIN}min" if hours else f"{minutes}{THIN}min {rest}{THIN}s"


SAE_FACTS = {
    "sparsity": ("Variant", "choice"),
    "normalisation": ("Normalisation of tokens", "choice"),
    "d_sae": ("Latents", "whole"),
    "d_in": ("Width of a token", "whole"),
    "l0": ("L0, active latents per token", "number"),
    "explained_variance": ("Explained variance", "percent"),
    "variance_of_positions": ("… by the means of positions alone", "percent"),
    "explained_variance_after_position": ("… of what these leave", "percent"),
    "explained_variance_whitened": ("… of whitened tokens", "percent"),
    "mse": ("Mean squared error", "number"),
    "dead_share": ("Dead latents", "percent"),
    "n_tokens": ("Tokens evaluated", "whole"),
    "steps": ("Training steps", "whole"),
    "tokens_seen": ("Tokens seen in training", "whole"),
}
"""Name in the summary -> words and format."""

BACKBONE_FACTS = {
    "name": ("Name", "text"),
    "architecture": ("Architecture", "text"),
    "width": ("Width of a token", "whole"),
    "side": ("Patches on a side", "whole"),
    "block": ("Block whose output is taken", "text"),
    "depth": ("Blocks", "whole"),
    "image_size": ("Input, pixels on a side", "whole"),
    "licence": ("Licence of the weights", "text"),
    "weights_hash": ("Weights, SHA-256", "text"),
}


def _facts(known: Mapping[str, tuple[str, str]], values: Mapping[str, Any]) -> list[tuple[str, str]]:
    formats = {"whole": whole, "number": number, "percent": percent, "text": str, "choice": _choice}
    return [
        (words, formats[kind](values[name])) for name, (words, kind) in known.items() if values.get(name) is not None
    ]


def _choice(value: Any) -> str:
    """A plain dataclass ({"type": "TopK", "k": 32}) in words: TopK (k 32)."""
    if not isinstance(value, Mapping):
        return str(value)
    words = {True: "yes", False: "no"}
    rest = ", ".join(
        f"{key.replace('_', ' ')} {words[v] if isinstance(v, bool) else v}"
        for key, v in value.items()
        if key != "type" and v is not None
    )
    return f"{value.get('type', '')} ({rest})" if rest else str(value.get("type", ""))


def _tiles(views: Sequence[DatasetView], summary: Mapping[str, Any]) -> list[dict[str, str]]:
    tiles = []
    if summary.get("l0") is not None:
        tiles.append({"value": number(summary["l0"]), "label": "latents active per token (L0)"})
    if summary.get("explained_variance") is not None:
        tiles.append({"value": percent(summary["explained_variance"]), "label": "of the tokens' variance explained"})
    if summary.get("explained_variance_after_position") is not None:
        value = percent(summary["explained_variance_after_position"])
        tiles.append({"value": value, "label": "explained of what positions leave"})
    dead = summary.get("dead_share")
    if dead is not None:
        tiles.append({"value": percent(dead), "label": "of the latents dead"})
    tiles.append({"value": whole(sum(len(view.concepts) for view in views)), "label": "concepts shown"})
    return tiles


def _variance_note(summary: Mapping[str, Any]) -> str:
    share = summary.get("variance_of_positions")
    if share is None or summary.get("explained_variance") is None:
        return ""
    return (
        "Read the explained variance beside this: the means of positions, the same for every cell, make up "
        f"{percent(share)} of the tokens' variance, and say nothing about cells."
    )


def _totals(views: Sequence[DatasetView]) -> dict[str, int]:
    return {
        "cells": sum(view.n_cells for view in views),
        "skipped": sum(len(view.skipped) for view in views),
        "duplicates": sum(view.n_duplicates for view in views),
    }


def _provenance(datasets: Sequence[DatasetReport]) -> list[tuple[str, str]]:
    first = datasets[0].atlas.uns["provenance"]
    rows = [("SAE", str(first["sae"]))]
    for dataset in datasets:
        provenance = dataset.atlas.uns["provenance"]
        rows += [(f"{dataset.name}, {kind}", str(provenance[kind])) for kind in ("cells", "tokens")]
    return rows

"""``cytosae compare``: atlases of one SAE on different cells, or of different SAEs on the same."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from cytosae.cli.output import Json, Output
from cytosae.common.errors import UsageError
from cytosae.pipeline.places import atlases_below

if TYPE_CHECKING:
    from cytosae.views import ComparisonView, OpenedAtlas

PAIRS_SHOWN = 10


def compare(
    first: Path,
    /,
    *others: Path,
    out: Path | None = None,
    unreconstructed: Annotated[bool, Parameter(negative="")] = False,
    as_json: Json = False,
) -> None:
    """Compare atlases: latents shared and specific, cell types carried over, unusual cells; or which latent is which.

    With one SAE the first atlas is compared with each of the others. With two different SAEs on the same cells, latents
    are paired by what they do on these cells; where both SAEs are at hand, in studies with the same backbone, by
    direction, too.

    Parameters
    ----------
    first
        An atlas, FILE.h5ad, or a study: all of its atlases.
    others
        Further atlases or studies.
    out
        Folder for a page of each comparison and a table of its latents.
    unreconstructed
        Also measure the share of the norm of cells' tokens that is not reconstructed; needs the tokens of the studies.
    """
    from cytosae.atlas import open_atlas, open_cells
    from cytosae.views import OpenedAtlas

    output = Output(as_json=as_json)
    paths = [path for given in (first, *others) for path in atlases_of(given)]
    if len(paths) < 2:
        raise UsageError("a comparison needs two atlases; name another one, or a study with two data sets.")
    opened = []
    for path in paths:
        one = open_atlas(path, backed="r")
        opened.append(OpenedAtlas(one, open_cells(path, one.uns["provenance"]["dataset"])))
    results = []
    for path, other in zip(paths[1:], opened[1:], strict=True):
        places = (paths[0], path)
        if _sae(opened[0]) == _sae(other):
            results.append(_carried(opened[0], other, places, output, out, unreconstructed=unreconstructed))
        else:
            results.append(_matched(opened[0], other, places, output, out))
    output.result(comparisons=results)
    output.finish()


def atlases_of(path: Path) -> list[Path]:
    """The atlas at a path, or all atlases of a study."""
    if path.is_dir() and path.suffix != ".zarr":
        found = atlases_below(path)
        if not found:
            raise UsageError(f"{path} has no atlas; make one with: cytosae atlas --study {path}.")
        return found
    return [path]


def _sae(one: OpenedAtlas) -> str:
    return str(one.atlas.uns["provenance"]["sae"])


def _carried(
    a: OpenedAtlas,
    b: OpenedAtlas,
    places: tuple[Path, Path],
    output: Output,
    out: Path | None,
    *,
    unreconstructed: bool,
) -> dict[str, Any]:
    from cytosae.atlas import compare_atlases
    from cytosae.views import view_of_comparison

    found = compare_atlases(a.atlas, b.atlas)
    shares = {}
    if unreconstructed:
        shares = {one.name: _unreconstructed(place) for one, place in zip((a, b), places, strict=True)}
    view = view_of_comparison(found, a, b, unreconstructed=shares)
    page = _show(view, a, b, output, out)
    if out is not None:
        found.table.to_csv(out / f"{view.a}_{view.b}.csv")
    return {"names": found.names, **found.figures, "unreconstructed": shares, "page": page}


def _matched(
    a: OpenedAtlas, b: OpenedAtlas, places: tuple[Path, Path], output: Output, out: Path | None
) -> dict[str, Any]:
    import cytosae
    from cytosae.atlas import match_directions, match_profiles
    from cytosae.atlas.comparing.matching import COMMON_CELLS
    from cytosae.views import view_of_matching

    found = {}
    saes = [place.parent.parent / "sae" for place in places]
    backbones = {str(one.atlas.uns["provenance"]["backbone"]) for one in (a, b)}
    if all(sae.is_dir() for sae in saes) and len(backbones) == 1:
        found["cosine of directions"] = match_directions(*(cytosae.load_sae(sae) for sae in saes))
    if not found or len(a.atlas.obs_names.intersection(b.atlas.obs_names)) >= COMMON_CELLS:
        found = {"correlation over cells": match_profiles(a.atlas, b.atlas), **found}
    view = view_of_matching(found, a, b)
    page = _show(view, a, b, output, out)
    for words, matching in found.items():
        if out is not None:
            matching.table.to_csv(out / f"{view.a}_{view.b}_{words.split()[0]}.csv", index=False)
    pairs = next(iter(found.values())).table.head(PAIRS_SHOWN)
    output.table(["a", "b", "likeness"], pairs.to_numpy(dtype=object).tolist(), title="Most alike")
    figures = {words: {"mean": one.mean, "by_chance": one.by_chance} for words, one in found.items()}
    return {"names": (view.a, view.b), "matched": figures, "page": page}


def _unreconstructed(place: Path) -> tuple[float, float]:
    """Median and 99th percentile of the cells of a study's data set."""
    import numpy as np

    import cytosae
    from cytosae.atlas.encoding.unreconstructed import unreconstructed_shares

    study = place.parent.parent
    tokens = study / "tokens" / place.stem
    if not tokens.is_dir():
        raise UsageError(f"{place} lies beside no tokens; leave --unreconstructed out, or name the study.")
    shares = unreconstructed_shares(cytosae.load_sae(study / "sae"), cytosae.open_tokens(tokens))
    return float(np.median(shares)), float(np.quantile(shares, 0.99))


def _show(view: ComparisonView, a: OpenedAtlas, b: OpenedAtlas, output: Output, out: Path | None) -> Path | None:
    """Print the sentence and the numbers; write the page."""
    from cytosae.report import Pictures, write_page
    from cytosae.views.parts.page_parts import say

    output.line(view.head.verdict)
    rows = [
        [fact.words, say(fact.value, fact.shown), "" if fact.control is None else say(fact.control, fact.shown)]
        for fact in dict.fromkeys((*view.tiles, *view.facts))
    ]
    output.table(["", "", "control"], rows, title=f"{view.a} and {view.b}")
    if out is None:
        return None
    page = write_page(out / f"{view.a}_{view.b}.html", view, Pictures([a.cells, b.cells]))
    output.line(f"With pictures: {page}")
    return page

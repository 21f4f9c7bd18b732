"""The study at a glance: what came of it, the concepts of each data set, and what was run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cytosae.common.errors import UsageError
from cytosae.views.datasets.dataset_view import DatasetView, view_of_dataset
from cytosae.views.datasets.localisation_view import LocalisationView, view_of_localisation
from cytosae.views.parts.number_words import count, number, percent, whole
from cytosae.views.parts.opened_dataset import OpenedDataset
from cytosae.views.parts.page_parts import Fact, Head, MadeFrom, Page, Shown, Table, define, facts_of
from cytosae.views.reporting import answers_of_study, reporting_table

if TYPE_CHECKING:
    from cytosae.atlas import Localisation

SAE_FACTS: dict[str, tuple[str, Shown]] = {
    "sparsity": ("Variant", "text"),
    "focus": ("Tokens that count", "text"),
    "normalisation": ("Normalisation of tokens", "text"),
    "d_sae": ("Latents", "count"),
    "d_in": ("Width of a token", "count"),
    "l0": ("L0, active latents per token", "number"),
    "explained_variance": ("Explained variance", "percent"),
    "variance_of_positions": ("… by the means of positions alone", "percent"),
    "explained_variance_after_position": ("… of what these leave", "percent"),
    "explained_variance_whitened": ("… of whitened tokens", "percent"),
    "mse": ("Mean squared error", "number"),
    "dead_share": ("Dead latents", "percent"),
    "n_tokens": ("Tokens evaluated", "count"),
    "steps": ("Training steps", "count"),
    "tokens_seen": ("Tokens seen in training", "count"),
}
"""Name in the summary -> words, and how it is printed."""

BACKBONE_FACTS: dict[str, tuple[str, Shown]] = {
    "name": ("Name", "text"),
    "architecture": ("Architecture", "text"),
    "width": ("Width of a token", "count"),
    "side": ("Rows × columns of patches", "text"),
    "block": ("Block whose output is taken", "text"),
    "depth": ("Blocks", "count"),
    "image_size": ("Input, pixels on a side", "count"),
    "licence": ("Licence of the weights", "text"),
    "weights_hash": ("Weights, SHA-256", "text"),
}

TILES: dict[str, tuple[str, Shown]] = {
    "l0": ("latents active per token (L0)", "number"),
    "explained_variance": ("of the tokens' variance explained", "percent"),
    "explained_variance_after_position": ("explained of what positions leave", "percent"),
    "dead_share": ("of the latents dead", "percent"),
}

WORDS = (
    *("Token", "Mean activation of a cell", "Cells active", "Mean activation", "Reference cells", "Label entropy"),
    *("Class selectivity", "Position dependence", "Central share", "Usefulness", "Explained variance", "L0"),
)
"""Words that are defined on the page."""

NOTICE = (
    "Research use, not a diagnosis.",
    "A concept is a latent of a model and what its strongest cells have in common. Nobody has validated what is shown "
    "here for clinical decisions, and a picture that looks convincing is not evidence that a concept is right.",
)


@dataclass(frozen=True, kw_only=True)
class StudyView(Page):
    """A study at a glance: its data sets with their concepts, agreement with masks, and how all of it was made."""

    datasets: tuple[DatasetView, ...]
    localisation: LocalisationView | None
    trained_on: tuple[str, ...]
    sae: tuple[Fact, ...]
    backbone: tuple[Fact, ...]
    times: tuple[Fact, ...]
    reporting: Table


def view_of_study(
    datasets: Sequence[OpenedDataset],
    *,
    summary: Mapping[str, Any],
    localisation: Localisation | None = None,
    times: Mapping[str, float] | None = None,
    trained_on: Sequence[str] = (),
    title: str = "Concepts of a sparse autoencoder",
    concepts: int = 40,
) -> StudyView:
    """Gather a study.

    ``summary`` holds measured figures of the SAE (`SAE_FACTS` names those that are known), ``localisation`` the
    agreement with masks, ``times`` the seconds of each step, ``trained_on`` the data sets that the SAE was trained on
    (empty: not said); ``concepts`` are shown of each data set.

    Raises
    ------
    UsageError
        No data set is given.
    """
    if not datasets:
        raise UsageError("A report needs at least one data set; give the atlas of one.")
    first = datasets[0]
    views = tuple(view_of_dataset(one, concepts, [other for other in datasets if other is not one]) for one in datasets)
    backbone, grid = first.store.manifest["backbone"], "{} × {}".format(*first.store.grid)
    described = {name: _choice(value) for name, value in {**first.sae.describe(), **summary}.items()}
    return StudyView(
        head=Head(
            kicker="Concepts of single blood cells",
            title=title,
            byline=(
                f"{count(sum(view.cells for view in views), 'cell')} from {count(len(views), 'data set')} · "
                f"{whole(first.sae.d_sae)} latents on {backbone.get('name') or 'unnamed backbone'} tokens"
            ),
            verdict=_verdict(summary, first.sae.d_sae),
            warnings=_warnings(summary),
            notice=NOTICE,
        ),
        datasets=views,
        localisation=view_of_localisation(localisation, datasets) if localisation is not None else None,
        tiles=_tiles(views, summary),
        trained_on=tuple(trained_on),
        sae=facts_of(described, SAE_FACTS),
        backbone=facts_of({**backbone, "side": grid}, BACKBONE_FACTS),
        times=tuple(Fact(step, float(seconds), "seconds") for step, seconds in (times or {}).items()),
        reporting=reporting_table("study", answers_of_study(datasets, views, summary, trained_on)),
        definitions=define(*WORDS, grid=grid),
        made_from=_made_from(datasets),
    )


def _verdict(summary: Mapping[str, Any], d_sae: int) -> str:
    explained, l0 = summary.get("explained_variance"), summary.get("l0")
    if explained is None or l0 is None:
        return f"A dictionary of {whole(d_sae)} latents describes these cells."
    return (
        f"With {number(l0)} of {whole(d_sae)} latents active on each token, the dictionary explains "
        f"{percent(explained)} of the variance of the tokens."
    )


def _warnings(summary: Mapping[str, Any]) -> tuple[str, ...]:
    share = summary.get("variance_of_positions")
    if share is None or summary.get("explained_variance") is None:
        return ()
    return (
        f"The means of positions, the same for every cell, make up {percent(share)} of that variance, and say nothing "
        "about cells.",
    )


def _tiles(views: Sequence[DatasetView], summary: Mapping[str, Any]) -> tuple[Fact, ...]:
    skipped, copies = sum(view.skipped_files for view in views), sum(view.duplicates for view in views)
    out = f"; {count(skipped, 'file')} skipped, {count(copies, 'duplicate')} left out" if skipped or copies else ""
    cells = Fact(f"cells used{out}", sum(view.cells for view in views), "count")
    shown = Fact("concepts shown", sum(len(view.concepts) for view in views), "count")
    return (cells, *facts_of(summary, TILES), shown)


def _choice(value: Any) -> Any:
    """A plain dataclass ({"type": "TopK", "k": 32}) in words: TopK (k 32)."""
    if not isinstance(value, Mapping):
        return value
    words = {True: "yes", False: "no"}
    rest = ", ".join(
        f"{key.replace('_', ' ')} {words[v] if isinstance(v, bool) else v}"
        for key, v in value.items()
        if key != "type" and v is not None
    )
    return f"{value.get('type', '')} ({rest})" if rest else str(value.get("type", ""))


def _made_from(datasets: Sequence[OpenedDataset]) -> tuple[MadeFrom, ...]:
    """The SAE once, cells and tokens of each data set."""
    made = [
        MadeFrom(one.name if one.name == "sae" else f"{one.name}/{dataset.name}", one.fingerprint)
        for dataset in datasets
        for one in dataset.made_from
    ]
    return tuple(dict.fromkeys(made))

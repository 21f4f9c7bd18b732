"""What the report says: numbers, pictures and sentences gathered from atlases, cell tables and token stores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cytosae.atlas.concept_choice import select_concepts, usefulness
from cytosae.atlas.maps import reference_maps
from cytosae.atlas.matrix import stored_entries
from cytosae.cells import load_image
from cytosae.common.errors import CytosaeError
from cytosae.common.progress import progress
from cytosae.report import figures

if TYPE_CHECKING:
    from anndata import AnnData

    from cytosae.cells import CellTable
    from cytosae.sae import SparseAutoencoder
    from cytosae.tokens import TokenStore

CARRIED = 3
"""Reference cells shown of a concept on each other data set."""


@dataclass(frozen=True)
class DatasetReport:
    """One data set of the report: its atlas, its cell table, and the tokens that the maps are computed from."""

    atlas: AnnData
    cells: CellTable
    store: TokenStore

    @property
    def name(self) -> str:
        """Name of the data set."""
        return self.cells.name


@dataclass(frozen=True)
class ReferenceView:
    """A reference cell as shown: two pictures (``data:`` addresses), its label, its mean activation and where it is."""

    picture: str
    overlay: str
    label: str | None
    value: float
    cell_id: str
    image: str


@dataclass(frozen=True)
class CarriedView:
    """How a concept does on another data set; ``cells_active`` 0 where it never fires there."""

    dataset: str
    cells_active: int
    activation_frequency: float
    mean_activation: float
    label_entropy: float
    top_class: str | None
    references: list[ReferenceView]


@dataclass(frozen=True)
class ConceptView:
    """One concept of a gallery; the numbers are columns of the atlas (docs/atlas.md)."""

    latent: int
    rank: int
    headline: str
    usefulness: float
    activation_frequency: float
    cells_active: int
    token_frequency: float
    mean_activation: float
    max_token_activation: float
    label_entropy: float
    class_selectivity: float
    position_dependence: float
    central_share: float
    profile: str
    references: list[ReferenceView]
    carried: list[CarriedView]


@dataclass(frozen=True)
class DatasetView:
    """One data set as shown."""

    name: str
    anchor: str
    n_cells: int
    n_labelled: int
    n_patients: int
    layout: str
    classes: list[tuple[str, int]]
    skipped: list[tuple[str, str]]
    n_duplicates: int
    conflicts: list[tuple[str, str, str, str]]
    alive: int
    n_latents: int
    median_active: float
    median_entropy: float
    plot: str
    concepts: list[ConceptView]


def dataset_views(datasets: Sequence[DatasetReport], sae: SparseAutoencoder, *, concepts: int) -> list[DatasetView]:
    """Gather every data set with a gallery of its ``concepts`` most useful latents."""
    chosen = [select_concepts(dataset.atlas, concepts) for dataset in datasets]
    galleries = [Pictures(dataset, sae) for dataset in datasets]
    everywhere = sorted({latent for latents in chosen for latent in latents})
    with progress("Drawing concepts", total=sum(map(len, chosen)), unit="concepts") as bar:
        for pictures, own in zip(galleries, chosen, strict=True):
            pictures.prepare({latent: None if latent in own else CARRIED for latent in everywhere})
        views = []
        for i, dataset in enumerate(datasets):
            scores = usefulness(dataset.atlas)["usefulness"].to_numpy(float)
            shown = []
            for rank, latent in enumerate(chosen[i], start=1):
                carried = [_carried(galleries[j], latent) for j in range(len(datasets)) if j != i]
                shown.append(
                    _concept(
                        galleries[i], latent, rank, float(scores[dataset.atlas.var_names.get_loc(str(latent))]), carried
                    )
                )
                bar.advance()
            views.append(_dataset(dataset, i, shown))
    return views


class Pictures:
    """Thumbnails and maps of one data set, each cell decoded and encoded once."""

    dataset: DatasetReport
    sae: SparseAutoencoder
    var: Any
    reference: Any
    row_of_cell: dict[str, int]

    def __init__(self, dataset: DatasetReport, sae: SparseAutoencoder) -> None:
        self.dataset, self.sae = dataset, sae
        self.var = pd.DataFrame(dataset.atlas.var)
        self.reference = dataset.atlas.uns["reference_cells"]
        self.row_of_cell = {cell: row for row, cell in enumerate(dataset.cells.frame["cell_id"])}
        self.maps: dict[tuple[int, int], NDArray[np.float32]] = {}
        self.thumbnails: dict[int, NDArray[np.uint8]] = {}

    def prepare(self, latents: dict[int, int | None]) -> None:
        """Compute the maps of latents' reference cells (so many of each; None for all)."""
        pairs = [(row, latent) for latent, n in latents.items() for row in self._rows(latent)[:n]]
        self.maps = reference_maps(self.dataset.store, pairs, sae=self.sae)

    def views(self, latent: int, n: int | None = None, *, size: int = figures.THUMBNAIL) -> list[ReferenceView]:
        """The latent's reference cells; their maps share one scale, full at the 98th percentile of active patches."""
        rows = self._rows(latent)[:n]
        active = np.concatenate([self.maps[row, latent].ravel() for row in rows]) if rows else np.zeros(0)
        top = float(np.quantile(active[active > 0], 0.98)) if (active > 0).any() else 0.0
        values = self.reference["values"][latent]
        return [self._view(row, latent, float(values[k]), top, size) for k, row in enumerate(rows)]

    def _rows(self, latent: int) -> list[int]:
        return [int(row) for row in self.reference["rows"][latent] if row >= 0]

    def _view(self, row: int, latent: int, value: float, top: float, size: int) -> ReferenceView:
        atlas, cells = self.dataset.atlas, self.dataset.cells
        cell_id = str(atlas.obs_names[row])
        picture = figures.thumbnail(self._thumbnail(self.row_of_cell[cell_id]), size)
        label = atlas.obs["label"].iloc[row]
        return ReferenceView(
            picture=figures.picture_uri(picture),
            overlay=figures.picture_uri(figures.overlay(picture, self.maps[row, latent], top)),
            label=None if pd.isna(label) else str(label),
            value=value,
            cell_id=cell_id,
            image=str(cells.frame["image"].iloc[self.row_of_cell[cell_id]]),
        )

    def _thumbnail(self, row: int) -> NDArray[np.uint8]:
        if row not in self.thumbnails:
            try:
                image = load_image(self.dataset.cells.image_path(row))
            except (CytosaeError, OSError):
                # The image was moved after extraction: its map is still right, and the report is worth having.
                image = np.full((8, 8, 3), 200, np.uint8)
            self.thumbnails[row] = figures.thumbnail(image)
        return self.thumbnails[row]


def _concept(pictures: Pictures, latent: int, rank: int, score: float, carried: list[CarriedView]) -> ConceptView:
    atlas = pictures.dataset.atlas
    var = pictures.var.loc[str(latent)]
    references = pictures.views(latent)
    means = np.asarray(atlas.varm["class_mean"])[atlas.var_names.get_loc(str(latent))]
    names = [str(name) for name in atlas.uns["classes"]]
    return ConceptView(
        latent=latent,
        rank=rank,
        headline=reference_headline(references),
        usefulness=score,
        activation_frequency=float(var["activation_frequency"]),
        cells_active=int(var["cells_active"]),
        token_frequency=float(var["token_frequency"]),
        mean_activation=float(var["mean_activation"]),
        max_token_activation=float(var["max_token_activation"]),
        label_entropy=float(var["label_entropy"]),
        class_selectivity=float(var["class_selectivity"]),
        position_dependence=float(var["position_dependence"]),
        central_share=float(var["central_share"]),
        profile=figures.class_profile(names, list(means)) if names else "",
        references=references,
        carried=carried,
    )


def _carried(pictures: Pictures, latent: int) -> CarriedView:
    var = pictures.var.loc[str(latent)]
    top = var["top_class"]
    return CarriedView(
        dataset=pictures.dataset.name,
        cells_active=int(var["cells_active"]),
        activation_frequency=float(var["activation_frequency"]),
        mean_activation=float(var["mean_activation"]),
        label_entropy=float(var["label_entropy"]),
        top_class=None if pd.isna(top) else str(top),
        references=pictures.views(latent, CARRIED, size=figures.SMALL),
    )


def reference_headline(references: list[ReferenceView]) -> str:
    """What the reference cells of a latent are, in words."""
    labels = [reference.label for reference in references if reference.label is not None]
    if not labels:
        return f"{len(references)} unlabelled reference cells"
    counts = Counter(labels).most_common()
    name, n = counts[0]
    if n == len(references):
        return f"all {n} reference cells: {name}"
    if 2 * n > len(references):
        return f"{n} of {len(references)} reference cells: {name}"
    return "mixed: " + ", ".join(f"{label} {k}" for label, k in counts[:3])


def _dataset(dataset: DatasetReport, i: int, concepts: list[ConceptView]) -> DatasetView:
    atlas, cells = dataset.atlas, dataset.cells
    frame, duplicates = cells.frame, cells.duplicates
    labels = frame["label"].dropna()
    differ = pd.DataFrame(duplicates[duplicates["labels_differ"].astype(bool)]) if len(duplicates) else duplicates
    conflicts = [differ[name].astype(str).tolist() for name in ("kept", "kept_label", "dropped", "dropped_label")]
    counts = labels.value_counts()
    var = pd.DataFrame(atlas.var)
    alive = var["cells_active"].to_numpy() > 0
    largest = float(
        np.log(max(2, min(len(atlas.uns["classes"]), np.asarray(atlas.uns["reference_cells"]["rows"]).shape[1])))
    )
    return DatasetView(
        name=cells.name,
        anchor=f"dataset-{i + 1}",
        n_cells=len(frame),
        n_labelled=len(labels),
        n_patients=int(frame["patient"].nunique()),
        layout=cells.layout,
        classes=[(str(name), int(n)) for name, n in sorted(counts.items(), key=lambda item: (-item[1], str(item[0])))],
        skipped=[
            (str(path), str(reason)) for path, reason in cells.skipped[["path", "reason"]].itertuples(index=False)
        ],
        n_duplicates=len(duplicates),
        conflicts=list(zip(*conflicts, strict=True)),
        alive=int(alive.sum()),
        n_latents=atlas.n_vars,
        median_active=float(np.median(stored_entries(atlas.X))) if atlas.n_obs else float("nan"),
        median_entropy=float(pd.Series(var["label_entropy"][alive]).median()),
        plot=figures.frequency_plot(var, [str(concept.latent) for concept in concepts], largest),
        concepts=concepts,
    )

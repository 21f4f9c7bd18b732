"""The published CytoSAE's atlas: its authors' statistics in the slots of any atlas, with pictures where these are."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray

from cytosae.atlas.making.build import observations
from cytosae.atlas.making.latent_table import STATISTICS
from cytosae.atlas.published.official_statistics import OfficialStatistics, read_official_statistics
from cytosae.atlas.published.published_order import acevedo_order, class_of
from cytosae.cells import CellTable, read_cells
from cytosae.cells.cell_types import harmonise
from cytosae.cells.table import COLUMNS, DUPLICATE_COLUMNS, TEXT_COLUMNS
from cytosae.common.artifact import digest, package_version
from cytosae.common.errors import InputError
from cytosae.common.names import short_name

SAE = "cytosae-published"
"""Stands for the fingerprint of the published SAE: atlases imported from its statistics are of one SAE."""
PATIENT = re.compile(r"[A-Z]{3}")
"""Names of patients in AML_Hehr, whose published statistics take patients for labels."""


@dataclass(frozen=True)
class OfficialAtlas:
    """What was imported.

    Attributes
    ----------
    atlas : AnnData, shape (n, m)
        Row k is image k of the published statistics; see docs/atlas.md for what is known.
    cells : CellTable
        The images that were found, its ``skipped`` the published ones that were not.
    entropy_error : float or None
        Largest difference of the label entropies from the published ones, None where none are published.
    """

    atlas: ad.AnnData
    cells: CellTable
    entropy_error: float | None


def import_official(directory: Path, *, images: Sequence[Path] = (), name: str | None = None) -> OfficialAtlas:
    """Read the authors' statistics of one data set into an atlas.

    Parameters
    ----------
    directory : Path
        Folder with their torch files and `classnames.txt`.
    images : sequence of Path
        Folders with images of Acevedo, whole or in parts; only of this data set the order of images is known.
    name : str or None
        Name of the data set, by default that of the folder.

    Raises
    ------
    InputError
        The files are incomplete, unsafe or do not belong together, or the images are of another data set.
    """
    statistics = read_official_statistics(directory)
    chosen = short_name(name or directory.resolve().name)
    names = _file_names(statistics, directory)
    if images and names is None:
        raise InputError(
            f"{directory} is not about Acevedo, the one data set whose order of images is known; leave --images out."
        )
    cells = _find_images(chosen, names or (), images)
    frame, first = _published_rows(statistics, names, cells)
    return OfficialAtlas(_atlas(statistics, frame, first, cells), cells, statistics.entropy_error)


def _file_names(statistics: OfficialStatistics, directory: Path) -> tuple[str, ...] | None:
    """File name of each published image where it is known; every published label must agree with it."""
    names = acevedo_order()
    if statistics.cells != len(names) or set(statistics.classes) != set(map(class_of, names)):
        return None
    known = statistics.rows >= 0
    classes = np.array([statistics.classes.index(class_of(name)) for name in names])
    wrong = int((classes[statistics.rows[known]] != statistics.labels[known]).sum())
    if wrong:
        raise InputError(
            f"{directory} gives {wrong:,} reference images another class than the published order of Acevedo; get its "
            "files again."
        )
    return names


def _find_images(name: str, names: Sequence[str], folders: Sequence[Path]) -> CellTable:
    """The published images that lie in ``folders``, as one table in the published order."""
    tables = [read_cells(folder, max_unusable=1.0) for folder in folders]
    root = Path(os.path.commonpath([table.root.resolve() for table in tables])) if tables else Path()
    found: Any = pd.DataFrame([row for table in tables for row in _named(table, root)])
    if found.empty:
        found = pd.DataFrame(columns=pd.Index(["published", *COLUMNS]))
    found = found.drop_duplicates("published").set_index("published")
    stems = [_stem(name) for name in names]
    foreign = len(found.index.difference(pd.Index(stems)))
    frame = found.reindex([stem for stem in stems if stem in found.index]).reset_index(names="file")
    of_stem = dict(zip(stems, names, strict=True))
    frame["file"] = frame["file"].map(of_stem).astype("string")
    frame["label"] = frame["file"].map(class_of)
    copies = frame["cell_id"].duplicated()
    there = set(frame["file"])
    absent = [file for file in names if file not in there]
    reasons = {_stem(path): reason for t in tables for path, reason in t.skipped.itertuples(index=False)}
    reason = [reasons.get(_stem(file), "not in the folders given") for file in absent]
    notes = [f"{foreign:,} images have no name of a published one and are passed over."] if foreign else []
    return CellTable(
        name=name,
        root=root,
        frame=_typed(frame[~copies]),
        skipped=pd.DataFrame({"path": absent, "reason": reason}, dtype="string"),
        duplicates=_copies(frame, copies),
        layout="images of published statistics",
        notes=tuple(notes),
    )


def _named(table: CellTable, root: Path) -> Iterator[dict[str, Any]]:
    """The rows of a table, exact copies too, by the name under which an image is published, without its suffix."""
    below = PurePosixPath(table.root.resolve().relative_to(root).as_posix())
    frame: Any = table.frame
    original = frame["original"] if "original" in frame else frame["image"]
    records = frame.drop(columns=[c for c in ("original",) if c in frame]).to_dict("records")
    rows = {record["cell_id"]: record for record in records}
    for record, file in zip(records, original.fillna(frame["image"]), strict=True):
        yield {**record, "image": str(below / record["image"]), "published": _stem(file)}
    for copy in table.duplicates.to_dict("records"):
        image = str(below / copy["dropped"])
        yield {**rows[copy["cell_id"]], "image": image, "published": _stem(copy["dropped"])}


def _stem(file: str) -> str:
    return PurePosixPath(file).stem.upper()


def _typed(frame: Any) -> pd.DataFrame:
    frame = frame.reset_index(drop=True)
    frame["cell_type"] = harmonise(frame["label"].astype("string"), "acevedo")
    others = [name for name in frame if name not in COLUMNS]
    return frame[[*COLUMNS, *others]].astype(
        {**dict.fromkeys(TEXT_COLUMNS, "string"), "width": "Int64", "height": "Int64"}
    )


def _copies(frame: Any, copies: Any) -> pd.DataFrame:
    kept = frame[~copies].set_index("cell_id").reindex(frame.loc[copies, "cell_id"])
    dropped = frame[copies]
    differ = kept["label"].to_numpy() != dropped["label"].to_numpy()
    table = pd.DataFrame(
        {
            "cell_id": dropped["cell_id"].to_numpy(),
            "kept": kept["image"].to_numpy(),
            "dropped": dropped["image"].to_numpy(),
            "kept_label": kept["label"].to_numpy(),
            "dropped_label": dropped["label"].to_numpy(),
            "differs": [("label",) if one else () for one in differ],
            "labels_differ": differ.astype(bool),
        },
        columns=pd.Index(DUPLICATE_COLUMNS),
    )
    return table.astype(dict.fromkeys(DUPLICATE_COLUMNS[:5], "string"))


def _published_rows(
    statistics: OfficialStatistics, names: Sequence[str] | None, cells: CellTable
) -> tuple[pd.DataFrame, NDArray[np.int64]]:
    """What is known of each published image, indexed by cell, and the row that stands for it: the first of copies."""
    n = statistics.cells
    labels = np.full(n, None, dtype=object)
    known = statistics.rows >= 0
    labels[statistics.rows[known]] = np.array(statistics.classes, dtype=object)[statistics.labels[known]]
    first = np.arange(n)
    frame: Any = pd.DataFrame(index=pd.RangeIndex(n))
    if names is not None:
        labels = np.array([class_of(name) for name in names], dtype=object)
        place = {name: k for k, name in enumerate(names)}
        of_stem = {_stem(name): name for name in names}
        frame = cells.frame.set_index(pd.Index([place[file] for file in cells.frame["file"]])).reindex(frame.index)
        frame["file"] = pd.array(list(names), dtype="string")
        row_of_image = {image: k for k, image in zip(frame.index, frame["image"], strict=True)}
        for kept, dropped in cells.duplicates[["kept", "dropped"]].itertuples(index=False):
            first[place[of_stem[_stem(dropped)]]] = row_of_image[kept]
    for column in TEXT_COLUMNS:
        if column not in frame:
            frame[column] = pd.array([pd.NA] * n, dtype="string")
    frame["label"] = pd.array(labels, dtype="string")
    frame["cell_type"] = harmonise(frame["label"])
    frame["status"] = frame["status"].fillna("no image")
    if all(PATIENT.fullmatch(name) for name in statistics.classes):
        frame["patient"] = frame["label"]
    unknown = pd.Series([f"published-{k}" for k in range(n)], index=frame.index)
    return frame.set_index(frame.pop("cell_id").fillna(unknown).rename("cell_id")), first


def _atlas(
    statistics: OfficialStatistics, frame: pd.DataFrame, first: NDArray[np.int64], cells: CellTable
) -> ad.AnnData:
    m, k = statistics.rows.shape
    known = statistics.rows >= 0
    rows = np.where(known, first[statistics.rows], -1)
    latents = np.broadcast_to(np.arange(m)[:, None], (m, k))
    entries, at = np.unique(rows[known] * m + latents[known], return_index=True)
    X = sp.csr_matrix((statistics.values[known][at], (entries // m, entries % m)), shape=(statistics.cells, m))
    class_mean: Any = {"class_mean": np.full((m, len(statistics.classes)), np.nan, np.float32)}
    return ad.AnnData(
        X=X,
        obs=observations(frame),
        var=_latents(statistics),
        varm=class_mean,
        uns={
            "classes": np.array(statistics.classes, dtype=object),
            "class_cells": np.array([(frame["label"] == name).sum() for name in statistics.classes], np.int64),
            "reference_cells": {
                "rows": rows,
                "values": statistics.values,
                "cell_ids": np.array(list(frame.index), dtype=object),
            },
            "provenance": {
                "dataset": cells.name,
                "cells": digest([cells.fingerprint, list(frame.index)]),
                "tokens": "not published",
                "sae": SAE,
                "sae_config": json.dumps({"d_in": 768, "d_sae": m}),
                "backbone": json.dumps({"name": "dinobloom-b", "width": 768}),
                "n_tokens": 257,
                "side": 16,
                "known_cells": "reference cells",
                "cytosae": package_version(),
            },
        },
    )


def _latents(s: OfficialStatistics) -> pd.DataFrame:
    """The columns of any atlas; what the authors do not publish is NaN."""
    m, n_classes = len(s.values), len(s.classes)
    unknown = np.full(m, np.nan)
    sums = np.zeros((m, n_classes))
    latents, places = np.nonzero(s.labels >= 0)
    np.add.at(sums, (latents, s.labels[latents, places]), s.values[latents, places])
    top = np.where(s.cells_active > 0, sums.argmax(1), -1)
    found = {
        "activation_frequency": s.cells_active / s.cells,
        "cells_active": s.cells_active,
        "mean_activation": s.mean,
        "max_activation": s.values[:, 0].astype(np.float64),
        "label_entropy": s.entropy,
        "top_class": pd.Categorical.from_codes(top, s.classes),
    }
    return pd.DataFrame(
        {name: found.get(name, unknown) for name in STATISTICS},
        index=pd.Index([str(latent) for latent in range(m)], name="latent"),
    )

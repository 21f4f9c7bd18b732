"""The authors' own statistics of the published SAE ("feature data"), read from their torch files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cytosae.atlas.making.statistics import label_entropy
from cytosae.common.errors import InputError

FILES = {
    "values": "max_activating_image_values.pt",
    "rows": "max_activating_image_indices.pt",
    "labels": "max_activating_image_label_indices.pt",
    "frequency": "sae_sparsity.pt",
    "mean": "sae_mean_acts.pt",
}
ENTROPY = "top_entropy.pt"
CLASSES = "classnames.txt"
SLIPS = {"lympocyte": "lymphocyte"}
"""Slips of the pen in their names of classes."""
ENTROPY_TOLERANCE = 1e-4
TRIED = 4096
"""Sizes of the data set that are tried, counted from the largest index on."""


@dataclass(frozen=True)
class OfficialStatistics:
    """What the authors publish of m latents on n images.

    Attributes
    ----------
    values : ndarray of float32, shape (m, k)
        Mean activation over all tokens of the k strongest images, descending; 0 where fewer are active.
    rows : ndarray of int64, shape (m, k)
        Their numbers in the authors' order of images, -1 where fewer are active.
    labels : ndarray of int64, shape (m, k)
        Their classes, -1 where fewer are active.
    cells_active : ndarray of int64, shape (m,)
        Images with a mean activation > 0.
    mean : ndarray of float64, shape (m,)
        Mean over these images; NaN where there is none.
    classes : tuple of str
        Names of the labels.
    cells : int
        n. The files do not say it: it is the one number that makes every published share a whole number of images.
    entropy : ndarray of float64, shape (m,)
        Label entropy in nats, computed from ``values`` and ``labels``; NaN for dead latents.
    entropy_error : float or None
        Largest difference from the entropies that the authors publish, None where they publish none.
    """

    values: NDArray[np.float32]
    rows: NDArray[np.int64]
    labels: NDArray[np.int64]
    cells_active: NDArray[np.int64]
    mean: NDArray[np.float64]
    classes: tuple[str, ...]
    cells: int
    entropy: NDArray[np.float64]
    entropy_error: float | None


def read_official_statistics(directory: Path) -> OfficialStatistics:
    """Read a folder of the authors' statistics; nothing in its files is executed.

    Raises
    ------
    InputError
        A file is missing, no plain tensor, of another shape, or does not belong to the others.
    """
    found = {name: _tensor(directory / file) for name, file in FILES.items()}
    _check_shapes(directory, found)
    active = found["values"] > 0
    rows = np.where(active, found["rows"], -1).astype(np.int64)
    classes = _classes(directory / CLASSES)
    labels = np.where(active, found["labels"], -1).astype(np.int64)
    if labels.max(initial=-1) >= len(classes):
        raise InputError(
            f"{directory / CLASSES} names {len(classes)} classes, but a label is {labels.max()}; "
            "get the files of one data set again."
        )
    cells = _number_of_images(directory, found["frequency"], int(rows.max(initial=-1)) + 1)
    entropy = label_entropy(found["values"], labels, len(classes))
    return OfficialStatistics(
        values=found["values"].astype(np.float32),
        rows=rows,
        labels=labels,
        cells_active=np.round(found["frequency"].astype(np.float64) * cells).astype(np.int64),
        mean=np.where(active[:, 0], found["mean"], np.nan).astype(np.float64),
        classes=classes,
        cells=cells,
        entropy=entropy,
        entropy_error=_entropy_error(directory / ENTROPY, entropy),
    )


def _tensor(path: Path) -> NDArray[Any]:
    if not path.is_file():
        raise InputError(f"{path} is missing; give the folder with the authors' statistics of one data set.")
    try:
        value = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as problem:  # torch has no single error for a file that is not what it should be
        raise InputError(f"{path} is no torch file of one plain tensor; get it from its authors again.") from problem
    if not isinstance(value, torch.Tensor) or value.is_sparse:
        raise InputError(f"{path} holds no plain tensor; get it from its authors again.")
    return value.numpy()


def _check_shapes(directory: Path, found: dict[str, NDArray[Any]]) -> None:
    if found["values"].ndim != 2:
        raise InputError(f"{directory / FILES['values']} is no table of latents x images; get it again.")
    m, k = found["values"].shape
    for name, array in found.items():
        needed = (m, k) if name in ("values", "rows", "labels") else (m,)
        if array.shape != needed:
            raise InputError(
                f"{directory / FILES[name]} has the shape {list(array.shape)} where {list(needed)} is needed; get the "
                "files of one data set again."
            )


def _classes(path: Path) -> tuple[str, ...]:
    if not path.is_file():
        raise InputError(f"{path} is missing; it names the classes, one in each line.")
    names = [name.strip() for name in path.read_text(encoding="utf-8").splitlines() if name.strip()]
    return tuple(SLIPS.get(name, name) for name in names)


def _number_of_images(directory: Path, frequency: NDArray[Any], least: int) -> int:
    """The one n >= ``least`` for which all shares are whole numbers of images, up to the rounding of float32."""
    shares = np.unique(frequency.astype(np.float64))
    for n in range(max(least, 1), least + TRIED):
        counts = shares * n
        if np.abs(counts - np.round(counts)).max(initial=0) < 1e-7 * n + 1e-3:
            return n
    raise InputError(
        f"{directory / FILES['frequency']} holds shares of no number of images from {least:,} on; it belongs to "
        "another data set than the indices beside it."
    )


def _entropy_error(path: Path, entropy: NDArray[np.float64]) -> float | None:
    """Largest difference from the authors' entropies; their dead latents are NaN or -1."""
    if not path.is_file():
        return None
    theirs = _tensor(path).astype(np.float64)
    theirs = np.where(theirs < -0.5, np.nan, theirs)
    if theirs.shape == entropy.shape and np.array_equal(np.isnan(theirs), np.isnan(entropy)):
        error = float(np.nan_to_num(np.abs(theirs - entropy)).max(initial=0))
        if error <= ENTROPY_TOLERANCE:
            return error
    raise InputError(
        f"{path} differs from the entropies that the values and labels beside it give; get the files of one data set "
        "again."
    )

"""Any folder of images: class folders at any depth, or a flat folder without labels."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath

import pandas as pd

from cytosae.cells.cell_types import harmonise
from cytosae.cells.layouts.layout import Rows
from cytosae.cells.scan import Scan

HOLDERS = frozenset(
    "image images img imgs cell cells crop crops picture pictures file files data dataset set train trainset training "  # noqa: SIM905
    "test testset testing val valid validation dev eval evaluation holdout split fold part".split()
)
"""Words of folders that hold images without saying of what, such as `images`, `train_set` and `fold1`."""
_RANGE = re.compile(r"\d+[-_]\d+")
_SERIES = re.compile(
    r"\d+|(slide|smear|patient|case|sample|specimen|batch|scan|field|fov|roi|chunk)s?[ _-]*\d+", re.IGNORECASE
)
"""Folders of a series, whose name says which and not what."""


def rows_of_folders(scan: Scan) -> Rows:
    """Rows of a folder whose class folders are its labels; see `folder_labels`."""
    labels = folder_labels(scan.images)
    frame = pd.DataFrame({"image": scan.images, "label": labels}, dtype="string")
    frame["patient"] = frame["diagnosis"] = pd.array([pd.NA] * len(frame), dtype="string")
    frame["mask"] = pd.array([scan.mask_of(image) for image in scan.images], dtype="string")
    skipped = pd.DataFrame(columns=pd.Index(["path", "reason"]), dtype="string")
    classes = len({label for label in labels if label is not None})
    words = f"class folders ({classes} labels)" if classes else "flat folder (no labels)"
    return Rows(frame, skipped, words, "any", scan.root)


def folder_labels(images: Iterable[str]) -> list[str | None]:
    """Label of each image by its folders, None where none of them is one.

    It is the folder directly holding the image, but for what says nothing of the cell and is passed over:

    * ranges such as `0001-1000`;
    * holders such as `images` and `train`, unless class folders stand beside them: then they are a class as well;
    * numbers and series such as `slide1`, where a folder above is one of several classes, or names a cell type.
    """
    folders = [PurePosixPath(image).parts[:-1] for image in images]
    beside: dict[tuple[str, ...], set[str]] = {}
    for parts in set(folders):
        for depth, part in enumerate(parts):
            beside.setdefault(_above(parts, depth), set()).add(part)
    labels = {parts: _label(parts, beside) for parts in set(folders)}
    found = set(labels.values()) - {None}
    lone = len(found) == 1 and all(str(label).isdecimal() for label in found)  # one number is no class
    return [None if lone else labels[parts] for parts in folders]


def _label(parts: tuple[str, ...], beside: Mapping[tuple[str, ...], set[str]]) -> str | None:
    in_series, passed = None, False
    for depth in reversed(range(len(parts))):
        part = parts[depth]
        classes = sum(map(_is_class, beside[_above(parts, depth)]))
        if _RANGE.fullmatch(part):
            continue
        if _SERIES.fullmatch(part):
            in_series = in_series or part
        elif _is_holder(part):
            if classes and in_series is None:
                return part
            passed = True
        elif classes > 1 or not (passed or in_series) or harmonise(pd.Series([part], dtype="string")).notna().all():
            return part
    return in_series


def _above(parts: tuple[str, ...], depth: int) -> tuple[str, ...]:
    """Folders above one, holders without their names: `train/blast` and `test/mono` stand beside each other."""
    return tuple("" if _is_holder(part) else part for part in parts[:depth])


def _is_class(name: str) -> bool:
    return not (_RANGE.fullmatch(name) or _SERIES.fullmatch(name) or _is_holder(name))


def _is_holder(name: str) -> bool:
    words = re.findall(r"[A-Z]?[^\W\d_A-Z]+|[A-Z]+", name)
    return bool(words) and all(word.lower() in HOLDERS for word in words)

"""Any folder of images: class folders at any depth, or a flat folder without labels."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

import pandas as pd

from cytosae.cells.layouts.layout import Rows
from cytosae.cells.scan import Scan, find_mask

GENERIC_FOLDERS = frozenset("images image imgs img cells crops pictures files data".split())  # noqa: SIM905
"""Names of folders that hold images without saying of what."""
_RANGE = re.compile(r"\d+([-_]\d+)?")


def rows_of_folders(scan: Scan) -> Rows:
    """Take the folder directly holding an image as its label; number ranges and names like `images` are no labels."""
    labels = [folder_label(image) for image in scan.images]
    frame = pd.DataFrame({"image": scan.images, "label": labels}, dtype="string")
    frame["patient"] = frame["diagnosis"] = pd.array([pd.NA] * len(frame), dtype="string")
    frame["mask"] = pd.array([find_mask(image, scan.masks) for image in scan.images], dtype="string")
    skipped = pd.DataFrame(columns=pd.Index(["path", "reason"]), dtype="string")
    classes = len({label for label in labels if label is not None})
    words = f"class folders ({classes} labels)" if classes else "flat folder (no labels)"
    return Rows(frame, skipped, words, "any", scan.root)


def folder_label(image: str) -> str | None:
    """Label of an image by its folders, None where none of them is one."""
    for part in reversed(PurePosixPath(image).parts[:-1]):
        if _RANGE.fullmatch(part):
            continue
        return None if part.lower() in GENERIC_FOLDERS else part
    return None

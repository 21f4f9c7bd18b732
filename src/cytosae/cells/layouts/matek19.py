"""Matek19 (TCIA AML-Cytomorphology_LMU): 15 codes, RGBA TIFF, re-annotations in `annotations.dat`."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

import pandas as pd

from cytosae.cells.layouts.layout import Layout
from cytosae.cells.scan import Scan
from cytosae.common.errors import InputError

CLASSES = frozenset("BAS EBO EOS KSC LYA LYT MMZ MOB MON MYB MYO NGB NGS PMB PMO".split())  # noqa: SIM905
_EXTRA = ("annotation", "reannotation_1", "reannotation_2")


def with_annotations(scan: Scan, frame: pd.DataFrame) -> pd.DataFrame:
    """Add the columns of `annotations.dat` (blank-separated: image, annotation, two re-annotations), if it is there."""
    paths = [scan.root / name for name in scan.others if PurePosixPath(name).name == "annotations.dat"]
    if not paths:
        return frame
    table: dict[str, list[str]] = {}
    for line in paths[0].read_text(encoding="utf-8", errors="replace").splitlines():
        image, *values = line.split()[: 1 + len(_EXTRA)] or [""]
        if image and any(len(value) > 20 for value in values):
            raise InputError(f"{paths[0]} is not the blank-separated table of Matek19; fetch the original file again.")
        table[PurePosixPath(image).name] = values
    rows = [table.get(PurePosixPath(image).name, []) for image in frame["image"]]
    for column, name in enumerate(_EXTRA):
        values = [row[column] if len(row) > column and row[column].lower() != "nan" else None for row in rows]
        frame[name] = pd.array(values, dtype="string")
    return frame


MATEK19 = Layout(
    name="matek19",
    title="Matek19",
    shape="<CODE>/<CODE>_<number>.tiff",
    pattern=re.compile(r"(?:.*/)?(?P<label>[A-Z]{3})/(?P=label)_\d+\.tiff?"),
    classes=CLASSES,
    columns=with_annotations,
)

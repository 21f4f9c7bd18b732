"""MLL23 (Zenodo 14277609): peripheral blood, 18 classes."""

from __future__ import annotations

import re

from cytosae.cells.layouts.layout import Layout

CLASSES = frozenset(
    [
        "basophil",
        "eosinophil",
        "hairy_cell",
        "lymphocyte",
        "lymphocyte_large_granular",
        "lymphocyte_neoplastic",
        "lymphocyte_reactive",
        "metamyelocyte",
        "monocyte",
        "myeloblast",
        "myelocyte",
        "neutrophil_band",
        "neutrophil_segmented",
        "normoblast",
        "plasma_cell",
        "promyelocyte",
        "promyelocyte_atypical",
        "smudge_cell",
    ]
)

MLL23 = Layout(
    name="mll23",
    title="MLL23",
    shape="<class>/*.TIF",
    pattern=re.compile(r"(?:.*/)?(?P<label>[^/]+)/[^/]+\.(?:TIF|TIFF|tif|tiff)"),
    classes=CLASSES,
)

"""Acevedo (Mendeley snkd93bnjr): peripheral blood of healthy people; file prefixes split two of the folders."""

from __future__ import annotations

import re

from cytosae.cells.layouts.layout import Layout

CLASSES = frozenset("basophil eosinophil erythroblast ig lymphocyte monocyte neutrophil platelet".split())  # noqa: SIM905

ACEVEDO = Layout(
    name="acevedo",
    title="Acevedo",
    shape="<class>/<PREFIX>_<number>.jpg",
    pattern=re.compile(
        r"(?:.*/)?(?P<label>[^/]+)/(?P<sublabel>BA|BNE|EO|ERB|IG|LY|MMY|MO|MY|NEUTROPHIL|PLATELET|PMY|SNE)_\d+\.jpe?g",
        re.IGNORECASE,
    ),
    classes=CLASSES,
)

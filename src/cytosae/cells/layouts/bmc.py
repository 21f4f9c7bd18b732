"""BMC (TCIA AXH3-T579): bone marrow, 21 codes, folders of a thousand images inside each."""

from __future__ import annotations

import re

from cytosae.cells.layouts.layout import Layout

CLASSES = frozenset("ABE ART BAS BLA EBO EOS FGC HAC KSC LYI LYT MMZ MON MYB NGB NGS NIF OTH PEB PLM PMO".split())  # noqa: SIM905

BMC = Layout(
    name="bmc",
    title="BMC",
    shape="<CODE>/<0001-1000>/<CODE>_<number>.jpg",
    pattern=re.compile(r"(?:.*/)?(?P<label>[A-Z]{3})/(?:\d+-\d+/)?(?P=label)_\d+\.jpe?g"),
    classes=CLASSES,
)

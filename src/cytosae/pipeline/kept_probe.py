"""The probe of the cell type, kept in the cache: fitted once for the same tokens, labels and patients."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from cytosae.atlas.explaining.cell_type_probe import CellTypeProbe, Half
from cytosae.common.artifact import digest, package_version
from cytosae.common.cache import cache_folder
from cytosae.common.disk import write_durably


def kept_probe(recipe: Any, fit: Callable[[], CellTypeProbe]) -> CellTypeProbe:
    """The probe of this recipe (plain values that say all that decides it), fitted where it is not kept yet."""
    file = cache_folder() / "probes" / package_version() / f"{digest(recipe)[:24]}.npz"
    known = _read(file)
    if known is None:
        known = fit()
        with suppress(OSError):  # it is fitted again, then
            _write(file, known)
    return known


def _read(file: Path) -> CellTypeProbe | None:
    try:
        with np.load(io.BytesIO(file.read_bytes()), allow_pickle=False) as found:
            first, second = (Half(found["weights"][i], found["bias"][i]) for i in (0, 1))
            types, accuracy, cells = tuple(found["types"].tolist()), float(found["accuracy"]), int(found["cells"])
            return CellTypeProbe(types, (first, second), found["half_of"], accuracy, cells)
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile):
        return None


def _write(file: Path, probe: CellTypeProbe) -> None:
    buffer = io.BytesIO()
    np.savez(
        buffer,
        types=np.array(probe.types),
        weights=np.stack([half.weights for half in probe.halves]),
        bias=np.stack([half.bias for half in probe.halves]),
        half_of=probe.half_of,
        accuracy=probe.accuracy,
        cells=probe.cells,
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    write_durably(file, buffer.getvalue())

"""Barcodes of what is no cell, on disk and back: what a decision that is about cells must be better than."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anndata as ad

from cytosae.atlas.stored.storage import write_h5ad
from cytosae.common.artifact import read_artifact, write_artifact
from cytosae.common.records import reading


def save_cell_controls(
    path: Path, controls: Mapping[str, ad.AnnData], *, config: Any = None, inputs: Mapping[str, str] | None = None
) -> Path:
    """Write an artifact of kind "focus": a ``<name>.h5ad`` of barcodes for each way to look at the cells."""
    cells = min(int(control.obs["n_cells"].sum()) for control in controls.values())
    with write_artifact(path, "focus", config=config, inputs=inputs, details={"cells": cells}) as folder:
        for name, control in controls.items():
            write_h5ad(control, folder / f"{name.replace(' ', '_')}.h5ad", path)
    return path


def open_cell_controls(path: Path | str, *, verify: bool = True) -> dict[str, ad.AnnData]:
    """Name -> barcodes (patients x latents): "painted out", "alone", "background"."""
    path = read_artifact(path, "focus", verify=verify).path
    with reading(path, "run the step again"):
        return {file.stem.replace("_", " "): ad.read_h5ad(file) for file in sorted(path.glob("*.h5ad"))}

"""Patients: a diagnosis, a mixture of cell types around that diagnosis's own, a laboratory."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.random import SeedSequence, default_rng
from PIL import Image

from cytosae.cells.synthetic.domains import DOMAINS, find_domain
from cytosae.cells.synthetic.draw import draw_cell
from cytosae.cells.synthetic.types import TYPES
from cytosae.common.errors import InputError, UsageError
from cytosae.common.progress import progress

DIAGNOSES: dict[str, dict[str, float]] = {
    "control": {
        "neutrophil_segmented": 0.34,
        "neutrophil_band": 0.08,
        "eosinophil": 0.07,
        "basophil": 0.04,
        "lymphocyte": 0.27,
        "monocyte": 0.11,
        "myeloblast": 0.02,
        "promyelocyte": 0.02,
        "myelocyte": 0.03,
        "erythroblast": 0.02,
    },
    "APL-like": {
        "neutrophil_segmented": 0.15,
        "neutrophil_band": 0.05,
        "eosinophil": 0.04,
        "basophil": 0.03,
        "lymphocyte": 0.20,
        "monocyte": 0.06,
        "myeloblast": 0.10,
        "promyelocyte": 0.27,
        "myelocyte": 0.06,
        "erythroblast": 0.04,
    },
}
"""Diagnosis -> expected share of each cell type; patients take turns in this order."""


def synthesize(
    out: Path | str,
    *,
    patients: int = 12,
    cells: int = 50,
    seed: int = 0,
    domain: str = "reference",
    difficulty: float = 0.5,
    size: int = 128,
) -> Path:
    """Write a synthetic cohort: `images/`, `masks/` and `manifest.csv`, which `read_cells` reads like any other.

    Parameters
    ----------
    out : folder to make; it must not exist or be empty
    patients, cells : number of patients, and of cells of each
    seed : of everything; equal arguments give equal bytes
    domain : a laboratory (a name of `DOMAINS`), or "mixed" for patients of all of them, independently of the diagnosis
    difficulty : 0..1; more variation of stain, focus and noise, and diagnoses that differ less
    size : px of the square images, 32 or more

    Returns
    -------
    The folder; it appears complete or not at all.
    """
    out = Path(out)
    _check(out, patients=patients, cells=cells, difficulty=difficulty, size=size, seed=seed)
    names = list(DOMAINS) if domain == "mixed" else [domain]
    for name in names:
        find_domain(name)
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        rows: list[dict[str, Any]] = []
        with progress("Drawing cells", patients * cells, "cells") as bar:
            for patient in range(patients):
                # every diagnosis meets every laboratory before the next laboratory begins
                laboratory = names[(patient // len(DIAGNOSES)) % len(names)]
                for row in _draw_patient(partial, patient, cells, seed, laboratory, difficulty=difficulty, size=size):
                    rows.append(row)
                    bar.advance()
        pd.DataFrame(rows).to_csv(partial / "manifest.csv", index=False)
        if out.exists():
            out.rmdir()
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return out


def _draw_patient(
    folder: Path, patient: int, cells: int, seed: int, laboratory: str, *, difficulty: float, size: int
) -> Iterator[dict[str, Any]]:
    """Write the images and masks of one patient's cells; gives their rows of the manifest one by one."""
    diagnosis = list(DIAGNOSES)[patient % len(DIAGNOSES)]
    mixture = _mixture(diagnosis, seed, patient, difficulty)
    for cell, label in enumerate(_labels(mixture, cells, seed, patient)):
        rng = default_rng(SeedSequence([seed, patient, cell, 2]))
        drawing = draw_cell(label, find_domain(laboratory), rng, size=size, difficulty=difficulty)
        file = f"P{patient:03d}/{cell:04d}.png"
        _save(folder / "images" / file, drawing.image)
        _save(folder / "masks" / file, drawing.mask)
        yield {
            "image": f"images/{file}",
            "label": label,
            "patient": f"P{patient:03d}",
            "diagnosis": diagnosis,
            "mask": f"masks/{file}",
            "domain": laboratory,
            **drawing.attributes,
        }


def _mixture(diagnosis: str, seed: int, patient: int, difficulty: float) -> np.ndarray:
    """(types,) shares of one patient: around the diagnosis's, which difficulty draws towards the mean of all."""
    mean = np.mean([[shares[name] for name in TYPES] for shares in DIAGNOSES.values()], axis=0)
    own = np.array([DIAGNOSES[diagnosis][name] for name in TYPES])
    expected = own + 0.6 * difficulty * (mean - own)
    return default_rng(SeedSequence([seed, patient, 0])).dirichlet(40 * expected)


def _labels(mixture: np.ndarray, cells: int, seed: int, patient: int) -> list[str]:
    chosen = default_rng(SeedSequence([seed, patient, 1])).choice(len(mixture), size=cells, p=mixture)
    return [list(TYPES)[index] for index in chosen]


def _save(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, compress_level=1)


def _check(out: Path, *, patients: int, cells: int, difficulty: float, size: int, seed: int) -> None:
    for name, value, least in (("patients", patients, 1), ("cells", cells, 1), ("size", size, 32), ("seed", seed, 0)):
        if value < least:
            raise UsageError(f"{name} is {value}; give {least} or more.")
    if not 0 <= difficulty <= 1:
        raise UsageError(f"difficulty is {difficulty}; give a number from 0 to 1.")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} exists and is not empty; give the name of a new folder.")

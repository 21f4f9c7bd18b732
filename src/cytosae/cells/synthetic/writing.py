"""A synthetic cohort on disk: images, masks, structures, a manifest like any other, and the truth beside it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import pandas as pd
from PIL import Image

from cytosae.cells.synthetic.drawn_patients import (
    CohortModel,
    CohortOptions,
    cell_rows,
    draw_patient,
    draw_patient_cell,
)
from cytosae.cells.synthetic.structure_bits import BITS
from cytosae.cells.synthetic.truth import write_truth
from cytosae.common.errors import InputError, UsageError
from cytosae.common.progress import progress
from cytosae.common.unfinished import written_whole

Rows = list[dict[str, Any]]


def synthesize(out: Path | str, *, processes: int = 1, **options: Unpack[CohortOptions]) -> Path:
    """Write a synthetic cohort: images, masks, structures, a manifest that `read_cells` reads, and the truth.

    Parameters
    ----------
    out : Path or str
        Folder to make; it must not exist or be empty.
    processes : int
        That draw, each a patient at a time; the files do not depend on their number.
    options : CohortOptions
        The fields of `CohortModel`: patients, cells, seed, domain, difficulty, size, spread, planted, diagnoses.

    Returns
    -------
    Path
        The folder; it appears complete or not at all.

    Raises
    ------
    UsageError, InputError
        for values that are out of range, and a folder that is not empty.
    """
    model = CohortModel(**options)
    out = Path(out)
    if processes < 1:
        raise UsageError(f"processes is {processes}; give 1 or more.")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} exists and is not empty; give the name of a new folder.")
    with written_whole(out, folder=True) as growing:
        attributes: Rows = []
        with progress("Drawing cells", model.patients * model.cells, "cells") as bar:
            for rows in _patients(growing, model, processes):
                attributes += rows
                bar.advance(len(rows))
        _write_manifest(growing, model)
        write_truth(growing / "truth", model, pd.DataFrame(attributes))
    return out


def _patients(folder: Path, model: CohortModel, processes: int) -> Iterator[Rows]:
    """Attributes of each patient's cells, in order, as their images are written."""
    write = partial(write_patient, folder, model)
    if processes == 1:
        yield from map(write, range(model.patients))
        return
    # forked processes would share locks of threads that they do not have
    with ProcessPoolExecutor(min(processes, model.patients), mp_context=get_context("spawn")) as pool:
        yield from pool.map(write, range(model.patients))


def write_patient(folder: Path, model: CohortModel, index: int) -> Rows:
    """Write the images of one patient's cells; gives the attributes of each, with the structures that it has."""
    patient = draw_patient(model, index)
    for kind in ("images", "masks", "structures"):
        (folder / kind / patient.name).mkdir(parents=True, exist_ok=True)
    rows = []
    for cell in range(len(patient.labels)):
        drawing = draw_patient_cell(model, patient, cell)
        name = f"{patient.name}/{cell:04d}"
        for kind, array in (
            ("images", drawing.image),
            ("masks", drawing.mask),
            ("structures", drawing.structures),
        ):
            Image.fromarray(array).save(folder / kind / f"{name}.png", compress_level=1)
        held = int(np.bitwise_or.reduce(drawing.structures, axis=None))
        present = [structure for structure, bit in BITS.items() if held & bit]
        rows.append({"cell": name, **drawing.attributes, "structures": " ".join(present)})
    return rows


def _write_manifest(folder: Path, model: CohortModel) -> None:
    rows: Rows = []
    for index in range(model.patients):
        patient = draw_patient(model, index)
        rows += [
            {
                "image": f"images/{row['cell']}.png",
                "label": row["label"],
                "patient": patient.name,
                "diagnosis": patient.diagnosis,
                "mask": f"masks/{row['cell']}.png",
                "mask_source": "drawn",  # image and mask from one drawing: nobody outlined it
                "domain": patient.laboratory,
                "age": patient.age,
                "sex": patient.sex,
            }
            for row in cell_rows(patient)
        ]
    pd.DataFrame(rows).to_csv(folder / "manifest.csv", index=False)

"""The truth about a synthetic cohort, as tables that any method can be scored on."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from cytosae.cells.synthetic.attributes import ATTRIBUTES
from cytosae.cells.synthetic.disease_model import DIAGNOSES, specific_structures
from cytosae.cells.synthetic.drawn_patients import CohortModel, cell_rows, draw_patient
from cytosae.cells.synthetic.structure_bits import BITS, STRUCTURES
from cytosae.cells.synthetic.types import TYPES


def write_truth(folder: Path, model: CohortModel, attributes: pd.DataFrame) -> None:
    """Write attributes.csv, cells.csv, patients.csv, subtypes.csv, structures.csv, model.json and README.md.

    Parameters
    ----------
    folder : Path
        To make.
    attributes : DataFrame
        One row a cell, in the manifest's order: cell, every attribute, ``structures`` (names, spaces between).
    """
    folder.mkdir(parents=True)
    patients = [draw_patient(model, index) for index in range(model.patients)]
    cells = pd.DataFrame([row for patient in patients for row in cell_rows(patient)])
    images = "images/" + cells["cell"].to_numpy(dtype=str) + ".png"
    cells.insert(1, "image", images)
    cells["structures"] = attributes["structures"].to_numpy()
    described = attributes.drop(columns="structures")
    described.insert(1, "image", images)
    described.to_csv(folder / "attributes.csv", index=False)
    cells.to_csv(folder / "cells.csv", index=False)
    pd.DataFrame(
        [
            {
                "patient": p.name, "diagnosis": p.diagnosis, "domain": p.laboratory, "age": p.age, "sex": p.sex,
                "cells": len(p.labels),
                "pathognomonic_cells": sum(TYPES[label].characteristic_of == p.diagnosis for label in p.labels),
                **{f"share_{label}": round(p.shares.get(label, 0.0), 6) for label in TYPES},
            }
            for p in patients
        ]
    ).to_csv(folder / "patients.csv", index=False)  # fmt: skip
    subtype_table(cells).to_csv(folder / "subtypes.csv", index=False)
    structure_table(cells).to_csv(folder / "structures.csv", index=False)
    text = json.dumps({**asdict(model), "structures": BITS}, indent=2)
    (folder / "model.json").write_text(text + "\n", encoding="utf-8")
    (folder / "README.md").write_text(_readme(), encoding="utf-8")


def subtype_table(cells: pd.DataFrame) -> pd.DataFrame:
    """Share of each cell type in each diagnosis, and which types are pathognomonic of it."""
    rows = []
    for name in [name for name in DIAGNOSES if name in set(cells["diagnosis"])]:
        labels = cells.loc[cells["diagnosis"] == name, "label"]
        for label, kind in TYPES.items():
            rows.append(
                {
                    "diagnosis": name,
                    "label": label,
                    "cells": int((labels == label).sum()),
                    "share": round(float((labels == label).mean()), 6),
                    "pathognomonic": kind.characteristic_of == name,
                }
            )
    return pd.DataFrame(rows)


def structure_table(cells: pd.DataFrame) -> pd.DataFrame:
    """Share of cells that show each structure in each diagnosis, and to which one a structure is specific."""
    specific = specific_structures()
    rows = []
    for name in [name for name in DIAGNOSES if name in set(cells["diagnosis"])]:
        shown = cells.loc[cells["diagnosis"] == name, "structures"].str.split(" ")
        for structure, bit in BITS.items():
            count = int(sum(structure in names for names in shown))
            rows.append(
                {
                    "diagnosis": name,
                    "structure": structure,
                    "bit": bit,
                    "cells": count,
                    "share": round(count / max(len(shown), 1), 6),
                    "specific": specific.get(structure) == name,
                }
            )
    return pd.DataFrame(rows)


def _readme() -> str:
    bits = "\n".join(f"| {bit} | `{name}` | {STRUCTURES[name]} |" for name, bit in BITS.items())
    attributes = "\n".join(f"| `{name}` | {meaning} |" for name, meaning in ATTRIBUTES.items())
    return f"""# A synthetic smear with its truth

Drawn by cytosae; nothing in it comes from a patient. The diagnoses are modelled on leukemias and named after them.

| file | content |
|---|---|
| `../manifest.csv` | a row a cell: image, label, patient, diagnosis, mask, mask_source, domain (laboratory), age, sex |
| `../images/PATIENT/CELL.png` | 8-bit RGB |
| `../masks/PATIENT/CELL.png` | 8-bit grey: 0 background and other cells, 1 cytoplasm, 2 nucleus |
| `../structures/PATIENT/CELL.png` | 16-bit grey: the sum of the bits below; a pixel can belong to several structures |
| `attributes.csv` | one row a cell: the attributes below, true of the drawing |
| `cells.csv` | one row a cell: `characteristic_of` (the diagnosis that its type is pathognomonic of), `pathognomonic` \
(that diagnosis is the patient's own), `structures` (those it shows) |
| `patients.csv` | one row a patient: numbers of cells, and the share of each type that they were drawn with |
| `subtypes.csv` | cells of each type in each diagnosis; which types are pathognomonic |
| `structures.csv` | cells with each structure in each diagnosis; which structures can occur in that diagnosis alone |
| `model.json` | the parameters of the cohort, and the bits |

Read a structure in Python: `np.asarray(Image.open("structures/P000/0000.png")) & bit > 0`.

| bit | structure | |
|---|---|---|
{bits}

| attribute | |
|---|---|
{attributes}
"""

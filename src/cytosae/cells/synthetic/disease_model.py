"""The model of disease: what the smear of a control, and of four leukemias, is made of."""

from __future__ import annotations

from dataclasses import dataclass, field

from cytosae.cells.synthetic.nuclei import NoNucleus
from cytosae.cells.synthetic.structure_bits import STRUCTURES
from cytosae.cells.synthetic.types import TYPES, CellType


@dataclass(frozen=True)
class Diagnosis:
    """Expected composition of one diagnosis's smears.

    Attributes
    ----------
    blast_share : float
        Expected share of blasts (in the PML::RARA-like one, promyelocytes count as blasts).
    blasts : dict of str to float
        Cell type -> expected share of the blasts.
    others : dict of str to float
        Cell type -> expected share of the cells that are neither blasts nor rare.
    rare : dict of str to float
        Cell type -> expected share of all cells; those that are pathognomonic, and a few that mislead.
    """

    blast_share: float
    blasts: dict[str, float]
    others: dict[str, float]
    rare: dict[str, float] = field(default_factory=dict)


_NORMAL = {
    "neutrophil_segmented": 0.36,
    "neutrophil_band": 0.07,
    "eosinophil": 0.05,
    "basophil": 0.03,
    "monocyte": 0.09,
    "lymphocyte": 0.20,
    "lymphocyte_large_granular": 0.03,
    "lymphocyte_reactive": 0.03,
    "plasma_cell": 0.01,
    "promyelocyte": 0.01,
    "myelocyte": 0.02,
    "metamyelocyte": 0.02,
    "erythroblast": 0.02,
    "smudge_cell": 0.03,
    "platelet": 0.03,
}


def _changed(**shares: float) -> dict[str, float]:
    """Normal shares with some of them changed, summing to 1."""
    mixed = _NORMAL | shares
    whole = sum(mixed.values())
    return {name: share / whole for name, share in mixed.items()}


DIAGNOSES: dict[str, Diagnosis] = {
    "control": Diagnosis(0.01, {"myeloblast": 1.0}, _NORMAL),
    "CBFB::MYH11-like": Diagnosis(
        0.40,
        {"myeloblast": 0.97, "vacuolated_cell": 0.03},
        _changed(monocyte=0.38, eosinophil=0.14, myelocyte=0.05),
        {"eosinophil_abnormal": 0.09, "myeloblast_with_auer_rod": 0.004},
    ),
    "NPM1-like": Diagnosis(
        0.55,
        {"myeloblast": 0.98, "vacuolated_cell": 0.02},
        _changed(monocyte=0.25, lymphocyte=0.28),
        {"blast_cup_like": 0.13, "myeloblast_with_auer_rod": 0.004},
    ),
    "PML::RARA-like": Diagnosis(
        0.50,
        {"promyelocyte": 0.85, "myeloblast": 0.15},
        _changed(neutrophil_segmented=0.20, lymphocyte=0.30, erythroblast=0.05),
        {"promyelocyte_bilobed": 0.10, "faggot_cell": 0.05, "myeloblast_with_auer_rod": 0.004},
    ),
    "RUNX1::RUNX1T1-like": Diagnosis(
        0.45,
        {"myeloblast": 0.92, "promyelocyte": 0.08},
        _changed(myelocyte=0.08, metamyelocyte=0.06, neutrophil_band=0.10),
        {"myeloblast_with_auer_rod": 0.08, "blast_giant_granules": 0.05},
    ),
}
"""Diagnosis -> its model; patients take turns in this order. The names say what they are modelled on, no more."""


def possible_structures(kind: CellType) -> set[str]:
    """Structures that a cell of this type can have."""
    found = {layer.structure for layer in kind.granules}
    given = {
        "cytoplasm": not kind.ghost,
        "nucleus": not isinstance(kind.nucleus, NoNucleus),
        "nucleolus": kind.nucleoli[1] > 0,
        "auer_rods": kind.rods is not None,
        "auer_bundles": kind.rods is not None and kind.rods.bundles[1] > 0,
        "vacuoles": kind.vacuoles[1] > 0,
        "projections": kind.projections is not None,
        "cup": kind.nucleus.cup[1] > 0,
        "hof": kind.hof > 0,
        "surroundings": True,
    }
    return found | {name for name, held in given.items() if held}


def specific_structures() -> dict[str, str]:
    """Structure -> the one diagnosis in which it can occur, by the model; structures of several are left out."""
    within: dict[str, set[str]] = {name: set() for name in STRUCTURES}
    for name, diagnosis in DIAGNOSES.items():
        for label in {**diagnosis.blasts, **diagnosis.others, **diagnosis.rare}:
            for structure in possible_structures(TYPES[label]):
                within[structure].add(name)
    return {structure: names.pop() for structure, names in within.items() if len(names) == 1}

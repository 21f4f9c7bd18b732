"""The synthetic smear: drawn blood cells with masks, attributes and patients, deterministic by seed."""

from __future__ import annotations

from cytosae.cells.synthetic.attributes import ATTRIBUTES
from cytosae.cells.synthetic.diagnoses import DIAGNOSES, Diagnosis, specific_structures
from cytosae.cells.synthetic.domains import DOMAINS, Domain
from cytosae.cells.synthetic.draw import Drawing, draw_cell
from cytosae.cells.synthetic.patients import Cohort, CohortArrays, CohortModel, Patient, generate_cohort
from cytosae.cells.synthetic.structure_bits import BITS, STRUCTURES, structure_mask
from cytosae.cells.synthetic.types import NORMAL_TYPES, PATHOLOGICAL_TYPES, TYPES, CellType
from cytosae.cells.synthetic.writing import synthesize

__all__ = [
    "ATTRIBUTES",
    "BITS",
    "DIAGNOSES",
    "DOMAINS",
    "NORMAL_TYPES",
    "PATHOLOGICAL_TYPES",
    "STRUCTURES",
    "TYPES",
    "CellType",
    "Cohort",
    "CohortArrays",
    "CohortModel",
    "Diagnosis",
    "Domain",
    "Drawing",
    "Patient",
    "draw_cell",
    "generate_cohort",
    "specific_structures",
    "structure_mask",
    "synthesize",
]

from .attributes import ATTRIBUTES
from .disease_model import DIAGNOSES, Diagnosis, specific_structures
from .domains import DOMAINS, Domain
from .draw import Drawing, draw_cell
from .drawn_pairs import PAIRED_ATTRIBUTES, PairedAttribute, draw_pair
from .drawn_patients import Cohort, CohortArrays, CohortModel, Patient, generate_cohort
from .structure_bits import BITS, STRUCTURES, structure_mask
from .types import NORMAL_TYPES, PATHOLOGICAL_TYPES, TYPES, CellType
from .writing import synthesize

__all__ = [
    "ATTRIBUTES",
    "BITS",
    "DIAGNOSES",
    "DOMAINS",
    "NORMAL_TYPES",
    "PAIRED_ATTRIBUTES",
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
    "PairedAttribute",
    "Patient",
    "draw_cell",
    "draw_pair",
    "generate_cohort",
    "specific_structures",
    "structure_mask",
    "synthesize",
]

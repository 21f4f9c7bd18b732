"""The synthetic smear: drawn blood cells with masks, attributes and patients, deterministic by seed."""

from __future__ import annotations

from cytosae.cells.synthetic.cohort import DIAGNOSES, synthesize
from cytosae.cells.synthetic.domains import DOMAINS, Domain
from cytosae.cells.synthetic.draw import Drawing, draw_cell
from cytosae.cells.synthetic.types import TYPES, CellType

__all__ = ["DIAGNOSES", "DOMAINS", "TYPES", "CellType", "Domain", "Drawing", "draw_cell", "synthesize"]

"""Attributes of a drawing, measured on its masks and dyes before the camera saw them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from cytosae.cells.synthetic.parts import Sketch
from cytosae.cells.synthetic.structure_bits import structure_mask

_GRANULES = (
    "neutrophil_granules",
    "eosinophil_granules",
    "basophil_granules",
    "azurophil_granules",
    "abnormal_granules",
    "giant_granules",
)

ATTRIBUTES: dict[str, str] = {
    "nucleus_lobes": "number of lobes; 0 without a nucleus",
    "nuclear_cytoplasmic_ratio": "area of the nucleus / area of the cell, from the mask",
    "cell_diameter": "diameter of the disc of the cell's area, in units (px of a 128 px image at zoom 1)",
    "cell_roundness": "4 pi area / perimeter^2 of the outline before projections, 1 for a disc",
    "nucleus_eccentricity": "distance between the middles of nucleus and cell / radius of the cell",
    "chromatin_texture": "standard deviation / mean of the chromatin's dye in the nucleus",
    "chromatin_density": "mean of the chromatin's dye in the nucleus; 1 is a mature nucleus",
    "chromatin_clump": "size of the clumps of chromatin, in units; 0 without a nucleus",
    "basophilia": "mean of the blue dye in the cytoplasm; 1 is a plasma cell",
    "eosinophilia": "mean of the pink dye in the cytoplasm; 1 is an eosinophil's granule",
    "nucleoli": "number of nucleoli",
    "granules": "number of granules of all kinds",
    **{f"{name}_count": f"number of {name.replace('_', ' ')}" for name in _GRANULES},
    "granule_density": "share of the cytoplasm's area under granules, from the masks",
    "vacuoles": "number of vacuoles",
    "auer_rods": "number of Auer rods",
    "auer_bundles": "number of bundles of Auer rods",
    "projections": "number of hairs and blebs",
    "cup_share": "area of the nucleus's invagination / area of nucleus and invagination",
    "hof_share": "share of the cytoplasm's area in the pale zone beside the nucleus",
}
"""Attribute -> what it is. Floats are rounded to four decimals."""


def measure(sketch: Sketch, *, zoom: float) -> dict[str, Any]:
    """All of `ATTRIBUTES`, true of the sketch."""
    bits, counts = sketch.bits, sketch.counts
    where = {name: structure_mask(bits, name) for name in ("cytoplasm", "nucleus", "cup", "hof", "projections")}
    area = {name: int(mask.sum()) for name, mask in where.items()}
    whole = max(area["cytoplasm"] + area["nucleus"], 1)
    pixel = sketch.window.step**2
    granular = np.zeros(bits.shape, dtype=bool)
    for name in _GRANULES:
        granular |= structure_mask(bits, name)
    purple = sketch.canvas[0][where["nucleus"]].astype(np.float64)
    mean = float(purple.mean()) if len(purple) else 0.0
    values: dict[str, Any] = {
        "nucleus_lobes": counts["nucleus_lobes"],
        "nuclear_cytoplasmic_ratio": area["nucleus"] / whole,
        "cell_diameter": 2 * math.sqrt(whole * pixel / math.pi),
        "cell_roundness": _roundness(sketch),
        "nucleus_eccentricity": _eccentricity(sketch, where["nucleus"], where["nucleus"] | where["cytoplasm"]),
        "chromatin_texture": float(purple.std()) / mean if mean else 0.0,
        "chromatin_density": mean,
        "chromatin_clump": float(sketch.kind.clump) if area["nucleus"] else 0.0,
        "basophilia": _mean(sketch.canvas[1], where["cytoplasm"]),
        "eosinophilia": _mean(sketch.canvas[2], where["cytoplasm"]),
        "nucleoli": counts["nucleoli"],
        "granules": sum(counts.get(name, 0) for name in _GRANULES),
        **{f"{name}_count": counts.get(name, 0) for name in _GRANULES},
        "granule_density": int((granular & where["cytoplasm"]).sum()) / max(area["cytoplasm"], 1),
        "vacuoles": counts["vacuoles"],
        **{name: counts.get(name, 0) for name in ("auer_rods", "auer_bundles", "projections")},
        "cup_share": area["cup"] / max(area["cup"] + area["nucleus"], 1),
        "hof_share": area["hof"] / max(area["cytoplasm"], 1),
    }
    return {name: round(value, 4) if isinstance(value, float) else value for name, value in values.items()}


def _mean(dye: np.ndarray, where: np.ndarray) -> float:
    return float(dye[where].mean(dtype=np.float64)) if where.any() else 0.0


def _eccentricity(sketch: Sketch, nucleus: np.ndarray, cell: np.ndarray) -> float:
    if not nucleus.any():
        return 0.0
    inner, outer = (np.array([axis.mean() for axis in np.nonzero(mask)]) for mask in (nucleus, cell))
    radius = math.sqrt(int(cell.sum()) / math.pi)
    return float(np.hypot(*(inner - outer))) / radius


def _roundness(sketch: Sketch) -> float:
    """From area and length of the outline's zero crossing: the gradient of the soft step, summed, is the perimeter."""
    inside = np.clip(sketch.cell / np.float32(3 * sketch.window.step) + np.float32(0.5), 0, 1).astype(np.float64)
    area = float(inside.sum())
    down, right = np.diff(inside, axis=0)[:, :-1], np.diff(inside, axis=1)[:-1]
    perimeter = float(np.sqrt(down * down + right * right).sum())
    return min(4 * math.pi * area / max(perimeter, 1e-6) ** 2, 1.0)

"""Names of the structures that a drawing's pixels can belong to, as bits of a 16-bit number."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

STRUCTURES: dict[str, str] = {
    "cytoplasm": "the cell without its nucleus, projections included",
    "nucleus": "the nucleus, whatever lies over it",
    "nucleolus": "nucleoli inside the nucleus",
    "neutrophil_granules": "fine granules of neutrophils and of their precursors",
    "eosinophil_granules": "coarse, packed, eosin-red granules",
    "basophil_granules": "coarse, dark granules of basophils",
    "azurophil_granules": "primary granules: promyelocytes, large granular lymphocytes, platelets, monocytes",
    "abnormal_granules": "inclusions: coarse basophilic granules of abnormal eosinophils",
    "giant_granules": "inclusions: giant salmon-coloured granules of blasts (pseudo-Chediak-Higashi)",
    "auer_rods": "Auer rods, single or in bundles",
    "auer_bundles": "the Auer rods that lie in bundles (faggots)",
    "vacuoles": "vacuoles",
    "projections": "cytoplasm beyond the cell's smooth outline: hairs and blebs",
    "cup": "the invagination of a cup-like nucleus; cytoplasm, too",
    "hof": "the pale zone beside the nucleus; cytoplasm, too",
    "surroundings": "red cells and platelets around the cell",
}
"""Structure -> what it is; the n-th has the bit ``1 << n``. A pixel can belong to several."""

BITS: dict[str, int] = {name: 1 << n for n, name in enumerate(STRUCTURES)}


def structure_mask(structures: NDArray[np.uint16], name: str) -> NDArray[np.bool_]:
    """Where a structure is: boolean array of the same shape as the packed one."""
    return (structures & np.uint16(BITS[name])) != 0

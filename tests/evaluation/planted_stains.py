"""Cells of two types in three stains whose latents are known: two tell the type, three the stain, others nothing."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from cytosae.evaluation.suppression import LabelledCells

STAINED = np.array([2, 3, 4])


def planted(*, cells=240, others=12, confounded=True, seed=0):
    """Cells, decoder rows (orthogonal), and the latents of the stain.

    The mean token is the sum of the latents, nothing else. Where ``confounded``, the latents of the stains go with the
    type, too, in pink ones with the other than in blue and rose ones: a probe of pink goes wrong in these.
    """
    rng = np.random.default_rng(seed)
    types, stains = np.arange(cells) % 2, np.arange(cells) // 2 % 3
    values = 0.2 * np.abs(rng.normal(size=(cells, 5 + others)))
    values[:, 0] += types
    values[:, 1] += 1 - types
    for stain in range(3):
        values[:, 2 + stain] += 6.0 * (stains == stain)
        if confounded:
            values[:, 2 + stain] += 6.0 * (types == stains % 2)
    directions = np.eye(values.shape[1], 24)
    return (
        LabelledCells(
            values=sp.csr_array(values),
            means=values @ directions,
            types=np.array(["x", "y"])[types],
            stains=np.array(["blue", "pink", "rose"])[stains],
            units=np.arange(cells).astype(str).astype(object),
        ),
        directions,
        STAINED,
    )

"""Where a decision looks: what of a cell's image it needs, beside where its map lies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from cytosae.atlas.explaining.gaze import Encode, Gaze, Images, look_at
from cytosae.cohort.explanation.token_shares import contributions

if TYPE_CHECKING:
    from cytosae.atlas.config import GazeConfig
    from cytosae.cohort.explanation.patient_explanation import PatientExplanation
    from cytosae.sae import SparseAutoencoder


def where_a_decision_looks(
    images: Images,
    explanation: PatientExplanation,
    *,
    sae: SparseAutoencoder,
    encode: Encode,
    tau: float,
    masks: Sequence[NDArray[np.uint8] | None] | None = None,
    counted: NDArray[np.bool_] | None = None,
    config: GazeConfig | None = None,
) -> list[Gaze | None]:
    """Paint out the patches that speak most for a decision, encode anew, and see how much of it goes.

    What is watched is what a cell adds to the decision beyond the typical patient's cell, sum_j w_j (x_j - r_j) with
    coefficients w, the cell's own barcode x (a sum over its tokens, `token_shares`) and the typical patient's r, which
    is spread evenly over the tokens that count. See `cytosae.atlas.where_it_looks` for what is painted.

    Parameters
    ----------
    images : sequence of ndarray of uint8, shape (H, W, 3)
        Cells of the patient.
    explanation : PatientExplanation
        The decision.
    sae : SparseAutoencoder
        The classifier's.
    encode : callable
        Images to tokens, as the tokens of the SAE were made.
    tau : float
        Activation above which a token counts, the classifier's.
    masks : sequence of ndarray or None, or None
        As of `cytosae.atlas.where_it_looks`.
    counted : ndarray of bool, shape (n, T), or None
        Tokens that count, None for all.
    config : GazeConfig or None
        How many patches are painted out, and how often at random.

    Returns
    -------
    list of Gaze or None
        One for each image, ``activation`` in units of the decision; None where the cell does not speak for it, or no
        patch does.
    """
    typical = float((explanation.concepts["coefficient"] * explanation.concepts["reference"]).sum())

    @torch.no_grad()
    def watch(pictures: Images, own: NDArray[np.bool_] | None) -> NDArray[np.float64]:
        speaks = contributions(encode(pictures), explanation, sae, tau=tau, counted=own)
        counts = np.ones(speaks.shape[1], bool) if own is None else own
        return speaks - np.where(counts, typical / counts.sum(), 0.0)

    return look_at(images, watch, masks=masks, counted=counted, grid=explanation.grid, config=config)

"""Which of the concepts that a decision uses are others in later patients than in those it was fitted on."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import false_discovery_control, norm, rankdata

from cytosae.cohort.classification.classifier import ConceptClassifier

Array = NDArray[np.float64]
ALPHA = 0.05
"""False discovery rate at which a concept is said to have shifted."""


def shifted_concepts(
    classifier: ConceptClassifier,
    training: NDArray[np.floating],
    later: NDArray[np.floating],
    diagnoses: tuple[NDArray[np.integer], NDArray[np.integer]],
) -> pd.DataFrame:
    """Compare every concept with a weight between training and later patients of the same diagnosis.

    Parameters
    ----------
    classifier : ConceptClassifier
        Whose concepts.
    training, later : ndarray of float, shape (P, m), (Q, m)
        Barcodes of its kind.
    diagnoses : tuple of ndarray of int, shapes (P,) and (Q,)
        Classes of both.

    Returns
    -------
    DataFrame
        One row a concept, those first that move the decision most among the training patients: latent, influence
        (largest |weight| times the standard deviation of the barcode), weight (of two classes, for the second),
        training, later (mean barcodes), delta (Cliff's delta, later against training, mean over the diagnoses), p (van
        Elteren), q (Benjamini and Hochberg over all of these concepts), shifted (q <= 0.05).
    """
    old, new = (np.asarray(values[:, classifier.latents], dtype=np.float64) for values in (training, later))
    delta, p = van_elteren(new, old, (diagnoses[1], diagnoses[0]))
    known = np.nan_to_num(p, nan=1.0)
    q = false_discovery_control(known) if len(known) else known
    frame = pd.DataFrame(
        {
            "latent": classifier.latents,
            "influence": np.abs(classifier.coef).max(0) * old.std(0),
            "weight": classifier.coef[0] if len(classifier.classes) == 2 else np.abs(classifier.coef).max(0),
            "training": old.mean(0),
            "later": new.mean(0),
            "delta": delta,
            "p": known,
            "q": q,
            "shifted": q <= ALPHA,
        }
    )
    return frame.sort_values("influence", ascending=False, kind="stable", ignore_index=True)


def van_elteren(a: Array, b: Array, strata: tuple[NDArray[np.integer], NDArray[np.integer]]) -> tuple[Array, Array]:
    """Cliff's delta and two-sided p of two groups, compared within strata, for each column.

    Each stratum's rank sum less its expectation counts by 1 / (N + 1), N its size; the variance is that of ranks with
    ties; normal approximation. Strata that one group lacks say nothing.

    Parameters
    ----------
    a, b : ndarray of float64, shape (n_a, m), (n_b, m)
        Values.
    strata : tuple of ndarray of int, shapes (n_a,) and (n_b,)
        Stratum of each.

    Returns
    -------
    tuple of ndarray of float64, shape (m,)
        delta > 0 where ``a`` is larger; p NaN where nothing varies.

    References
    ----------
    Van Elteren 1960, On the combination of independent two-sample tests of Wilcoxon, Bulletin of the ISI 37.
    """
    m = a.shape[1]
    above, variance, delta, counted = np.zeros(m), np.zeros(m), np.zeros(m), 0.0
    for stratum in np.intersect1d(*strata):
        x, y = a[strata[0] == stratum], b[strata[1] == stratum]
        n_x, n_y = len(x), len(y)
        N = n_x + n_y
        ranks = rankdata(np.concatenate([x, y]), axis=0)
        away = ranks[:n_x].sum(0) - n_x * (N + 1) / 2
        spread = ranks.var(axis=0, ddof=1) if N > 1 else np.zeros(m)
        above += away / (N + 1)
        variance += n_x * n_y / N * spread / (N + 1) ** 2
        delta += n_x * 2 * away / (n_x * n_y)
        counted += n_x
    z = np.divide(np.abs(above), np.sqrt(variance), out=np.full(m, np.nan), where=variance > 0)
    return delta / max(counted, 1.0), 2 * norm.sf(z)

"""Which latents to show first: specific, frequent enough, strong, and about the cell rather than its surroundings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

if TYPE_CHECKING:
    from anndata import AnnData

ENOUGH_CELLS = 20
"""Active cells from which on a latent counts as seen often enough: twice the ten reference cells."""


def usefulness(atlas: AnnData) -> pd.DataFrame:
    """Score each latent in [0, 1] as the product of six factors in [0, 1].

    * specific = 1 - H / ln min(C, k): label entropy H of the k reference cells, C classes; 1 where no cell is labelled
    * enough = min(1, active cells / 20)
    * selective = 1 - f^2, f the activation frequency: what fires on every cell tells no cells apart
    * strong = rank of the mean value of the reference cells among live latents, from 0 to 1
    * content = 1 - position dependence: what fires at fixed positions describes the grid, not the cell
    * central = share of its active patches in the central half of the image: the cell rather than what lies around it

    What an atlas does not say of any latent, as one imported from published statistics, counts for and against none: 1.

    Returns
    -------
    DataFrame
        Table indexed as ``atlas.var_names`` with these columns and ``usefulness``; dead latents have 0.
    """
    var = atlas.var
    values = np.asarray(atlas.uns["reference_cells"]["values"])[atlas.var_names.astype(int)]
    k, n_classes = values.shape[1], len(atlas.uns["classes"])
    alive = var["cells_active"].to_numpy() > 0
    entropy = np.asarray(var["label_entropy"], float)
    most = np.log(max(min(n_classes, k), 2))
    unlabelled = 1.0 if n_classes < 2 else 0.0
    frame = pd.DataFrame(index=atlas.var_names)
    frame["specific"] = np.where(np.isnan(entropy), unlabelled, np.clip(1 - entropy / most, 0, 1))
    if n_classes < 2:
        frame["specific"] = 1.0
    frame["enough"] = np.minimum(1, var["cells_active"].to_numpy() / ENOUGH_CELLS)
    frame["selective"] = 1 - var["activation_frequency"].to_numpy() ** 2
    strength = pd.Series(np.where(alive, values.mean(1), np.nan), index=atlas.var_names)
    frame["strong"] = strength.rank(pct=True).fillna(0.0)
    frame["content"] = 1 - np.clip(_known(var["position_dependence"], nothing=0.0, otherwise=1.0), 0, 1)
    frame["central"] = _known(var["central_share"], nothing=1.0, otherwise=0.0)
    frame["usefulness"] = np.where(alive, frame.prod(axis=1), 0.0)
    return frame


def sure_selectivity(table: pd.DataFrame) -> NDArray[np.float64]:
    """Class selectivity (m,) of an atlas's ``var``, less where a latent is on too few cells for it to be known.

    It is times min(1, active cells / 20): what is on three cells is all of one class by chance.
    """
    enough = np.minimum(1, table["cells_active"].to_numpy(float) / ENOUGH_CELLS)
    return table["class_selectivity"].to_numpy(float) * enough


def select_concepts(atlas: AnnData, n: int, *, max_shared: float = 0.5, per_class: float = 2.0) -> list[int]:
    """The ``n`` most useful latents that are not the same thing twice, most useful first.

    Walks down the usefulness order and passes over a latent that shares more than ``max_shared`` of its reference cells
    with one already taken, or whose top class already has ``per_class`` times its even share of the gallery; those
    passed over for their class fill up what is left.

    Returns
    -------
    list of int
        Latent numbers, ordered by usefulness; fewer than ``n`` where fewer are alive and different.
    """
    scores = usefulness(atlas)["usefulness"].to_numpy()
    order = [i for i in np.argsort(-scores, kind="stable") if scores[i] > 0]
    latents = atlas.var_names.astype(int).to_numpy()
    rows = np.asarray(atlas.uns["reference_cells"]["rows"])
    top = np.asarray(atlas.var["top_class"].cat.codes)
    limit = max(1, int(np.ceil(per_class * n / max(len(atlas.uns["classes"]), 1))))
    taken: list[int] = []
    for crowded in (False, True):
        count = np.bincount(top[taken] + 1, minlength=top.max(initial=0) + 2)
        for i in order:
            if len(taken) >= n:
                break
            if i in taken or (not crowded and count[top[i] + 1] >= limit and len(atlas.uns["classes"]) > 1):
                continue
            if not _repeats(rows[latents[i]], [rows[latents[j]] for j in taken], max_shared):
                taken.append(int(i))
                count[top[i] + 1] += 1
    return [int(latents[i]) for i in sorted(taken, key=lambda i: (-scores[i], i))]


def _known(column: Any, *, nothing: float, otherwise: float) -> np.ndarray:
    """Gaps filled: with ``nothing`` where the whole column is unknown."""
    return column.fillna(nothing if column.isna().all() else otherwise).to_numpy(float)


def _repeats(mine: np.ndarray, others: list[np.ndarray], max_shared: float) -> bool:
    cells = set(mine[mine >= 0].tolist())
    return any(len(cells & set(other.tolist())) > max_shared * len(cells) for other in others)

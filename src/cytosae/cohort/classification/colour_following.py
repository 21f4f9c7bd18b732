"""Latents that follow the colour of an image more than the type of its cell."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class ColouredCells(Protocol):
    """What is looked at of cells: patient and type [n] by number, colours [n, 6], mean activations [n, m] sparse."""

    @property
    def patient(self) -> NDArray[Any]: ...  # noqa: D102

    @property
    def types(self) -> NDArray[Any]: ...  # noqa: D102

    @property
    def colours(self) -> NDArray[Any] | None: ...  # noqa: D102

    @property
    def means(self) -> Any: ...  # noqa: D102


def colour_following(cells: ColouredCells, train: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Latents whose activation follows colour more than cell type, on the cells of the training patients.

    For each latent, the share of the variance of its mean activation per cell that the six colour statistics of that
    cell explain by least squares is compared with the share that the cell type explains (variance between types), both
    adjusted for their degrees of freedom. A latent is set aside where the first is larger. Colour and cell type share
    much (lymphocytes are dark and blue); the shared part stands on both sides and falls out, so what is compared is
    what only colour and what only the type can explain.

    Parameters
    ----------
    cells : ColouredCells
        With colours and types.
    train : ndarray of int
        Row numbers of the training patients.

    Returns
    -------
    ndarray of bool, shape (m,)
        False for latents that do not vary among these cells.
    """
    if cells.colours is None:
        raise ValueError("colour_following needs the cells' colours")
    mine = np.isin(cells.patient, train) & (cells.types >= 0)
    n = int(mine.sum())
    present = np.unique(cells.types[mine])
    one_hot = (cells.types[:, None] == present[None]) & mine[:, None]
    centred = (cells.colours - cells.colours[mine].mean(0)) * mine[:, None]
    terms = np.hstack([one_hot.astype(np.float64), centred, mine[:, None].astype(np.float64)])
    products = np.asarray((cells.means.T @ terms).T)
    sums = products[-1]
    squares = np.asarray(cells.means.multiply(cells.means).T @ mine.astype(np.float64)).ravel()
    total = squares - sums**2 / n
    between = (products[: len(present)] ** 2 / one_hot.sum(0)[:, None]).sum(0) - sums**2 / n
    moments = products[len(present) : -1]
    by_colour = np.einsum("cm,cm->m", moments, np.linalg.pinv(centred.T @ centred) @ moments)
    varies = total > 1e-12 * np.maximum(squares, 1e-300)
    share = np.divide(np.stack([by_colour, between]), total, out=np.zeros((2, len(total))), where=varies)
    freedom = np.array([centred.shape[1], len(present) - 1])[:, None]
    adjusted = 1 - (1 - share) * (n - 1) / np.maximum(n - 1 - freedom, 1)
    return varies & (adjusted[0] > adjusted[1])

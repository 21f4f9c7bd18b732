"""The refusal of cells that would be trained on and tested: one image under two patients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cytosae.common.errors import InputError


def refuse_shared_cells(
    cells: pd.DataFrame, *, patient: str = "patient", tokens: NDArray[np.floating] | None = None
) -> None:
    """Refuse an image that stands under two patients, before anything is fitted.

    Parameters
    ----------
    cells : DataFrame
        One row a cell, with the column ``patient``; ``cell_id`` is a column or the index.
    patient : str
        Name of that column.
    tokens : ndarray of float, shape (n, D), or None
        Mean token of each cell; equal rows are equal pictures even where the files' bytes differ (rows of a single
        value, as blank images or stand-ins give, are not compared).

    Raises
    ------
    InputError
        naming the image and both patients.
    """
    ids: Any = cells.get("cell_id", cells.index)
    table = pd.DataFrame({"id": np.asarray(ids, dtype=str), "owner": cells[patient].astype(object).to_numpy()})
    table = table.assign(owner=table["owner"].map(str, na_action="ignore").replace("", None))
    _refuse(table.assign(key=table["id"]), "the image")
    if tokens is not None and len(tokens):
        varied = np.ptp(tokens, axis=1) > 0
        content = [row.tobytes() for row in np.ascontiguousarray(tokens)[varied]]
        _refuse(table[varied].assign(key=content), "the picture")


def _refuse(table: pd.DataFrame, what: str) -> None:
    known: Any = table.dropna()
    owners = known.groupby("key", sort=False)["owner"].nunique()
    shared = owners[owners > 1]
    if shared.empty:
        return
    cells = known[(known["key"] == shared.index[0]).to_numpy()]
    (a, b, *_), first = sorted(set(cells["owner"])), str(cells["id"].iloc[0])
    more = f" (and {len(shared) - 1} more)" if len(shared) > 1 else ""
    raise InputError(
        f"{what} {first[:12]} stands under the patients {a!r} and {b!r}{more}, so that a test patient would be trained "
        "on; remove it from all but its owner."
    )

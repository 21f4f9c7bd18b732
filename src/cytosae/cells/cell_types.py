"""One vocabulary of cell types over the field's data sets; the original label is always kept beside it."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

import pandas as pd


@cache
def cell_type_table() -> pd.DataFrame:
    """The table shipped with the package: `dataset`, `original`, `harmonised`; data set "any" is for other folders."""
    with files("cytosae.cells").joinpath("cell_types.csv").open(encoding="utf-8") as file:
        return pd.read_csv(file, dtype="string")


def harmonise(labels: pd.Series, dataset: str = "any") -> pd.Series:
    """Harmonised names of labels (NA where unknown).

    Parameters
    ----------
    labels : Series
        Original labels, strings.
    dataset : str
        Whose labels they are (a name of `cytosae.cells.LAYOUTS`); names unknown there are looked up under "any".
    """
    names = _names(dataset)
    known = {label: names.get(_plain(label)) for label in labels.dropna().unique()}
    return labels.map(known).astype("string")


@cache
def _names(dataset: str) -> dict[str, str]:
    table = cell_type_table()
    chosen = pd.concat([table[table["dataset"] == "any"], table[table["dataset"] == dataset]])
    harmonised = {_plain(name): name for name in table["harmonised"].unique()}
    return harmonised | {
        _plain(original): name for original, name in zip(chosen["original"], chosen["harmonised"], strict=True)
    }


def _plain(label: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", label.lower()).strip("_")

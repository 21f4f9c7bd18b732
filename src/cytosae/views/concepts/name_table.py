"""Names of all concepts of an atlas in one table: what they go with, what people agree on, which are used alike."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cytosae.atlas.comparing.carried_latents import types_of
from cytosae.atlas.meaning.attribute_tests import associate, best_values
from cytosae.atlas.meaning.verdicts import CELL_FACTS
from cytosae.atlas.stored.matrix import read_rows
from cytosae.cohort.classification.families import families_of, representatives
from cytosae.views.concepts.concept_names import name_of, trait_words
from cytosae.views.parts.opened_dataset import OpenedAtlas

TYPES = ("cell_type", "label")
LIKENESS = 0.5
"""Smallest Spearman correlation over cells of any two concepts of a family."""
MOST_CELLS = 5000
"""Cells, spread evenly, over which use is compared."""
FEWEST_ACTIVE = 10
"""Of these cells on which a concept must be active to have a family."""


def table_of_names(atlas: OpenedAtlas, ceiling: pd.DataFrame | None = None) -> pd.DataFrame:
    """Name, attribute and family of every active concept.

    Parameters
    ----------
    atlas : OpenedAtlas
        Human attributes are columns of its cells.
    ceiling : DataFrame or None
        ``attribute``, ``value``, ``auc``: how well a second annotator's answer tells the first one's.

    Returns
    -------
    DataFrame
        Index latent; ``name``, ``draft`` (no person has accepted it); ``attribute``, ``value``, ``words``, ``auc`` with
        ends, ``auc_within`` and ``q`` of the value that it goes with best (missing where none is beyond chance), see
        `cytosae.atlas.meaning.attribute_tests.associate`, ``people`` (AUC of a second annotator for this value);
        ``family`` (number; concepts of one are used alike), ``family_size``, ``family_name`` (a draft).
    """
    live = atlas.live.index.to_numpy()
    names = {int(latent): name_of(atlas, int(latent)) for latent in live}
    table = pd.DataFrame({"name": pd.Series(names), "draft": [int(one) not in atlas.accepted for one in live]})
    table = table.join(_attributes(atlas)) if _facts(atlas).shape[1] else table
    if ceiling is not None and "value" in table:
        people = ceiling.set_index(["attribute", "value"])["auc"]
        keys = pd.MultiIndex.from_arrays([table["attribute"], table["value"]])
        table["people"] = people.reindex(keys).to_numpy()
    table = table.join(families_of_use(atlas, live, names))
    return table.rename_axis("latent")


def families_of_use(atlas: OpenedAtlas, live: NDArray[np.integer], names: dict[int, str]) -> pd.DataFrame:
    """Families of concepts that are used alike over cells, and what they are called.

    Any two of a family have a Spearman correlation of `LIKENESS` or more (complete linkage, see `families_of`). The
    name is the one that more than half of the members bear, else that of the most typical one, "and alike".

    Returns
    -------
    DataFrame
        Index latent (those active on `FEWEST_ACTIVE` cells or more): ``family``, ``family_size``, ``family_name``.
    """
    n = atlas.atlas.n_obs
    rows = np.unique(np.linspace(0, n - 1, min(n, MOST_CELLS)).astype(int))
    values: Any = read_rows(atlas.atlas.X, rows)
    used = np.bincount(values.indices, minlength=values.shape[1])[live] >= FEWEST_ACTIVE
    latents = live[used]
    X = values[:, latents].toarray().astype(np.float64)
    varied = X.std(0) > 0
    latents, X = latents[varied], X[:, varied]
    family = families_of(X, LIKENESS)
    typical = latents[representatives(X, family)]
    size = np.bincount(family)
    said = []
    for k in range(len(size)):
        name, count = Counter(names[int(one)] for one in latents[family == k]).most_common(1)[0]
        alike = size[k] > 1 and 2 * count <= size[k]
        said.append(f"{names[int(typical[k])]}, and alike" if alike else name)
    return pd.DataFrame(
        {"family": family, "family_size": size[family], "family_name": np.array(said, object)[family]}, index=latents
    )


def _facts(atlas: OpenedAtlas) -> pd.DataFrame:
    obs = pd.DataFrame(atlas.atlas.obs)
    return pd.DataFrame(obs[[name for name in CELL_FACTS if name in obs and name not in TYPES]])


def _attributes(atlas: OpenedAtlas) -> pd.DataFrame:
    """The value that each latent goes with best, from the annotated cells; index latent."""
    facts = _facts(atlas)
    rows = np.flatnonzero(facts.notna().to_numpy().any(1))
    types = pd.Series(types_of(atlas.atlas)).iloc[rows]
    found = best_values(associate(read_rows(atlas.atlas.X, rows), facts.iloc[rows], types))
    words = [trait_words(*pair) for pair in zip(found["attribute"], found["value"], strict=True)]
    shown = ["attribute", "value", "auc", "auc_low", "auc_high", "auc_within", "q"]
    return found[shown].assign(words=words)

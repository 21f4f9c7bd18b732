"""One SAE on two data sets: which latents are on both, on what cells, and how well what they mark carries over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray

from cytosae.atlas.making.column_ranks import column_aucs
from cytosae.atlas.stored.matrix import row_blocks
from cytosae.common.errors import UsageError

if TYPE_CHECKING:
    from anndata import AnnData

FOLD, FDR = 10.0, 0.01
"""A latent is specific to a data set on which it is so many times as frequent, at this false discovery rate."""
MARKS = 0.5
"""Share of the values of its reference cells that a cell type must have for the latent to mark it."""
UNUSUAL = 0.99
"""Quantile of the first data set's cells beyond which a cell is called unusual."""
PART = "known_cells"
"""Entry of the provenance of atlases that know the activations of some cells only."""


@dataclass(frozen=True)
class AtlasComparison:
    """Two atlases of one SAE, "a" and "b".

    Attributes
    ----------
    names : tuple of str
        The data sets.
    table : DataFrame
        Index latent; ``frequency_a``, ``frequency_b`` (shares of cells), ``mean_a``, ``mean_b`` (mean activation of
        active cells), ``overlap`` (of the cell types of the reference cells, 0 to 1), ``marks`` (cell type that the
        latent marks on a, or missing), ``auc`` (of the mean activation on b for this type; 0.5 is chance), ``q`` (that
        the frequencies are equal), ``specific`` ("a", "b" or "").
    figures : dict of str to float
        ``alive_a``, ``alive_b``, ``shared`` (latents active on both); ``frequency_correlation``, ``mean_correlation``
        (Pearson, of log10, over shared latents); ``marking`` (shared latents that mark a type which both data sets
        have); ``overlap`` and ``overlap_by_chance`` (means over these, the latter with the latents of b dealt out);
        ``auc`` and ``auc_by_chance`` (medians, the latter for the type that another latent marks); ``specific_a``,
        ``specific_b``; ``unusual_a``, ``unusual_b`` (shares of cells). NaN for what the atlases do not tell.
    cells : DataFrame
        Index cell_id of b, ``unusualness`` (nats) and ``unusual``; empty where an atlas knows some cells only.
    """

    names: tuple[str, str]
    table: pd.DataFrame
    figures: dict[str, float]
    cells: pd.DataFrame


def compare_atlases(a: AnnData, b: AnnData, *, seed: int = 0) -> AtlasComparison:
    """Compare two atlases of one SAE latent by latent; docs/atlas.md has the formulae.

    Parameters
    ----------
    a, b : AnnData
        Whole or backed atlases.
    seed : int
        Of the pairing by chance.

    Raises
    ------
    UsageError
        The atlases are of different SAEs (`cytosae.atlas.match_profiles` is for these).
    """
    check_one_sae(a, b)
    rng = np.random.default_rng(seed)
    table = _frequencies(a, b)
    types = sorted({*types_of(a).dropna(), *types_of(b).dropna()})
    shares_a, shares_b = (reference_shares(one, types) for one in (a, b))
    shared = ((table["frequency_a"] > 0) & (table["frequency_b"] > 0)).to_numpy()
    known = shared & (shares_a.sum(1) > 0) & (shares_b.sum(1) > 0)
    common = np.isin(types, list({*types_of(a).dropna()} & {*types_of(b).dropna()}))
    if not common.any():
        known[:] = False  # labels that mean different things, such as types and patients
    overlap = np.where(known, np.minimum(shares_a, shares_b).sum(1), np.nan)
    marks = np.where(shares_a.max(1, initial=0) >= MARKS, shares_a.argmax(1) if types else 0, -1)
    marking = np.flatnonzero(known & (marks >= 0) & np.append(common, False)[marks])
    by_chance = np.minimum(shares_a[marking], shares_b[rng.permutation(marking)]).sum(1)
    auc, auc_by_chance = _aucs(b, types, np.where(shared, marks, -1), rng)
    table["overlap"], table["auc"] = overlap, auc
    table["marks"] = pd.Categorical.from_codes(marks, types)
    cells, shares = unusual_cells(a, b)
    logs = np.log10(table.loc[shared, ["frequency_a", "frequency_b", "mean_a", "mean_b"]].to_numpy())
    figures = {
        "alive_a": int((table["frequency_a"] > 0).sum()),
        "alive_b": int((table["frequency_b"] > 0).sum()),
        "shared": int(shared.sum()),
        "frequency_correlation": _correlation(logs[:, 0], logs[:, 1]),
        "mean_correlation": _correlation(logs[:, 2], logs[:, 3]),
        "overlap": _middle(overlap[marking], np.mean),
        "overlap_by_chance": _middle(by_chance, np.mean),
        "auc": _middle(auc, np.median),
        "auc_by_chance": _middle(auc_by_chance, np.median),
        "marking": len(marking),
        "specific_a": int((table["specific"] == "a").sum()),
        "specific_b": int((table["specific"] == "b").sum()),
        **shares,
    }
    names = tuple(str(one.uns["provenance"]["dataset"]) for one in (a, b))
    return AtlasComparison((names[0], names[1]), table, figures, cells)


def check_one_sae(a: AnnData, b: AnnData) -> None:
    """Refuse atlases of different SAEs in a sentence."""
    saes = [str(one.uns["provenance"]["sae"]) for one in (a, b)]
    if saes[0] != saes[1] or a.n_vars != b.n_vars:
        names = " and ".join(str(one.uns["provenance"]["dataset"]) for one in (a, b))
        raise UsageError(
            f"the atlases of {names} are of different SAEs ({saes[0][:12]}, {saes[1][:12]}), whose latents have "
            "nothing in common; make both with one SAE."
        )


def types_of(atlas: AnnData) -> Any:
    """Cell type of each cell in the common vocabulary, its label where that has none."""
    obs = pd.DataFrame(atlas.obs)
    labels = obs["label"].astype(object)
    return obs["cell_type"].astype(object).fillna(labels) if "cell_type" in obs else labels


def reference_shares(atlas: AnnData, types: list[str]) -> NDArray[np.float64]:
    """(m, C) share of each cell type among a latent's reference cells, weighted by their values; rows of 0: unknown."""
    reference = atlas.uns["reference_cells"]
    rows, values = np.asarray(reference["rows"]), np.asarray(reference["values"], np.float64)
    now = atlas.obs_names.get_indexer(np.asarray(reference["cell_ids"]))
    codes = np.append(pd.Categorical(types_of(atlas), types).codes.astype(np.int64)[now], -1)
    codes[:-1][now < 0] = -1
    of = codes[rows]  # the last entry stands for -1, no cell
    sums = np.zeros((len(rows), len(types)))
    latents, places = np.nonzero((of >= 0) & (values > 0))
    np.add.at(sums, (latents, of[latents, places]), values[latents, places])
    total = sums.sum(1, keepdims=True)
    return np.divide(sums, total, out=np.zeros_like(sums), where=total > 0)


def unusual_cells(a: AnnData, b: AnnData) -> tuple[pd.DataFrame, dict[str, float]]:
    """How unusual the active latents of each cell of b are by their frequencies on a.

    A cell's unusualness is the mean over its active latents of -ln((k + 1) / (n + 2)), k of a's n cells having the
    latent. A cell is unusual beyond the `UNUSUAL` quantile of a's own cells.

    Returns
    -------
    tuple (DataFrame, dict of str to float)
        The cells of b, most unusual first, and the shares ``unusual_a`` and ``unusual_b``.
    """
    if any(PART in one.uns["provenance"] for one in (a, b)) or not a.n_obs:
        nothing = pd.DataFrame({"unusualness": [], "unusual": []}, index=pd.Index([], name="cell_id"))
        return nothing, {"unusual_a": float("nan"), "unusual_b": float("nan")}
    rarity = -np.log((a.var["cells_active"].to_numpy() + 1) / (a.n_obs + 2))
    own, theirs = (_mean_rarity(one, rarity) for one in (a, b))
    limit = np.quantile(own, UNUSUAL)
    cells = pd.DataFrame({"unusualness": theirs, "unusual": theirs > limit}, index=b.obs_names)
    shares = {"unusual_a": float((own > limit).mean()), "unusual_b": float((theirs > limit).mean())}
    return cells.sort_values("unusualness", ascending=False, kind="stable"), shares


def _mean_rarity(atlas: AnnData, rarity: NDArray[np.float64]) -> NDArray[np.float64]:
    means = np.zeros(atlas.n_obs)
    for start, block in row_blocks(atlas.X):
        n = len(block.indptr) - 1
        active = sp.csr_array((np.ones(block.nnz), block.indices, block.indptr), shape=block.shape)
        counts = np.diff(block.indptr)
        means[start : start + n] = (active @ rarity) / np.maximum(counts, 1)
    return means


def _frequencies(a: AnnData, b: AnnData) -> pd.DataFrame:
    """Frequencies and means of both, and the two-proportion z-test of the frequencies, corrected for all latents."""
    k_a, k_b = (np.asarray(one.var["cells_active"], np.float64) for one in (a, b))
    f_a, f_b = k_a / max(a.n_obs, 1), k_b / max(b.n_obs, 1)
    pooled = (k_a + k_b) / max(a.n_obs + b.n_obs, 1)
    error = np.sqrt(pooled * (1 - pooled) * (1 / max(a.n_obs, 1) + 1 / max(b.n_obs, 1)))
    z = np.divide(f_a - f_b, error, out=np.zeros_like(error), where=error > 0)
    from scipy import stats  # takes half a second, and reading needs it not

    q = stats.false_discovery_control(2 * stats.norm.sf(np.abs(z)))
    found = q <= FDR
    specific = np.where(found & (f_a >= FOLD * f_b), "a", np.where(found & (f_b >= FOLD * f_a), "b", ""))
    return pd.DataFrame(
        {
            "frequency_a": f_a,
            "frequency_b": f_b,
            "mean_a": np.asarray(a.var["mean_activation"], np.float64),
            "mean_b": np.asarray(b.var["mean_activation"], np.float64),
            "q": q,
            "specific": specific,
        },
        index=pd.Index(a.var_names.astype(int), name="latent"),
    )


def _aucs(
    b: AnnData, types: list[str], marks: NDArray[np.integer], rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """AUC on b of each latent for the type that it marks, and for one that another latent marks."""
    unknown = np.full(len(marks), np.nan)
    if PART in b.uns["provenance"]:
        return unknown, unknown
    codes = pd.Categorical(types_of(b), types).codes.astype(np.int64)
    marking = marks >= 0
    dealt = marks.copy()
    dealt[marking] = rng.permutation(marks[marking])
    if not b.n_obs:
        return unknown, unknown
    matrix = sp.csc_array(sp.vstack([block for _, block in row_blocks(b.X)]))
    return column_aucs(matrix, codes, marks), column_aucs(matrix, codes, dealt)


def _correlation(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    return float(np.corrcoef(x, y)[0, 1]) if len(x) > 1 and x.std() > 0 and y.std() > 0 else float("nan")


def _middle(values: NDArray[np.float64], of: Any) -> float:
    known = values[np.isfinite(values)]
    return float(of(known)) if len(known) else float("nan")

"""Has what comes in changed? New cells against old ones of one SAE: concepts, case mix, stain and focus, told apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.stats import false_discovery_control

from cytosae.atlas.comparing.carried_latents import PART, check_one_sae, types_of
from cytosae.atlas.comparing.stratified_tests import Sample, Shift, shared_types, shares, within_types
from cytosae.atlas.stored.matrix import read_rows
from cytosae.common.errors import UsageError

if TYPE_CHECKING:
    from anndata import AnnData

FDR = 0.01
SMALLEST = {"cells": 0.2, "patients": 0.8}
"""Smallest size of a drift, in standard deviations of cells or of patients, that is called."""
SMALLEST_SHARE = 0.05
"""Smallest change of the share of a cell type that is called."""
BLOCK = 4096
"""Latents tested at a time."""


@dataclass(frozen=True)
class Drift:
    """What has changed from old to new.

    Attributes
    ----------
    concepts : DataFrame
        Index latent; for each of ``frequency`` (share of cells on which it is active) and ``strength`` (mean activation
        of all cells): the difference new - old within cell types, ``_size`` in standard deviations of old units and
        ``_q``; ``drifted``.
    mix : DataFrame
        Index cell type; ``old``, ``new`` (shares), ``q``, ``drifted``.
    looks : DataFrame
        Index colours and sharpness; ``difference``, ``size``, ``q``, ``drifted``, within cell types; and
        ``unreconstructed`` where it was measured. Empty without images and tokens.
    units : str
        "patients" or "cells".
    adjusted : int
        Cell types within which was compared; 1 with ``""`` alone where cells have no types.
    left_out : int
        New cells of types that are too rare on one side, which took no part.
    called : dict of str to bool or None
        ``stain``, ``focus``, ``case mix``, ``unknown to the SAE``; None for what could not be looked at.
    """

    concepts: pd.DataFrame
    mix: pd.DataFrame
    looks: pd.DataFrame
    units: str
    adjusted: int
    left_out: int
    called: dict[str, bool | None]

    @property
    def sentences(self) -> list[str]:
        """What was found, in plain words."""
        return _sentences(self)


def measure_drift(new: AnnData, old: AnnData, *, looks: tuple[pd.DataFrame, pd.DataFrame] | None = None) -> Drift:
    """Compare the cells of ``new`` with those of ``old``, concept by concept; docs/atlas.md has the rules.

    Parameters
    ----------
    new, old : AnnData
        Atlases of one SAE, whole or backed.
    looks : tuple of DataFrame or None
        Of new and old cells (index cell_id, some cells of each will do): columns of `cytosae.cells.looks.LOOKS`, and
        ``unreconstructed`` where it is known.

    Raises
    ------
    UsageError
        The atlases are of different SAEs, know some cells only, or share no cell type with enough cells.
    """
    check_one_sae(new, old)
    for one in (new, old):
        if PART in one.uns["provenance"]:
            raise UsageError("drift needs the activations of all cells, which an imported atlas lacks.")
    names, of_new, of_old = _samples(new, old)
    kept = shared_types(of_new, of_old)
    if not len(kept):
        raise UsageError(
            "the atlases have no cell type in common with enough cells; drift cannot be told from case mix."
        )
    concepts, units = _concepts(new, old, of_new, of_old)
    mix = _mix(shares(of_new, of_old, len(names)), names, of_new, of_old)
    table = _looks(looks, new, old, of_new, of_old)
    return Drift(
        concepts=concepts,
        mix=mix,
        looks=table,
        units=units,
        adjusted=len(kept),
        left_out=int((~np.isin(of_new.types, kept)).sum()),
        called={
            "stain": _any(table, [name for name in table.index if str(name).endswith("_mean")]),
            "focus": _any(table, ["sharpness"]),
            "case mix": bool(mix["drifted"].any()) if len(names) > 1 else None,
            "unknown to the SAE": _any(table, ["unreconstructed"]),
        },
    )


def _samples(new: AnnData, old: AnnData) -> tuple[list[str], Sample, Sample]:
    """Names of the types, and both sides; one type for all cells where either side has none."""
    types = [types_of(one) for one in (new, old)]
    typed = all(column.notna().any() for column in types)
    names = sorted({str(name) for column in types for name in column.dropna()}) if typed else [""]
    sides = []
    for one, column in zip((new, old), types, strict=True):
        codes = pd.Categorical(column, names).codes.astype(np.int64) if typed else np.zeros(one.n_obs, np.int64)
        obs = pd.DataFrame(one.obs)
        patients = pd.factorize(obs["patient"].astype(object))[0] if "patient" in obs else np.full(one.n_obs, -1)
        sides.append(Sample(codes, patients.astype(np.int64)))
    return names, sides[0], sides[1]


def _concepts(new: AnnData, old: AnnData, of_new: Sample, of_old: Sample) -> tuple[pd.DataFrame, str]:
    parts, units = [], ""
    matrices: list[Any] = [sp.csc_array(read_rows(one.X)) for one in (new, old)]
    for start in range(0, new.n_vars, BLOCK):
        values = [matrix[:, start : start + BLOCK].tocsr() for matrix in matrices]
        active = [sp.csr_array((np.ones_like(v.data), v.indices, v.indptr), shape=v.shape) for v in values]
        frequency = within_types(active[0], active[1], of_new, of_old)
        strength = within_types(values[0], values[1], of_new, of_old)
        units = strength.units
        parts.append(
            pd.DataFrame(
                {
                    "frequency": frequency.difference,
                    "frequency_size": frequency.size,
                    "frequency_q": frequency.p,
                    "strength": strength.difference,
                    "strength_size": strength.size,
                    "strength_q": strength.p,
                }
            )
        )
    table = pd.concat(parts, ignore_index=True)
    corrected = false_discovery_control(table[["frequency_q", "strength_q"]].to_numpy().ravel()).reshape(-1, 2)
    table[["frequency_q", "strength_q"]] = corrected
    sizes = table[["frequency_size", "strength_size"]].abs().to_numpy()
    table["drifted"] = ((corrected <= FDR) & (sizes >= SMALLEST[units])).any(1)
    table.index = pd.Index(new.var_names.astype(int), name="latent")
    return table, units


def _mix(shift: Shift, names: list[str], of_new: Sample, of_old: Sample) -> pd.DataFrame:
    q = false_discovery_control(shift.p)
    table = {
        side: np.bincount(of.types[of.types >= 0], minlength=len(names)) / max((of.types >= 0).sum(), 1)
        for side, of in (("old", of_old), ("new", of_new))
    }
    drifted = (q <= FDR) & (np.abs(shift.difference) >= SMALLEST_SHARE)
    index = pd.Index(names, name="cell type")
    return pd.DataFrame({**table, "q": q, "drifted": drifted & (len(names) > 1)}, index=index)


def _looks(
    looks: tuple[pd.DataFrame, pd.DataFrame] | None, new: AnnData, old: AnnData, of_new: Sample, of_old: Sample
) -> pd.DataFrame:
    empty = pd.DataFrame({"difference": [], "size": [], "q": [], "drifted": []})
    if looks is None or any(table.empty for table in looks):
        return empty
    sides: list[Sample] = []
    values: list[Any] = []
    for table, one, of in zip(looks, (new, old), (of_new, of_old), strict=True):
        at = one.obs_names.get_indexer(table.index)
        sides.append(Sample(of.types[at[at >= 0]], of.patients[at[at >= 0]]))
        values.append(table[at >= 0])
    columns = [name for name in values[0].columns if name in values[1].columns]
    if not len(shared_types(*sides)):
        return empty
    ours, theirs = (table[columns].to_numpy(np.float64) for table in values)
    shift = within_types(ours, theirs, *sides)
    q = false_discovery_control(shift.p)
    drifted = (q <= FDR) & (np.abs(shift.size) >= SMALLEST[shift.units])
    found = {"difference": shift.difference, "size": shift.size, "q": q, "drifted": drifted}
    return pd.DataFrame(found, index=pd.Index(columns))


def _any(table: pd.DataFrame, names: list[Any]) -> bool | None:
    known = [name for name in names if name in table.index]
    return bool(table.loc[known, "drifted"].any()) if known else None


def _sentences(found: Drift) -> list[str]:
    n = int(found.concepts["drifted"].sum())
    within = f"within {found.adjusted} cell types" if len(found.mix) > 1 else "without cell types to compare within"
    said = [f"{n:,} of {len(found.concepts):,} concepts have drifted, {within}, with {found.units} as units."]
    if found.called["stain"]:
        said.append(f"The stain or camera has changed: {_listed(found.looks, '_mean')}.")
    if found.called["focus"]:
        way = "less" if found.looks.loc["sharpness", "difference"] < 0 else "more"
        said.append(f"The focus has changed: images are {way} sharp than before.")
    if found.called["unknown to the SAE"]:
        more = "more" if found.looks.loc["unreconstructed", "difference"] > 0 else "less"
        said.append(f"The SAE leaves {more} of the cells unexplained than before.")
    if found.called["case mix"]:
        changed: Any = found.mix[found.mix["drifted"]]
        words = [f"{name} {old:.0%} -> {new:.0%}" for name, old, new in changed[["old", "new"]].itertuples()]
        said.append(f"The mixture of cells has changed: {', '.join(words)}.")
    if found.left_out:
        said.append(f"{found.left_out:,} new cells are of types too rare to compare.")
    if not n and not any(found.called.values()):
        said.append("Nothing has changed as far as this can tell.")
    elif n and not any(found.called.values()):
        looked = all(found.called[name] is not None for name in ("stain", "focus"))
        said.append(
            "Colour, sharpness and case mix have not changed: the cells themselves may differ."
            if looked
            else "Without images it cannot be told whether stain, focus or the cells themselves have changed."
        )
    return said


def _listed(looks: pd.DataFrame, ending: str) -> str:
    names: NDArray[Any] = looks.index[looks["drifted"] & looks.index.str.endswith(ending)].to_numpy()
    return ", ".join(
        f"{name.removesuffix(ending)} {'brighter' if looks.loc[name, 'difference'] > 0 else 'darker'} "
        f"by {abs(looks.loc[name, 'difference']):.0f} of 255"
        for name in names
    )

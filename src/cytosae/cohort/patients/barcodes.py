"""Barcodes: what each patient's cells show of each concept, as a patients x latents AnnData."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray

from cytosae.atlas.stored.matrix import layer_names, read_array_rows, read_rows, stored_entries
from cytosae.atlas.stored.storage import write_h5ad
from cytosae.cohort.config import Kind
from cytosae.cohort.patients.diagnoses import diagnosis_of_patients, near_duplicates
from cytosae.common.artifact import read_artifact, write_file_artifact
from cytosae.common.errors import InputError, UsageError
from cytosae.common.records import reading

Scaling = Literal["cells", "published"]
KINDS: tuple[Kind, ...] = ("presence", "mean", "count")
BLOCK_ENTRIES = 1 << 22
"""Entries of cells x latents, stored or as sums of patients, that are worked on at a time."""
BLOCK_LATENTS = 2048
"""Latents whose statistics over patients are computed at a time."""


def barcodes(
    atlas: ad.AnnData,
    *,
    kinds: Sequence[Kind] = KINDS,
    patient: str = "patient",
    diagnosis: str | None = "diagnosis",
    scaling: Scaling = "cells",
    cells: NDArray[np.bool_] | None = None,
    min_cells: int = 1,
) -> ad.AnnData:
    """Sum up the cells of each patient, latent by latent.

    With a patient's n cells, latent j, c_ij = number of the tokens of cell i whose activation is > tau, and A_ij the
    mean activation of the cell:

    * ``presence``: (1/n) sum_i [c_ij > 0], the share of cells with the concept;
    * ``mean``: (1/n) sum_i A_ij;
    * ``count``: (1/n) sum_i c_ij, tokens with the concept per cell; with ``scaling="published"`` (1/m) sum_i c_ij, m
      the number of latents, as in the published code, where patients with more images have larger barcodes.

    Standard errors are those of resampling the patient's cells with replacement, in closed form: sqrt(v / n), v the
    variance of the summands over the n cells (divisor n); the sum of ``published`` has n / m times that.

    Parameters
    ----------
    atlas : AnnData
        Cells x latents, with ``layers["tokens_above"]`` for presence and count; opened with ``backed="r"``, its cells
        are read in blocks of patients.
    kinds : sequence of {"presence", "mean", "count"}
        Which barcodes; the first becomes ``X``.
    patient, diagnosis : str, str or None
        Columns of ``obs``; ``diagnosis=None`` where there is none.
    scaling : {"cells", "published"}
        Of ``count``.
    cells : ndarray of bool, shape (n,), or None
        Cells to use (immature cells only, for instance); all where None.
    min_cells : int
        Patients with fewer cells are left out and named in ``uns["barcode"]["left_out"]``.

    Returns
    -------
    AnnData, shape (patients, m), float32
        Dense, patients sorted by name: ``layers[kind]``, ``layers[kind + "_se"]``; ``obs`` with ``diagnosis``,
        ``n_cells`` and every column that is the same for all cells of each patient (gaps aside); ``obsm["cell_types"]``
        shares of the labels among the labelled cells (NaN where a patient has none), ``obsm ["X_backbone"]`` mean
        token; ``uns["barcode"]`` how it was made and ``notes``, sentences about what was left out or looks wrong.

    Raises
    ------
    InputError
        no patient column, no cell with a patient, a patient with two diagnoses, or nobody with ``min_cells`` cells.
    UsageError
        an unknown kind or scaling.
    """
    _check(kinds, scaling)
    owners = _owners(atlas, patient, cells, max(min_cells, 1))
    rows, codes = owners.rows, owners.codes
    of_cells = pd.DataFrame(atlas.obs).iloc[rows]
    obs = _observations(of_cells.drop(columns=patient), codes, owners.patients, diagnosis)
    layers = {}
    for kind in kinds:
        layers[kind], layers[f"{kind}_se"] = _moments(atlas, kind, rows, obs["n_cells"].to_numpy(), scaling)
    result = ad.AnnData(X=layers[kinds[0]].copy(), obs=obs, var=pd.DataFrame(atlas.var).copy(), layers=layers)
    result.obsm["cell_types"] = _shares(of_cells, codes, obs.index)
    if "X_backbone" in atlas.obsm:
        result.obsm["X_backbone"] = _mean_tokens(atlas.obsm["X_backbone"], rows, codes, len(obs))
    provenance = dict(atlas.uns.get("provenance", {}))
    result.uns["provenance"] = provenance
    result.uns["barcode"] = {
        "kinds": np.array(list(kinds), dtype=object),
        "scaling": scaling,
        "tau": float(provenance.get("tau", np.nan)),
        "patient": patient,
        "diagnosis": diagnosis or "",
        "dropped_cells": owners.dropped,
        "left_out": np.array(owners.left_out, dtype=object),
        "notes": np.array(_notes(owners, max(min_cells, 1), obs), dtype=object),
    }
    return result


def cell_matrix(atlas: ad.AnnData, kind: Kind, rows: NDArray[np.int64] | None = None) -> sp.csr_array:
    """[cells, m] CSR float64 whose mean over a patient's cells is the patient's barcode (per cell scaling).

    ``rows`` are the cells wanted, in this order; all where None.

    Raises
    ------
    InputError
        the atlas has no token counts and ``kind`` needs them.
    UsageError
        an unknown kind.
    """
    _check([kind], "cells")
    if kind == "mean":
        return sp.csr_array(read_rows(atlas.X, rows), dtype=np.float64)
    if "tokens_above" not in atlas.layers:
        raise InputError(
            f"This atlas does not count tokens above tau, which the barcode {kind!r} needs; build the atlas again."
        )
    counts = sp.csr_array(read_rows(atlas.layers["tokens_above"], rows), dtype=np.float64)
    if kind == "presence":
        counts = sp.csr_array(((counts.data > 0).astype(np.float64), counts.indices, counts.indptr), shape=counts.shape)
    counts.eliminate_zeros()
    return counts


def layer(barcodes: ad.AnnData, kind: Kind) -> NDArray[np.float32]:
    """(P, m) barcode of one kind, dense."""
    if kind not in barcodes.layers:
        made = ", ".join(name for name in layer_names(barcodes) if not name.endswith("_se"))
        raise UsageError(f"there is no barcode {kind!r} here; make it, or choose among: {made}.")
    return np.asarray(barcodes.layers[kind])


def patient_correlation(barcodes: ad.AnnData, kind: Kind | None = None, *, centred: bool = False) -> pd.DataFrame:
    """Pearson correlation of the patients' barcodes over the latents, [patients, patients]; NaN for a constant barcode.

    Parameters
    ----------
    kind : {"presence", "mean", "count"} or None
        Which barcode, None for ``X``.
    centred : bool
        Take the mean barcode of all patients out first. What all smears share makes every correlation about 1; centred
        ones show who differs from the mean in the same way.
    """
    values = np.asarray(barcodes.X if kind is None else barcodes.layers[kind], dtype=np.float64)
    if centred:
        values = values - values.mean(0)
    size = float(np.abs(values).max(initial=0)) or 1.0
    values = values - values.mean(1, keepdims=True)
    length = np.sqrt((values**2).sum(1, keepdims=True))
    # What is left of equal numbers is rounding, not a direction.
    constant = length <= 1e-12 * np.sqrt(values.shape[1]) * size
    unit = np.divide(values, length, out=np.full_like(values, np.nan), where=~constant)
    names = pd.Index(barcodes.obs_names, name="patient")
    return pd.DataFrame(np.clip(unit @ unit.T, -1, 1), index=names, columns=names)


def save_cohort(
    barcodes: ad.AnnData, path: Path, *, config: Any = None, inputs: Mapping[str, str] | None = None
) -> Path:
    """Write barcodes as a ``.h5ad`` artifact of kind "cohort"; it appears at ``path`` complete or not at all."""
    details = {"patients": barcodes.n_obs, "latents": barcodes.n_vars, "cells": int(barcodes.obs["n_cells"].sum())}
    with write_file_artifact(path, "cohort", config=config, inputs=inputs, details=details) as temporary:
        write_h5ad(barcodes, temporary, path)
    return path


def open_cohort(path: Path | str, *, verify: bool = True) -> ad.AnnData:
    """Open a cohort artifact; refuses another kind, a newer schema and (with ``verify``) a damaged file."""
    path = read_artifact(path, "cohort", verify=verify).path
    with reading(path, "run the step again"):
        return ad.read_h5ad(path)


def _check(kinds: Sequence[str], scaling: str) -> None:
    for kind in kinds:
        if kind not in KINDS:
            raise UsageError(f"there is no barcode {kind!r}; choose among: {', '.join(KINDS)}.")
    if not kinds:
        raise UsageError(f"no kind of barcode is asked for; choose among: {', '.join(KINDS)}.")
    if scaling not in ("cells", "published"):
        raise UsageError(f"there is no scaling {scaling!r}; choose cells or published.")


@dataclass(frozen=True)
class _Owners:
    """Rows of the cells to use, sorted by patient, and the number of each one's patient in ``patients``, by name."""

    rows: NDArray[np.int64]
    codes: NDArray[np.int64]
    patients: NDArray[np.str_]
    dropped: int
    left_out: list[str]


def _owners(atlas: ad.AnnData, patient: str, cells: NDArray[np.bool_] | None, least: int) -> _Owners:
    if patient not in atlas.obs:
        raise InputError(
            f"The cells have no column {patient!r}, so nothing says whose they are; name the column of the patients "
            f"(there are: {', '.join(map(str, atlas.obs.columns))})."
        )
    names = atlas.obs[patient].astype(object).map(str, na_action="ignore").replace("", None).to_numpy(dtype=object)
    known = pd.notna(names)
    if not known.any():
        raise InputError(
            f"No cell has a patient (column {patient!r} is empty); a cohort needs to know whose cells are whose."
        )
    wanted = np.ones(len(names), bool) if cells is None else np.asarray(cells, bool)
    if wanted.shape != names.shape:
        raise InputError(
            f"cells has the shape {wanted.shape}, but the atlas has {len(names)} cells; give one value a cell."
        )
    usable = np.flatnonzero(known & wanted)
    found, counts = np.unique(names[usable].astype(str), return_counts=True)
    patients = found[counts >= least]
    if not len(patients):
        raise InputError(
            f"No patient has {least} usable cells (the most any has is {counts.max(initial=0)}); lower min_cells or "
            "choose other cells."
        )
    codes = pd.Index(patients.astype(object)).get_indexer(pd.Index(names[usable]))
    order = np.argsort(codes, kind="stable")[(codes < 0).sum() :]
    left_out = sorted(set(names[known]) - set(patients.tolist()))
    return _Owners(usable[order], codes[order], patients, int((~known & wanted).sum()), left_out)


def _observations(
    of_cells: pd.DataFrame, codes: NDArray[np.int64], patients: NDArray[np.str_], diagnosis: str | None
) -> pd.DataFrame:
    index = pd.Index(patients.astype(object), name="patient")
    obs = pd.DataFrame(index=index)
    if diagnosis is not None:
        obs["diagnosis"] = pd.Categorical(diagnosis_of_patients(of_cells, codes, patients, diagnosis))
    obs["n_cells"] = np.bincount(codes, minlength=len(patients))
    grouped = of_cells.groupby(codes)
    for name in of_cells.columns:
        # Where other than the column "patient" says whose cells they are, that column cannot stand beside the index.
        if name in (*obs.columns, obs.index.name, "label", diagnosis):
            continue
        if (grouped[name].nunique(dropna=True) <= 1).all():
            values = grouped[name].first().array
            text = not pd.api.types.is_numeric_dtype(of_cells[name].dtype)
            # Only categories may have gaps in a h5ad file.
            obs[str(name)] = pd.Categorical([None if pd.isna(v) else str(v) for v in values]) if text else values
    return obs


def _moments(
    atlas: ad.AnnData, kind: Kind, rows: NDArray[np.int64], counts: NDArray[np.int64], scaling: Scaling
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Barcodes and standard errors, (P, m) each; ``rows`` are sorted by patient, ``counts`` (P,) cells of each."""
    P, m = len(counts), atlas.n_vars
    barcode, error = np.zeros((P, m), np.float32), np.zeros((P, m), np.float32)
    ends = np.cumsum(counts)
    factor = counts / m if kind == "count" and scaling == "published" else np.ones(P)
    for start, stop in _blocks(atlas, kind, rows, ends):
        first = 0 if start == 0 else ends[start - 1]
        values = cell_matrix(atlas, kind, rows[first : ends[stop - 1]])
        n, scale = counts[start:stop, None], factor[start:stop, None]
        offsets = np.concatenate([[0], np.cumsum(counts[start:stop])])
        pool = sp.csr_array((np.ones(offsets[-1]), np.arange(offsets[-1]), offsets), shape=(stop - start, offsets[-1]))
        mean = sp.csr_array(pool @ values).toarray() / n
        if kind == "presence":
            square = mean  # its values are 0 and 1
        else:
            values.data **= 2
            square = sp.csr_array(pool @ values).toarray() / n
        variance = np.clip(square - mean**2, 0, None)
        # Equal values leave rounding of their squares behind.
        variance[variance < 1e-12 * square] = 0
        barcode[start:stop] = mean * scale
        error[start:stop] = np.sqrt(variance / n) * scale
    return barcode, error


def _blocks(atlas: ad.AnnData, kind: Kind, rows: NDArray[np.int64], ends: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Stretches of patients whose cells and sums have at most `BLOCK_ENTRIES` entries (a patient is never split)."""
    matrix = atlas.X if kind == "mean" or "tokens_above" not in atlas.layers else atlas.layers["tokens_above"]
    stored = stored_entries(matrix)[rows]
    size = np.diff(np.concatenate([[0], np.cumsum(stored, dtype=np.int64)[ends - 1]])) + atlas.n_vars
    blocks, start, held = [], 0, 0
    for patient, entries in enumerate(size):
        if held and held + entries > BLOCK_ENTRIES:
            blocks.append((start, patient))
            start, held = patient, 0
        held += int(entries)
    return [*blocks, (start, len(size))]


def _shares(of_cells: pd.DataFrame, codes: NDArray[np.int64], patients: pd.Index) -> pd.DataFrame:
    """Shares of the labels among a patient's labelled cells; NaN where none is."""
    if "label" not in of_cells:
        return pd.DataFrame(index=patients)
    labels = of_cells["label"].astype(object).map(str, na_action="ignore").to_numpy()
    shares = pd.crosstab(codes, labels, normalize="index").reindex(range(len(patients)))
    return shares.set_axis(patients).set_axis(pd.Index(shares.columns.astype(str), name=None), axis=1)


def _mean_tokens(tokens: Any, rows: NDArray[np.int64], codes: NDArray[np.int64], n: int) -> NDArray[np.float32]:
    starts = np.searchsorted(codes, np.arange(n))
    ends = np.append(starts[1:], len(codes))
    means = [read_array_rows(tokens, rows[a:b]).mean(0, dtype=np.float64) for a, b in zip(starts, ends, strict=True)]
    return np.stack(means).astype(np.float32)


def _notes(owners: _Owners, least: int, obs: pd.DataFrame) -> list[str]:
    notes, left_out = [], owners.left_out
    if owners.dropped:
        notes.append(f"{owners.dropped} cells name no patient and are left out.")
    if left_out:
        more = f" and {len(left_out) - 5} more" if len(left_out) > 5 else ""
        notes.append(
            f"{len(left_out)} patients have fewer than {least} usable cells and are left out: "
            f"{', '.join(left_out[:5])}{more}."
        )
    if "diagnosis" in obs:
        pairs = near_duplicates(obs["diagnosis"].dropna().astype(str))
        notes += [f"The diagnoses {a!r} and {b!r} may be the same, spelled twice." for a, b in pairs]
        missing = int(obs["diagnosis"].isna().sum())
        if missing:
            notes.append(f"{missing} patients have no diagnosis.")
    return notes

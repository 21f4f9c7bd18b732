"""The patients of a cohort as arrays, and what a model sees of them; what is learnt is from training patients."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray

from cytosae.atlas.matrix import dense
from cytosae.cells.cell_types import harmonise
from cytosae.cells.stain.colour import COLOUR_COLUMNS
from cytosae.cohort.classification.folds import refuse_shared_cells
from cytosae.cohort.patients.barcodes import cell_matrix
from cytosae.cohort.patients.sessions import Sessions, imaging_sessions
from cytosae.cohort.stain.retest import Pairs, retest_pairs
from cytosae.common.errors import InputError

if TYPE_CHECKING:
    from anndata import AnnData

    from cytosae.cohort.config import Kind

Array = NDArray[np.float64]
Features = Callable[[NDArray[np.intp]], Any]
"""Training patients (row numbers) -> the features of all patients: [P, F], or a bag of cells each."""


@dataclass(frozen=True)
class CellArrays:
    """The cells behind the barcodes.

    Attributes
    ----------
    patient : [n] row number of each cell's patient
    types : [n] index of ``type_names``, -1 where the cell has no type
    type_names : harmonised cell types, or the labels where none is known
    colours : [n, 6] float64 or None
    tokens : [n, D] mean tokens
    matrices : kind -> CSR [n, m] whose mean over a patient's cells is the barcode
    means : CSR [n, m], mean activations
    """

    patient: NDArray[np.intp]
    types: NDArray[np.intp]
    type_names: tuple[str, ...]
    colours: Array | None
    tokens: NDArray[np.float32]
    matrices: Mapping[str, sp.csr_matrix]
    means: sp.csr_matrix

    def of_types(self, names: Sequence[str]) -> NDArray[np.bool_] | None:
        """Which cells are of these types, [n]; None where no cell can be."""
        codes = [code for code, name in enumerate(self.type_names) if name in names]
        return np.isin(self.types, codes) if codes else None


@dataclass(frozen=True)
class CohortArrays:
    """Everything that models are fitted on, one row a patient.

    Attributes
    ----------
    patients, classes : names; for two classes the second is the one whose log odds are modelled
    y : [P] int
    groups : [P] site, or imaging session, of each patient: kept together in all folds; None where nothing is known
    layers : kind -> [P, m] float64 barcodes
    cell_types : shares of the cell types, patients x types, or None
    tokens : [P, D] float64 mean token, or None
    confounders : name -> [P, c] float64 (NaN where unknown)
    cells : the cells, None where no atlas was given
    retest : kind, and "token" -> the same cells in two stains; None where they were not tested again
    notes : what could not be asked, a sentence each
    """

    patients: tuple[str, ...]
    classes: tuple[str, ...]
    y: NDArray[np.intp]
    groups: NDArray[np.generic] | None
    layers: Mapping[str, Array]
    cell_types: pd.DataFrame | None
    tokens: Array | None
    confounders: Mapping[str, Array]
    cells: CellArrays | None = None
    retest: Mapping[str, Pairs] | None = None
    notes: tuple[str, ...] = field(default=())


def gather(
    barcodes: AnnData,
    atlas: AnnData | None,
    colours: pd.DataFrame | None,
    *,
    kinds: Sequence[Kind],
    classes: Sequence[str] | None,
    positive: str | None,
    group: str | None,
    patient: str = "patient",
    retest: AnnData | None = None,
    sessions: bool = False,
) -> CohortArrays:
    """Check the patients and bring what is known of them into arrays.

    Parameters
    ----------
    barcodes : patients x latents, as `cytosae.cohort.patients.barcodes` makes them
    atlas : the cells behind them
    colours : `cytosae.cells.colour_statistics` of these cells
    kinds : layers to use
    classes : diagnoses to keep, None for all
    positive : of two classes the one whose log odds are modelled; None for the rarer
    group : column of ``barcodes.obs`` with the patients' sites
    patient : column of ``atlas.obs`` with the patients
    retest : `cytosae.cohort.open_retest`
    sessions : whether to group patients by imaging session where no ``group`` is named

    Raises
    ------
    InputError
        one row a patient is not so, a diagnosis or site is missing, cells or colours of a patient are not there, or an
        image stands under two patients.
    """
    names = [str(name) for name in barcodes.obs_names]
    twice = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if twice:
        raise InputError(f"the patient {twice[0]!r} has two rows, so that it would be in two folds; give it one row.")
    missing_kinds = [kind for kind in kinds if kind not in barcodes.layers]
    if missing_kinds:
        raise InputError(f"the barcodes have no layer {missing_kinds[0]!r}; make them anew with this kind.")
    if atlas is not None:
        refuse_shared_cells(_frame(atlas.obs), patient=patient, tokens=dense(atlas.obsm.get("X_backbone")))
    diagnosis: Any = _diagnoses(barcodes, names)
    if classes is not None:
        keep = diagnosis.isin(list(classes)).to_numpy()
        barcodes, diagnosis = barcodes[keep], diagnosis[keep]
        names = [name for name, kept in zip(names, keep, strict=True) if kept]
    order = _class_order(diagnosis, classes, positive)
    notes: list[str] = []
    cells = None if atlas is None else _cells(atlas, colours, names, kinds, patient)
    imaged = _sessions(atlas, names, patient)
    confounders = _confounders(barcodes, atlas, cells, names, patient, notes, imaged)
    y = np.array([order.index(value) for value in diagnosis], dtype=np.intp)
    groups = _groups(barcodes, group, names)
    if imaged is not None and sessions and groups is None:
        groups = _by_session(imaged, y, order, notes)
    return CohortArrays(
        patients=tuple(names),
        classes=tuple(order),
        y=y,
        groups=groups,
        layers={kind: dense(barcodes.layers[kind], np.float64) for kind in kinds},
        cell_types=_type_shares(barcodes, cells, names),
        tokens=dense(barcodes.obsm.get("X_backbone"), np.float64),
        confounders=confounders,
        cells=cells,
        retest=None if retest is None else retest_pairs(retest, names, kinds, patient=patient),
        notes=tuple(notes),
    )


def mean_by_patient(matrix: Any, patient: NDArray[np.intp], n_patients: int, keep: Any = None) -> Array:
    """Mean of cells' rows [n, m] for each patient, [P, m]; NaN for a patient without (kept) cells."""
    keep = np.ones(len(patient), dtype=bool) if keep is None else keep
    rows = np.flatnonzero(keep)
    counts = np.bincount(patient[rows], minlength=n_patients)
    weights = 1 / counts[patient[rows]]
    selector = sp.csr_matrix((weights, (patient[rows], rows)), shape=(n_patients, len(patient)))
    product = selector @ matrix
    means = np.asarray(product.todense() if sp.issparse(product) else product, dtype=np.float64)
    means[counts == 0] = np.nan
    return means


def fixed(matrix: Array) -> Features:
    """Features that need no fitting."""
    return lambda train: matrix


def residual(matrix: Array, covariates: Array) -> Features:
    """Features less what the covariates explain of them by least squares among the training patients."""

    def features(train: NDArray[np.intp]) -> Array:
        return residuals_on(covariates, matrix, train)

    return features


def residuals_on(covariates: Array, values: Array, train: NDArray[np.intp]) -> Array:
    """``values`` [P, F] less a linear fit on ``covariates`` [P, c] that was made on the rows ``train``.

    Missing covariates stand at the training mean; collinear ones are handled by the pseudo-inverse.
    """
    centre = np.nan_to_num(np.nanmean(covariates[train], axis=0)) if covariates.shape[1] else np.zeros(0)
    filled = np.where(np.isnan(covariates), centre, covariates) - centre
    scale = filled[train].std(0)
    design = np.hstack([np.ones((len(values), 1)), filled[:, scale > 0] / scale[scale > 0]])
    known = np.where(np.isnan(values), np.nanmean(values[train], axis=0), values)
    beta = np.linalg.lstsq(design[train], known[train], rcond=1e-8)[0]
    return known - design @ beta


def cell_residual(data: CohortArrays, kind: Kind) -> Features:
    """Barcodes of cells from whose values their own colour is regressed out, by least squares on training patients.

    The mean over a patient's cells of the residuals is the barcode less the slope times the patient's mean colour, so
    that no dense matrix of cells x latents is made.
    """
    cells = data.cells
    if cells is None or cells.colours is None:
        raise ValueError("cell_residual needs the cells' colours")
    colours, patient, matrix = cells.colours, cells.patient, cells.matrices[kind]
    barcode = mean_by_patient(matrix, patient, len(data.patients))
    of_patient = mean_by_patient(colours, patient, len(data.patients))

    def features(train: NDArray[np.intp]) -> Array:
        mine = np.isin(patient, train)
        centre, scale = colours[mine].mean(0), np.maximum(colours[mine].std(0), 1e-9)
        design = (colours - centre) / scale * mine[:, None]
        slope = np.linalg.pinv(design.T @ design) @ np.asarray((matrix.T @ design).T)
        return barcode - (of_patient - centre) / scale @ slope

    return features


def _diagnoses(barcodes: AnnData, names: list[str]) -> pd.Series:
    if "diagnosis" not in barcodes.obs:
        raise InputError("the barcodes have no diagnosis; name the column of the cells' table that holds it.")
    diagnosis: Any = _frame(barcodes.obs)["diagnosis"].astype(object)
    absent = (diagnosis.isna() | diagnosis.astype(str).str.strip().isin(["", "nan", "<NA>"])).to_numpy()
    if absent.any():
        first = next(name for name, gone in zip(names, absent, strict=True) if gone)
        raise InputError(
            f"{int(absent.sum())} of {len(names)} patients have no diagnosis (first: {first!r}); add it, or leave them "
            "out."
        )
    return diagnosis.astype(str)


def _class_order(diagnosis: pd.Series, classes: Sequence[str] | None, positive: str | None) -> list[str]:
    counts = {str(name): int(n) for name, n in diagnosis.value_counts().items()}
    absent = [name for name in (classes or ()) if name not in counts]
    if absent:
        raise InputError(f"no patient has the diagnosis {absent[0]!r}; there are: {', '.join(sorted(counts))}.")
    order = sorted(counts)
    if positive is not None and positive not in order:
        raise InputError(f"positive is {positive!r}, a diagnosis of no patient; there are: {', '.join(order)}.")
    if len(order) == 2:
        last = positive or min(reversed(order), key=lambda name: counts[name])
        order = [name for name in order if name != last] + [last]
    return order


def _groups(barcodes: AnnData, group: str | None, names: list[str]) -> NDArray[np.generic] | None:
    if group is None:
        return None
    if group not in barcodes.obs:
        raise InputError(f"there is no column {group!r} that is one value for each patient; give the patients' sites.")
    column: Any = barcodes.obs[group]
    if column.isna().any():
        raise InputError(f"the patient {names[int(column.isna().to_numpy().argmax())]!r} has no {group}; add it.")
    return column.astype(str).to_numpy(dtype=str)


def _cells(
    atlas: AnnData, colours: pd.DataFrame | None, names: list[str], kinds: Sequence[Kind], patient: str
) -> CellArrays:
    rows = pd.Index(names).get_indexer(pd.Index(atlas.obs[patient].astype(str)))
    without = set(range(len(names))) - set(rows.tolist())
    if without:
        raise InputError(
            f"the atlas has no cells of the patient {names[min(without)]!r}; make the barcodes from it anew."
        )
    keep = np.flatnonzero(rows >= 0)
    types = cell_types_of(atlas).iloc[keep]
    codes, type_names = pd.factorize(types, sort=True)
    matrices = {kind: sp.csr_matrix(cell_matrix(atlas, kind))[keep] for kind in kinds}
    return CellArrays(
        patient=rows[keep],
        types=codes.astype(np.intp),
        type_names=tuple(map(str, type_names)),
        colours=None if colours is None else colours_of(atlas, colours)[keep],
        tokens=np.asarray(atlas.obsm["X_backbone"], dtype=np.float32)[keep],
        matrices=matrices,
        means=matrices["mean"] if "mean" in matrices else sp.csr_matrix(cell_matrix(atlas, "mean"))[keep],
    )


def cell_types_of(atlas: AnnData) -> pd.Series:
    """Harmonised cell type of each cell; its label where that has no harmonised name, NA where it has none."""
    obs: Any = atlas.obs
    label = obs["label"] if "label" in obs else pd.Series(pd.NA, index=atlas.obs_names)
    label = label.astype("string")
    known = obs["cell_type"].astype("string") if "cell_type" in obs else harmonise(label)
    return known.fillna(label)


def colours_of(atlas: AnnData, colours: pd.DataFrame) -> Array:
    """Colour statistics [n, 6] in the order of the atlas's cells; `InputError` where a cell has none."""
    absent = atlas.obs_names.difference(colours.index)
    if len(absent):
        raise InputError(
            f"{len(absent)} cells have no colour statistics (first: {str(absent[0])[:12]}); compute them for this "
            "table."
        )
    return colours.loc[atlas.obs_names, list(COLOUR_COLUMNS)].to_numpy(dtype=np.float64)


def _type_shares(barcodes: AnnData, cells: CellArrays | None, names: list[str]) -> pd.DataFrame | None:
    if cells is not None and (cells.types >= 0).any():
        known = cells.types >= 0
        one_hot = np.eye(len(cells.type_names))[np.maximum(cells.types, 0)]
        shares = mean_by_patient(one_hot, cells.patient, len(names), known)
        return pd.DataFrame(shares, index=pd.Index(names), columns=pd.Index(cells.type_names))
    if "cell_types" in barcodes.obsm and np.shape(barcodes.obsm["cell_types"])[1]:
        return _frame(barcodes.obsm["cell_types"])
    return None


def _confounders(
    barcodes: AnnData,
    atlas: AnnData | None,
    cells: CellArrays | None,
    names: list[str],
    patient: str,
    notes: list[str],
    imaged: Sessions | None,
) -> dict[str, Array]:
    found: dict[str, Array] = {}
    if cells is not None and cells.colours is not None:
        found["colour"] = mean_by_patient(cells.colours, cells.patient, len(names))
    else:
        notes.append("Colour was not asked about: no colour statistics of the cells were given.")
    obs = _frame(barcodes.obs)
    columns = {"age": _numbers(obs, "age"), "sex": _codes(obs, "sex"), "number of cells": _numbers(obs, "n_cells")}
    columns["image format"] = None if atlas is None else _formats(_frame(atlas.obs), names, patient)
    for name, values in columns.items():
        if values is None or (values.size and np.isnan(values).all()):
            notes.append(f"The {name} was not asked about: it is not known for these patients.")
        elif not values.shape[1] or (np.nanmax(values, 0) == np.nanmin(values, 0)).all():
            notes.append(f"The {name} tells nothing: it is the same for all patients.")
        else:
            found[name] = values
    if imaged is not None:
        found["order of imaging"] = imaged.order[:, None].astype(np.float64)
    return found


def _sessions(atlas: AnnData | None, names: list[str], patient: str) -> Sessions | None:
    if atlas is None or "image" not in atlas.obs:
        return None
    obs = _frame(atlas.obs)
    rows = pd.Index(names).get_indexer(pd.Index(obs[patient].astype(str)))
    return imaging_sessions(obs["image"].astype(str).to_numpy()[rows >= 0].tolist(), rows[rows >= 0], len(names))


def _by_session(
    imaged: Sessions, y: NDArray[np.intp], classes: Sequence[str], notes: list[str]
) -> NDArray[np.generic] | None:
    """Sessions as groups of patients; None, with a note, where a class has no patients in two of them."""
    together = imaged.describe([classes[int(k)] for k in y])
    if not together:
        return None
    few = [label for k, label in enumerate(classes) if len(np.unique(imaged.session[y == k])) < 2]
    if few:
        notes.append(
            f"All patients with {few[0]} were imaged in one session, by the numbers of their images ({together}): what "
            "tells them apart may be that day."
        )
        return None
    notes.append(
        f"By the numbers of their images, some patients were imaged together, session by session: {together}. The "
        "patients of a session are kept on one side of every split."
    )
    return imaged.session


def _numbers(obs: pd.DataFrame, column: str) -> Array | None:
    if column not in obs:
        return None
    values: Any = pd.to_numeric(obs[column].astype(object), errors="coerce")
    return np.asarray(values, dtype=np.float64)[:, None]


def _codes(obs: pd.DataFrame, column: str) -> Array | None:
    """One column 0 or 1 for each value but the first, NaN where unknown."""
    if column not in obs:
        return None
    values: Any = obs[column].astype("string").str.strip().str.lower()
    known = sorted(values.dropna().unique())
    columns = [(values == name).astype("Float64").to_numpy(dtype=np.float64, na_value=np.nan) for name in known[1:]]
    return np.stack(columns, axis=1) if columns else np.zeros((len(obs), 0))


def _formats(obs: pd.DataFrame, names: list[str], patient: str) -> Array:
    """Shares of each file suffix, pixel size and original size that at least two patients have."""
    rows = pd.Index(names).get_indexer(pd.Index(obs[patient].astype(str)))
    keep = rows >= 0
    texts: list[Any] = []
    if "image" in obs:
        texts.append(obs["image"].astype(str).str.extract(r"(\.\w+)$")[0].str.lower())
    if {"width", "height"} <= set(obs.columns):
        texts.append(obs["width"].astype(str) + "x" + obs["height"].astype(str))
    if "original_size" in obs:
        texts.append(obs["original_size"].astype(str))
    shares = []
    for text in texts:
        codes, values = pd.factorize(text[keep])
        table = mean_by_patient(np.eye(len(values) + 1)[codes], rows[keep], len(names))[:, : len(values)]
        common = (table > 0).sum(0) >= 2
        shares.append(table[:, common & (table.std(0) > 0)])
    return np.hstack(shares) if shares else np.zeros((len(names), 0))


def _frame(obs: Any) -> pd.DataFrame:
    return obs  # what AnnData holds in memory is a DataFrame; its annotation has one more type

"""The patients of a cohort as arrays, checked; everything that models are fitted on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray

from cytosae.atlas.stored.matrix import dense
from cytosae.cells.cell_types import harmonise
from cytosae.cells.stain.colour import COLOUR_COLUMNS
from cytosae.cohort.classification.colour_following import colour_following
from cytosae.cohort.classification.covariates import known_covariates
from cytosae.cohort.classification.features import Array, mean_by_patient, remembered
from cytosae.cohort.classification.leaks import refuse_shared_cells
from cytosae.cohort.config import ClassificationConfig
from cytosae.cohort.design import Design
from cytosae.cohort.patients.barcodes import cell_matrix
from cytosae.cohort.patients.sessions import Sessions, sessions_of
from cytosae.cohort.stain.retest import Pairs, retest_pairs
from cytosae.common.errors import InputError

if TYPE_CHECKING:
    from anndata import AnnData

BarcodesOf = Callable[[int, Sequence[str]], "AnnData"]
"""(number of the fold, its training patients) -> barcodes of all patients by an SAE trained on those alone."""
SESSION = "imaging session"


@dataclass(frozen=True)
class Controls:
    """Other SAEs on the same patients, that the one of a classification is compared with.

    Attributes
    ----------
    random : AnnData or None
        Barcodes by an SAE with random weights.
    retest : AnnData or None
        Some of the cells in two stains, by the same SAE (`cytosae.cohort.open_retest`).
    of_cells : mapping of str to AnnData
        Barcodes by the SAE of the classification, of the cells "painted out", "alone", and of the "background"
        (`cytosae.cohort.open_cell_controls`).
    barcodes_of : callable or None
        For the strict row: barcodes by an SAE that was trained without a fold's test patients. It is called with the
        number of the fold and the names of its training patients, folds x strict_repeats times.
    """

    random: AnnData | None = None
    retest: AnnData | None = None
    of_cells: Mapping[str, AnnData] = field(default_factory=dict)
    barcodes_of: BarcodesOf | None = None


@dataclass(frozen=True)
class CellArrays:
    """The cells behind the barcodes.

    Attributes
    ----------
    patient : ndarray of int64, shape (n,)
        Row number of each cell's patient.
    types : ndarray of int64, shape (n,)
        Index of ``type_names``, -1 where the cell has no type.
    type_names : tuple of str
        Harmonised cell types, or the labels where none is known.
    colours : ndarray of float64, shape (n, 6), or None
        Or None.
    tokens : ndarray of float32, shape (n, D)
        Mean tokens.
    matrices : mapping of str to csr_matrix
        Kind -> CSR [n, m] whose mean over a patient's cells is the barcode.
    means : csr_matrix
        CSR [n, m], mean activations.
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

    @cached_property
    def following(self) -> Callable[[NDArray[np.intp]], NDArray[np.bool_]]:
        """Training patients -> `colour_following`, kept, since every kind of barcode asks for it."""
        return remembered(lambda train: colour_following(self, train))


@dataclass(frozen=True)
class CohortArrays:
    """Everything that models are fitted on, one row a patient.

    Attributes
    ----------
    patients : tuple of str
        Names.
    design : Design
        Their classes (of two, the second is the one whose log odds are modelled), and who belongs together.
    layers : mapping of str to ndarray of float64
        Kind -> [P, m] float64 barcodes.
    cell_types : DataFrame or None
        Shares of the cell types, patients x types, or None.
    tokens : ndarray of float64, shape (P, D), or None
        Mean token, or None.
    confounders : mapping of str to ndarray of float64
        Name -> [P, c] float64 (NaN where unknown).
    cells : CellArrays or None
        The cells, None where no atlas was given.
    retest : mapping of str to Pairs or None
        Kind, and "token" -> the same cells in two stains; None where they were not tested again.
    random, random_retest : mapping of str to ndarray of float64, mapping of str to Pairs
        Layers and retest by an SAE with random weights, empty where there is none.
    of_cells : mapping of str to (mapping of str to ndarray of float64)
        What is painted out, alone, background -> kind, and "token" -> [P, m] or [P, D]; empty where nothing is known.
    alternative : Design or None
        The design in which imaging sessions are treated the other way; None where none are known.
    notes : tuple of str
        What could not be asked, a sentence each.
    """

    patients: tuple[str, ...]
    design: Design
    layers: Mapping[str, Array]
    cell_types: pd.DataFrame | None
    tokens: Array | None
    confounders: Mapping[str, Array]
    cells: CellArrays | None = None
    retest: Mapping[str, Pairs] | None = None
    random: Mapping[str, Array] = field(default_factory=dict)
    random_retest: Mapping[str, Pairs] = field(default_factory=dict)
    of_cells: Mapping[str, Mapping[str, Array]] = field(default_factory=dict)
    alternative: Design | None = None
    notes: tuple[str, ...] = ()

    @property
    def y(self) -> NDArray[np.integer]:
        """Class of each patient, shape (P,)."""
        return self.design.y

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        return self.design.classes


def gather(
    barcodes: AnnData,
    atlas: AnnData | None = None,
    colours: pd.DataFrame | None = None,
    *,
    classes: Sequence[str] | None = None,
    patient: str = "patient",
    retest: AnnData | None = None,
    controls: Controls | None = None,
    config: ClassificationConfig | None = None,
) -> CohortArrays:
    """Check the patients and bring what is known of them into arrays.

    Parameters
    ----------
    barcodes, atlas, colours : AnnData, AnnData or None, DataFrame or None
        Patients, cells and their colours, as for `cytosae.cohort.classify`.
    classes, patient : sequence of str or None, str
        Diagnoses to tell apart, and the column of the patients.
    retest, controls : AnnData or None, Controls or None
        What the models are held against.
    config : ClassificationConfig or None
        Which barcodes (``kinds``), which diagnosis is looked for (``positive``), who belongs together (``group``,
        ``sessions``).

    Raises
    ------
    InputError
        One row a patient is not so, a diagnosis or site is missing, cells or colours of a patient are not there, or an
        image stands under two patients.
    """
    config, controls = config or ClassificationConfig(), controls or Controls()
    names = [str(name) for name in barcodes.obs_names]
    twice = barcodes.obs_names[barcodes.obs_names.duplicated()]
    if len(twice):
        raise InputError(
            f"the patient {str(min(twice))!r} has two rows, so that it would be in two folds; give it one row."
        )
    for kind in config.kinds:
        if kind not in barcodes.layers:
            raise InputError(f"the barcodes have no layer {kind!r}; make them anew with this kind.")
    if atlas is not None:
        refuse_shared_cells(_frame(atlas.obs), patient=patient, tokens=dense(atlas.obsm.get("X_backbone")))
    diagnosis: Any = _diagnoses(barcodes, names)
    if classes is not None:
        keep = diagnosis.isin(list(classes)).to_numpy()
        barcodes, diagnosis = barcodes[keep], diagnosis[keep]
        names = [name for name, kept in zip(names, keep, strict=True) if kept]
    order = _class_order(diagnosis, classes, config.positive)
    y = np.array([order.index(value) for value in diagnosis], dtype=np.intp)
    cells = None if atlas is None else _cells(atlas, colours, names, config, patient)
    imaged = None if atlas is None else sessions_of(atlas, names, patient)
    confounders, unknown = known_covariates(_frame(barcodes.obs), atlas, patient)
    if cells is not None and cells.colours is not None:
        confounders = {"colour": mean_by_patient(cells.colours, cells.patient, len(names)), **confounders}
    else:
        unknown.insert(0, "Colour was not asked about: no colour statistics of the cells were given.")
    if imaged is not None:
        confounders["order of imaging"] = imaged.order[:, None].astype(np.float64)
    design, alternative, notes = _designs(y, tuple(order), _sites(barcodes, config.group), imaged, config)
    return CohortArrays(
        patients=tuple(names),
        design=design,
        layers={kind: dense(barcodes.layers[kind], np.float64) for kind in config.kinds},
        cell_types=_type_shares(barcodes, cells, names),
        tokens=dense(barcodes.obsm.get("X_backbone"), np.float64),
        confounders=confounders,
        cells=cells,
        retest=None if retest is None else retest_pairs(retest, names, config.kinds, patient=patient),
        random=_random(controls.random, names, config),
        of_cells={way: _of_cells(way, made, names, config) for way, made in controls.of_cells.items()},
        random_retest={}
        if controls.retest is None
        else retest_pairs(controls.retest, names, config.kinds, patient=patient),
        alternative=alternative,
        notes=(*unknown, *notes),
    )


def patient_groups(
    barcodes: AnnData, atlas: AnnData | None, config: ClassificationConfig, *, patient: str = "patient"
) -> pd.Series | None:
    """What keeps patients together, as asked: the site, or the imaging session, of each; None where nothing does.

    Returns
    -------
    Series or None
        Index patient; what `cytosae.cohort.Intervals` takes.
    """
    if config.group is not None:
        return pd.Series(_sites(barcodes, config.group), index=barcodes.obs_names)
    names = [str(name) for name in barcodes.obs_names]
    imaged = sessions_of(atlas, names, patient) if config.sessions and atlas is not None else None
    return None if imaged is None else pd.Series(imaged.session, index=barcodes.obs_names)


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


def _diagnoses(barcodes: AnnData, names: list[str]) -> pd.Series:
    if "diagnosis" not in barcodes.obs:
        raise InputError("the barcodes have no diagnosis; name the column of the cells' table that holds it.")
    diagnosis: Any = _frame(barcodes.obs)["diagnosis"].astype(object)
    absent = (diagnosis.isna() | diagnosis.astype(str).str.strip().isin(["", "nan", "<NA>"])).to_numpy()
    if absent.any():
        raise InputError(
            f"{int(absent.sum())} of {len(names)} patients have no diagnosis (first: {names[int(absent.argmax())]!r}); "
            "add it, or leave them out."
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


def _sites(barcodes: AnnData, group: str | None) -> NDArray[np.generic] | None:
    if group is None:
        return None
    if group not in barcodes.obs:
        raise InputError(f"there is no column {group!r} that is one value for each patient; give the patients' sites.")
    column: Any = barcodes.obs[group]
    if column.isna().any():
        first = str(barcodes.obs_names[int(column.isna().to_numpy().argmax())])
        raise InputError(f"the patient {first!r} has no {group}; add it.")
    return column.astype(str).to_numpy(dtype=str)


def _designs(
    y: NDArray[np.intp],
    classes: tuple[str, ...],
    sites: NDArray[np.generic] | None,
    imaged: Sessions | None,
    config: ClassificationConfig,
) -> tuple[Design, Design | None, list[str]]:
    """The design as asked, the one that treats imaging sessions the other way (None without any), and notes."""
    plain = Design(y, None, classes)
    if sites is not None:
        return Design(y, sites, classes, config.group or ""), None, []
    together = "" if imaged is None else imaged.describe([classes[int(k)] for k in y])
    if imaged is None or not together:
        return plain, None, []
    kept = Design(y, imaged.session, classes, SESSION)
    if kept.most_folds < 2:
        only = classes[int((kept.table > 0).sum(0).argmin())]
        words = f"All patients with {only} were imaged in one session, by the numbers of their images ({together}): "
        return plain, None, [f"{words}what tells them apart may be that day."]
    words = f"By the numbers of their images, some patients were imaged together, session by session: {together}. "
    if config.sessions:
        return kept, plain, [f"{words}The patients of a session are on one side of every split."]
    words += "Folds, intervals and shuffles may part them (classification.sessions keeps them together in all of these)"
    return plain, kept, [f"{words}; one row of the table keeps them on one side of every split."]


def _of_cells(way: str, made: AnnData, names: list[str], config: ClassificationConfig) -> dict[str, Array]:
    """Layers and mean tokens of the patients as the cells are seen in one way."""
    rows = made.obs_names.astype(str).get_indexer(names)
    if (rows < 0).any():
        absent = names[int((rows < 0).argmax())]
        raise InputError(f"the barcodes of cells {way} lack the patient {absent!r}; make them of the same cells.")
    tokens = {"token": dense(made.obsm["X_backbone"], np.float64)[rows]} if "X_backbone" in made.obsm else {}
    return {kind: dense(made.layers[kind], np.float64)[rows] for kind in config.kinds} | tokens


def _random(random: AnnData | None, names: list[str], config: ClassificationConfig) -> dict[str, Array]:
    if random is None:
        return {}
    rows = random.obs_names.astype(str).get_indexer(names)
    if (rows < 0).any():
        absent = names[int((rows < 0).argmax())]
        raise InputError(
            f"the barcodes of the random-weight SAE lack the patient {absent!r}; make them of the same cells."
        )
    return {kind: dense(random.layers[kind], np.float64)[rows] for kind in config.kinds}


def _cells(
    atlas: AnnData, colours: pd.DataFrame | None, names: list[str], config: ClassificationConfig, patient: str
) -> CellArrays:
    rows = pd.Index(names).get_indexer(pd.Index(atlas.obs[patient].astype(str)))
    without = set(range(len(names))) - set(rows.tolist())
    if without:
        raise InputError(
            f"the atlas has no cells of the patient {names[min(without)]!r}; make the barcodes from it anew."
        )
    keep = np.flatnonzero(rows >= 0)
    codes, type_names = pd.factorize(cell_types_of(atlas).iloc[keep], sort=True)
    matrices = {kind: sp.csr_matrix(cell_matrix(atlas, kind))[keep] for kind in config.kinds}
    return CellArrays(
        patient=rows[keep],
        types=codes.astype(np.intp),
        type_names=tuple(map(str, type_names)),
        colours=None if colours is None else colours_of(atlas, colours)[keep],
        tokens=np.asarray(atlas.obsm["X_backbone"], dtype=np.float32)[keep],
        matrices=matrices,
        means=matrices["mean"] if "mean" in matrices else sp.csr_matrix(cell_matrix(atlas, "mean"))[keep],
    )


def _type_shares(barcodes: AnnData, cells: CellArrays | None, names: list[str]) -> pd.DataFrame | None:
    if cells is not None and (cells.types >= 0).any():
        known = cells.types >= 0
        one_hot = np.eye(len(cells.type_names))[np.maximum(cells.types, 0)]
        shares = mean_by_patient(one_hot, cells.patient, len(names), known)
        return pd.DataFrame(shares, index=pd.Index(names), columns=pd.Index(cells.type_names))
    if "cell_types" in barcodes.obsm and np.shape(barcodes.obsm["cell_types"])[1]:
        return _frame(barcodes.obsm["cell_types"])
    return None


def _frame(obs: Any) -> pd.DataFrame:
    return obs  # what AnnData holds in memory is a DataFrame; its annotation has one more type

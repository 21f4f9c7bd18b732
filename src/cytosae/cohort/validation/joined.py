"""Training patients and later ones side by side, so that what is fitted on the first is applied to the second."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray

from cytosae.atlas.stored.matrix import layer_names
from cytosae.cohort.classification.cohort_arrays import CohortArrays, Controls, gather, patient_groups
from cytosae.cohort.config import ClassificationConfig
from cytosae.cohort.design import Design

if TYPE_CHECKING:
    from anndata import AnnData

LATER = "later/"
"""Before the names of later patients: a number that was given twice need not be the same person."""
ORDER = "order of imaging"


@dataclass(frozen=True)
class PatientData:
    """Patients of one data set and their cells.

    Attributes
    ----------
    barcodes : AnnData
        Patients x latents, with their diagnoses.
    atlas : AnnData
        Their cells.
    colours : DataFrame
        Colour statistics of the cells.
    random : AnnData or None
        Barcodes by the SAE with random weights, at the threshold of the training patients.
    of_cells : mapping of str to AnnData
        Barcodes of what is no cell (`cytosae.cohort.open_cell_controls`).
    """

    barcodes: AnnData
    atlas: AnnData
    colours: pd.DataFrame
    random: AnnData | None = None
    of_cells: Mapping[str, AnnData] = field(default_factory=dict)

    def take(self, patients: list[str], patient: str) -> PatientData:
        """Some patients alone, and their cells, in memory."""
        theirs = np.asarray(self.atlas.obs[patient].astype(str).isin(patients))
        cells = self.atlas[theirs]
        some = {way: made[made.obs_names.isin(patients)].copy() for way, made in self.of_cells.items()}
        return replace(
            self,
            barcodes=self.barcodes[self.barcodes.obs_names.isin(patients)].copy(),
            atlas=cells.to_memory() if cells.isbacked else cells.copy(),
            random=None if self.random is None else self.random[self.random.obs_names.isin(patients)].copy(),
            of_cells={way: made for way, made in some.items() if made.n_obs == len(patients)},
        )


@dataclass(frozen=True)
class Joined:
    """Both groups of patients as arrays; a model's features are learnt from the rows ``train`` alone.

    Attributes
    ----------
    data : CohortArrays
        Training patients, then later ones.
    train, later : ndarray of int
        Their row numbers.
    """

    data: CohortArrays
    train: NDArray[np.intp]
    later: NDArray[np.intp]


def join(
    training: PatientData,
    later: PatientData,
    *,
    classes: tuple[str, ...],
    patient: str,
    retest: AnnData | None = None,
    random_retest: AnnData | None = None,
    config: ClassificationConfig,
) -> Joined:
    """Bring training patients and later ones together.

    Parameters
    ----------
    training, later : PatientData
        Those of a diagnosis among ``classes``; no image is in both.
    classes : tuple of str
        Of two, the second is the one to be found.
    patient : str
        Column of the atlases with the patients.
    retest, random_retest : AnnData or None
        Cells of the training patients in two stains, as for `cytosae.cohort.classify`.
    config : ClassificationConfig
        How the training patients were classified.

    Raises
    ------
    InputError
        A picture stands under a training patient and a later one.
    """
    groups = [_groups(one, patient, config) for one in (training, later)]
    renamed = _renamed(later, patient)
    shared = [way for way in training.of_cells if way in renamed.of_cells]
    both = training.random is not None and renamed.random is not None
    random = _patients(training.random, renamed.random) if both else None
    data = gather(
        _patients(training.barcodes, renamed.barcodes),
        _cells(training.atlas, renamed.atlas),
        pd.concat([training.colours, later.colours.drop(index=training.colours.index.tolist(), errors="ignore")]),
        classes=classes,
        patient=patient,
        retest=retest,
        controls=Controls(
            random=random,
            retest=None if random is None else random_retest,
            of_cells={way: _patients(training.of_cells[way], renamed.of_cells[way]) for way in shared},
        ),
        config=replace(config, group=None, sessions=False, positive=classes[1] if len(classes) == 2 else None),
    )
    n = training.barcodes.n_obs
    codes = np.concatenate([groups[0].codes, groups[1].codes + groups[0].codes.max() + 1])
    design = Design(data.y, codes, classes, groups[0].by)
    # A rank among the training patients does not place those who come later.
    known = {name: values for name, values in data.confounders.items() if name != ORDER}
    arrays = replace(data, design=design, confounders=known, alternative=None)
    return Joined(arrays, np.arange(n), np.arange(n, len(data.patients)))


def _groups(one: PatientData, patient: str, config: ClassificationConfig) -> Design:
    """Who belongs together; nobody where later patients lack the column of sites."""
    asked = config if config.group is None or config.group in one.barcodes.obs else replace(config, group=None)
    names = [str(name) for name in one.barcodes.obs_names]
    return Design.of(names, patient_groups(one.barcodes, one.atlas, asked, patient=patient))


def _renamed(later: PatientData, patient: str) -> PatientData:
    def named(patients: AnnData) -> AnnData:
        copy = patients.copy()
        copy.obs_names = [f"{LATER}{name}" for name in patients.obs_names]
        return copy

    atlas = later.atlas.copy()
    atlas.obs[patient] = [f"{LATER}{name}" for name in atlas.obs[patient].astype(str)]
    return replace(
        later,
        barcodes=named(later.barcodes),
        atlas=atlas,
        random=None if later.random is None else named(later.random),
        of_cells={way: named(made) for way, made in later.of_cells.items()},
    )


def _patients(first: Any, second: Any) -> AnnData:
    """Barcodes below one another; what is computed from labels (`obsm`) is left to the cells."""
    kinds = [kind for kind in layer_names(first) if kind in second.layers]
    stacked = ad.AnnData(
        obs=_observations(first, second),
        var=pd.DataFrame(index=first.var_names),
        layers={kind: np.vstack([first.layers[kind], second.layers[kind]]) for kind in kinds},
        uns=dict(first.uns),
    )
    if "X_backbone" in first.obsm and "X_backbone" in second.obsm:
        stacked.obsm["X_backbone"] = np.vstack([first.obsm["X_backbone"], second.obsm["X_backbone"]])
    return stacked


def _cells(first: AnnData, second: AnnData) -> AnnData:
    stacked = ad.AnnData(
        X=sp.vstack([sp.csr_matrix(first.X), sp.csr_matrix(second.X)], format="csr"),
        obs=_observations(first, second),
        var=pd.DataFrame(index=first.var_names),
        uns=dict(first.uns),
    )
    stacked.obsm["X_backbone"] = np.vstack([first.obsm["X_backbone"], second.obsm["X_backbone"]])
    counts: list[Any] = [one.layers["tokens_above"] for one in (first, second) if "tokens_above" in one.layers]
    if len(counts) == 2:
        stacked.layers["tokens_above"] = sp.vstack([sp.csr_matrix(part) for part in counts], format="csr")
    return stacked


def _observations(first: AnnData, second: AnnData) -> pd.DataFrame:
    """Both tables, text as plain objects: categories of one need not be those of the other."""
    frames = []
    for one in (first, second):
        frame = pd.DataFrame(one.obs)
        text = [name for name in frame if isinstance(frame[name].dtype, pd.CategoricalDtype)]
        frames.append(frame.astype(dict.fromkeys(text, object)))
    return pd.concat(frames)

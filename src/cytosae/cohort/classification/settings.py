"""Ways to use concepts that can be recommended, fitted, saved and applied; a new one is a `Variant` in `VARIANTS`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cytosae.cohort.classification.cohort_arrays import CohortArrays
from cytosae.cohort.classification.features import Array, mean_by_patient
from cytosae.cohort.classification.few_concepts import Few
from cytosae.cohort.classification.linear import L2, ElasticNet, Linear, LinearFit
from cytosae.cohort.classification.row_names import FEW, STABLE
from cytosae.cohort.config import ClassificationConfig, Kind
from cytosae.cohort.design import Design
from cytosae.cohort.patients.barcodes import KINDS
from cytosae.cohort.stain.retest import Pairs, retest_reliability, stable_directions
from cytosae.common.errors import InputError, UsageError


@dataclass(frozen=True)
class ModelInput:
    """Patients as a configuration sees them, with all that was learnt for it from some of them.

    Attributes
    ----------
    barcodes : ndarray of float64, shape (P, m)
        A row of NaN for a patient without a cell to count.
    directions : ndarray of float64, shape (m, r), or None
        Directions along which the penalty looks at barcodes; None for the latents themselves.
    cell_types : tuple of str
        Of the cells that the barcodes are made of, empty for all.
    """

    barcodes: Array
    directions: Array | None = None
    cell_types: tuple[str, ...] = ()

    @property
    def features(self) -> Array:
        """What a linear model is fitted on."""
        return self.barcodes if self.directions is None else self.barcodes @ self.directions


See = Callable[[NDArray[np.intp]], ModelInput]
"""Training patients -> what is seen of all patients."""


@dataclass(frozen=True)
class Variant:
    """A way to look at barcodes.

    Attributes
    ----------
    name : str
        As results and saved classifiers name it.
    see : callable
        (patients, kind of barcode, configuration) -> how they are seen; None where the data do not allow it.
    needs : str
        What the data must have for it.
    images_alone : bool
        Whether new patients need nothing but images.
    """

    name: str
    see: Callable[[CohortArrays, Kind, ClassificationConfig], See | None]
    needs: str = ""
    images_alone: bool = True


def _all(data: CohortArrays, kind: Kind, config: ClassificationConfig) -> See:
    return lambda train: ModelInput(data.layers[kind])


def _stain_kept(data: CohortArrays, kind: Kind, config: ClassificationConfig) -> See | None:
    if data.retest is None:
        return None
    barcode, pairs, least = data.layers[kind], data.retest[kind], config.reliability
    return lambda train: _without(barcode, ~(retest_reliability(*pairs.of(train)) >= least))


def _colour_free(data: CohortArrays, kind: Kind, config: ClassificationConfig) -> See | None:
    cells, barcode = data.cells, data.layers[kind]
    if cells is None or cells.colours is None or len(cells.type_names) < 2:
        return None
    return lambda train: _without(barcode, cells.following(train))


def _immature(data: CohortArrays, kind: Kind, config: ClassificationConfig) -> See | None:
    cells = data.cells
    keep = None if cells is None else cells.of_types(config.immature)
    if cells is None or keep is None:
        return None
    of_types = mean_by_patient(cells.matrices[kind], cells.patient, len(data.patients), keep)
    return lambda train: ModelInput(of_types, cell_types=config.immature)


def _stable(data: CohortArrays, kind: Kind, config: ClassificationConfig) -> See | None:
    return None if data.retest is None else along_stable(data.layers[kind], data.retest[kind], config)


def along_stable(barcode: Array, pairs: Pairs, config: ClassificationConfig) -> See:
    """Barcodes along the directions in which a change of stain changes little."""
    least = config.reliability
    return lambda train: ModelInput(barcode, stable_directions(*pairs.of(train), width=pairs.width, least=least))


def _without(barcode: Array, latents: NDArray[np.bool_]) -> ModelInput:
    # A constant column is left out by `Standardise`, so the latents keep their numbers.
    return ModelInput(np.where(latents[None], 0.0, barcode))


def few_of(config: ClassificationConfig, most: int | None = None) -> Few:
    """The learner of few concepts, as asked; of at most ``most``, by default ``most_concepts``."""
    most = config.most_concepts if most is None else most
    if most < 1:
        raise UsageError("most_concepts is 0, no limit; a decision of few concepts needs at least 1.")
    return Few(most, config.likeness, config.few_method, config.inner_folds, config.min_share)


RETEST = "the cells in another stain (retest)"
VARIANTS = {
    variant.name: variant
    for variant in (
        Variant("all concepts", _all),
        Variant("stain-sensitive set aside", _stain_kept, RETEST),
        Variant("colour-following set aside", _colour_free, "colours and types of the cells"),
        Variant("immature cells", _immature, "cells of immature types", images_alone=False),
        Variant(STABLE, _stable, RETEST),
    )
}
"""Name -> variant, the simplest first."""
PENALTIES: dict[str, Callable[[ClassificationConfig], Linear]] = {
    FEW: lambda config: few_of(config),
    "L2": lambda config: L2(config.strengths, config.inner_folds, config.min_share),
    "elastic net": lambda config: ElasticNet(config.inner_folds, config.min_share),
}
"""Name -> learner, the simplest first."""


@dataclass(frozen=True)
class Configuration:
    """A way to use concepts that can be fitted, saved and applied to new patients.

    Attributes
    ----------
    kind : {"presence", "mean", "count"}
        What the barcode counts.
    variant : str
        All concepts; those left when stain-sensitive or colour-following ones are set aside; barcodes of immature cells
        only; or directions of barcodes that are stable when the stain is changed: a name of `VARIANTS`.
    penalty : {"few", "L2", "elastic net"}
        At most ``most_concepts`` of them, chosen among the training patients; L2 on all; or an elastic net.
    """

    kind: Kind = "presence"
    variant: str = "all concepts"
    penalty: Literal["few", "L2", "elastic net"] = "L2"

    def __post_init__(self) -> None:
        if self.variant not in VARIANTS:
            raise UsageError(f"there is no variant {self.variant!r} of barcodes; choose among: {', '.join(VARIANTS)}.")

    @property
    def name(self) -> str:
        """Name of its row in the table."""
        variant = "" if self.variant == "all concepts" else f", {self.variant}"
        return f"concepts ({self.kind}){variant}" + ("" if self.penalty == "L2" else f", {self.penalty}")

    @property
    def images_alone(self) -> bool:
        """Whether new patients need nothing but images; barcodes of immature cells need the types of their cells."""
        return VARIANTS[self.variant].images_alone

    @property
    def complexity(self) -> int:
        """Order of simplicity for ties: first the penalty, then the variant, then the kind."""
        order = (list(PENALTIES).index(self.penalty), list(VARIANTS).index(self.variant), KINDS.index(self.kind))
        return int(np.ravel_multi_index(order, (len(PENALTIES), len(VARIANTS), len(KINDS))))

    def see(self, data: CohortArrays, config: ClassificationConfig) -> See | None:
        """How it sees these patients; None where the data do not allow it."""
        return VARIANTS[self.variant].see(data, self.kind, config)

    def learner(self, config: ClassificationConfig) -> Linear:
        """What is fitted."""
        return PENALTIES[self.penalty](config)


def model_input(setting: Configuration, data: CohortArrays, config: ClassificationConfig) -> ModelInput:
    """The patients as a configuration sees them; `InputError` where it needs what these data lack."""
    see = setting.see(data, config)
    if see is None:
        needs = VARIANTS[setting.variant].needs
        raise InputError(
            f"these data do not allow {setting.name!r}: it needs {needs}; give that, or choose all concepts."
        )
    return see(np.arange(len(data.patients)))


def fit_configuration(
    setting: Configuration,
    X: Array,
    design: Design,
    config: ClassificationConfig,
    directions: Array | None = None,
) -> LinearFit:
    """Fit barcodes X [n, m] with the penalty of a configuration; its strength is chosen in the design's inner folds.

    With ``directions`` [m, r] the model is fitted along them; its weights are those of the latents all the same.
    """
    learner = setting.learner(config)
    if directions is None:
        return learner.fit(X, design, config.seed)
    along = learner.fit(X @ directions, design, config.seed)
    return replace(along, coef=along.coef @ directions.T, means=X.mean(0))

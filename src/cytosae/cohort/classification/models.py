"""The models that a classification compares: concepts, baselines, confounders and controls, all in the same folds.

A new row of the table is a function from the patients to models in `ROWS`; a new learner is a value with `evidence`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import TruncatedSVD

from cytosae.atlas.stored.matrix import dense
from cytosae.cohort.classification.cohort_arrays import BarcodesOf, CellArrays, CohortArrays
from cytosae.cohort.classification.confounders import all_confounders, cell_residual, match_by_colour
from cytosae.cohort.classification.features import Array, Features, fixed, residual
from cytosae.cohort.classification.mil import Attention
from cytosae.cohort.classification.row_names import FEW, LOOKS, PAINTED, STABLE
from cytosae.cohort.classification.settings import PENALTIES, VARIANTS, Configuration, See, along_stable, few_of
from cytosae.cohort.config import ClassificationConfig
from cytosae.cohort.design import Design, Fold
from cytosae.common.errors import InputError

Family = Literal["concepts", "baseline", "confounder", "control"]
FEW_VARIANTS = ("all concepts", "stain-sensitive set aside", "colour-following set aside")
"""Variants of which few concepts are chosen; a direction is a sum of all concepts, however few directions there are."""
FEWEST_MATCHED = 8
"""Patients matched by colour on whom a model is fitted."""


class Learner(Protocol):
    """Fits on a fold's training patients and speaks of its test patients; their classes are not looked at."""

    def evidence(self, features: Any, design: Design, fold: Fold) -> Array:
        """Log odds of each class against its share of the training patients, for the test patients, shape (n, K)."""
        ...


@dataclass(frozen=True)
class Majority:
    """Knows nothing of anybody; of equally probable classes it calls the one that most patients have."""

    def evidence(self, features: Any, design: Design, fold: Fold) -> Array:
        """The same for all patients, in all folds."""
        shares = design.shares()
        return np.tile(1e-6 * (np.arange(len(shares)) == shares.argmax()), (len(fold.test), 1))


@dataclass(frozen=True)
class Model:
    """One row of the table.

    Attributes
    ----------
    name, family : str, {"concepts", "baseline", "confounder", "control"}
        What it is called, and what it stands for.
    features : callable
        Training patients -> features of all patients.
    learner : Learner
        What is fitted on them.
    repeats : int or None
        Repetitions that it is run in, None for all.
    rows : ndarray of int64 or None
        The patients it is run on, None for all.
    splits : bool
        Whether it can be trained on one half of the colour range.
    configuration : Configuration or None
        Set for those that can be recommended.
    """

    name: str
    family: Family
    features: Features
    learner: Learner
    repeats: int | None = None
    rows: NDArray[np.intp] | None = None
    splits: bool = True
    configuration: Configuration | None = None


def build_models(data: CohortArrays, config: ClassificationConfig) -> list[Model]:
    """All rows that these data allow, in the order of the table."""
    return [model for rows in ROWS for model in rows(data, config)]


def candidates(data: CohortArrays, config: ClassificationConfig) -> list[Model]:
    """The models that can be recommended: each barcode in each variant that the data allow; few; an elastic net."""
    settings = [Configuration(kind, variant) for variant in VARIANTS for kind in config.kinds]
    if config.most_concepts:
        settings += [Configuration(kind, variant, FEW) for variant in FEW_VARIANTS for kind in config.kinds]
    models = []
    for setting in [*settings, Configuration(config.kind, penalty="elastic net")]:
        see, learner = setting.see(data, config), setting.learner(config)
        repeats = config.slow_repeats if setting.penalty == "elastic net" else None
        if see is not None:
            models.append(Model(setting.name, "concepts", _features(see), learner, repeats, configuration=setting))
    return models


def can_be_recommended(model: Model, config: ClassificationConfig) -> bool:
    """Whether a model needs nothing but images, and is of few concepts where a limit to their number is set."""
    setting = model.configuration
    return setting is not None and setting.images_alone and (setting.penalty == FEW or not config.most_concepts)


def without_confounders(data: CohortArrays, config: ClassificationConfig) -> list[Model]:
    """What is left of concepts when colour or all confounders are regressed out."""
    models, linear, colour, everything = [], linear_of(config), data.confounders.get("colour"), all_confounders(data)
    if colour is not None:
        for kind in config.kinds:
            name = f"concepts ({kind}), colour regressed out of"
            models.append(Model(f"{name} barcodes", "concepts", residual(data.layers[kind], colour), linear))
            models.append(Model(f"{name} cells", "concepts", cell_residual(data, kind), linear))
    if everything is not None:
        name = f"concepts ({config.kind}), all confounders regressed out"
        models.append(Model(name, "concepts", residual(data.layers[config.kind], everything), linear))
    return models


def matched_by_colour(data: CohortArrays, config: ClassificationConfig) -> list[Model]:
    """Concepts, and colour, among patients of like colour alone."""
    colour, linear = data.confounders.get("colour"), linear_of(config)
    if colour is None or len(data.classes) != 2:
        return []
    rows = match_by_colour(colour, data.y)
    if len(rows) < FEWEST_MATCHED or data.design.take(rows).most_folds < 2:
        return []
    name = f"concepts ({config.kind}), colour-matched patients"
    return [
        Model(name, "concepts", fixed(data.layers[config.kind]), linear, rows=rows),
        Model("colour, colour-matched patients", "confounder", fixed(colour), linear, rows=rows),
    ]


def cell_types(data: CohortArrays, config: ClassificationConfig) -> list[Model]:
    """What counting cells by their types tells."""
    if data.cell_types is None:
        return []
    shares = data.cell_types
    models = [Model("cell-type shares", "baseline", fixed(shares.to_numpy(dtype=np.float64)), linear_of(config))]
    named = [name for name in shares.columns if name in config.promyelocytes]
    if named:
        share = shares[named].sum(axis=1).to_numpy(dtype=np.float64)[:, None]
        models.insert(0, Model("share of promyelocytes", "baseline", fixed(share), linear_of(config)))
    return models


def mean_token(data: CohortArrays, config: ClassificationConfig) -> list[Model]:
    """The backbone without an SAE."""
    if data.tokens is None:
        return []
    models = [Model("mean token", "baseline", fixed(data.tokens), linear_of(config))]
    if data.retest is not None:
        stable = _features(along_stable(data.tokens, data.retest["token"], config))
        models.append(Model(f"mean token, {STABLE}", "baseline", stable, linear_of(config)))
    return models


def attention(data: CohortArrays, config: ClassificationConfig) -> list[Model]:
    """The field's usual model, on mean tokens and on reduced barcodes of single cells."""
    if data.cells is None:
        return []
    learner, bags = Attention(config.attention), _bags(data.cells, data.cells.tokens)
    features = {"tokens": lambda train: bags, f"barcodes ({config.kind})": _reduced_bags(data.cells, config)}
    return [
        Model(f"ABMIL on {name}", "baseline", seen, learner, config.slow_repeats) for name, seen in features.items()
    ]


def majority(data: CohortArrays, config: ClassificationConfig) -> list[Model]:
    """What is reached by knowing nothing."""
    return [Model("majority", "baseline", fixed(np.zeros((len(data.y), 0))), Majority())]


def confounders_alone(data: CohortArrays, config: ClassificationConfig) -> list[Model]:
    """What is known of the patients besides their cells."""
    linear = linear_of(config)
    models = [Model(f"{name} alone", "confounder", fixed(values), linear) for name, values in data.confounders.items()]
    everything = all_confounders(data)
    if everything is not None and len(data.confounders) > 1:
        models.append(Model("all confounders together", "confounder", fixed(everything), linear))
    return models


def random_weights(data: CohortArrays, config: ClassificationConfig) -> list[Model]:
    """An SAE that has learnt nothing."""
    linear, seen = linear_of(config), {}
    for kind, barcode in data.random.items():
        seen[f"random-weight SAE ({kind})"] = fixed(barcode)
    for kind in data.random if data.random_retest else ():
        stable = along_stable(data.random[kind], data.random_retest[kind], config)
        seen[f"random-weight SAE ({kind}), {STABLE}"] = _features(stable)
    few = _few_of({f"random-weight SAE ({kind})": barcode for kind, barcode in data.random.items()}, config)
    return [*(Model(name, "control", features, linear) for name, features in seen.items()), *few]


def about_the_cell(data: CohortArrays, config: ClassificationConfig) -> list[Model]:
    """What is left without the cell, what the cell tells by itself, and how far attention carries it."""
    linear, seen = linear_of(config), {}
    for way, name in LOOKS.items():
        made = data.of_cells.get(way, {})
        kinds = config.kinds if way == "painted out" else (config.kind,)
        seen |= {f"{name} ({kind})": fixed(made[kind]) for kind in kinds if kind in made}
        if way == "painted out" and data.retest is not None:
            for kind in kinds if made else ():
                seen[f"{name} ({kind}), {STABLE}"] = _features(along_stable(made[kind], data.retest[kind], config))
        if "token" in made:
            seen[f"{name}, mean token"] = fixed(made["token"])
    painted = data.of_cells.get("painted out", {})
    few = {f"{PAINTED} ({kind})": painted[kind] for kind in config.kinds if kind in painted}
    return [*(Model(name, "control", features, linear) for name, features in seen.items()), *_few_of(few, config)]


ROWS: tuple[Callable[[CohortArrays, ClassificationConfig], list[Model]], ...] = (
    candidates,
    without_confounders,
    matched_by_colour,
    cell_types,
    mean_token,
    attention,
    majority,
    confounders_alone,
    random_weights,
    about_the_cell,
)
"""What makes the rows of the table, in its order."""


def strict(barcodes_of: BarcodesOf, data: CohortArrays, folds: list[Fold], config: ClassificationConfig) -> Model:
    """Concepts of an SAE trained without the test patients; the splits by colour have no SAE of their own."""
    numbers = {fold.train.tobytes(): index for index, fold in enumerate(folds)}

    def features(train: NDArray[np.intp]) -> Array:
        number = numbers[train.tobytes()]
        made = barcodes_of(number, [data.patients[row] for row in train])
        rows = made.obs_names.astype(str).get_indexer(list(data.patients))
        if (rows < 0).any():
            absent = data.patients[int((rows < 0).argmax())]
            raise InputError(f"the barcodes of fold {number} lack the patient {absent!r}; make them for all patients.")
        return dense(made.layers[config.kind], np.float64)[rows]

    name = f"concepts ({config.kind}), SAE without the test patients"
    return Model(name, "concepts", features, linear_of(config), config.strict_repeats, splits=False)


def linear_of(config: ClassificationConfig) -> Learner:
    """The linear model that a classification uses throughout."""
    return PENALTIES["L2"](config)


def _few_of(barcodes: Mapping[str, Array], config: ClassificationConfig) -> list[Model]:
    """Decisions of few latents of a control, which those of few concepts are to be held against."""
    if not config.most_concepts:
        return []
    return [Model(f"{name}, {FEW}", "control", fixed(X), few_of(config)) for name, X in barcodes.items()]


def _features(see: See) -> Features:
    return lambda train: see(train).features


def _bags(cells: CellArrays, values: NDArray[Any]) -> list[NDArray[np.float32]]:
    """The cells' rows of ``values``, patient by patient."""
    order = np.argsort(cells.patient, kind="stable")
    ends = np.cumsum(np.bincount(cells.patient))[:-1]
    return [np.ascontiguousarray(part, dtype=np.float32) for part in np.split(values[order], ends)]


def _reduced_bags(cells: CellArrays, config: ClassificationConfig) -> Features:
    """Cells' barcodes on the first components of (at most 1,000 of) the training patients' cells."""
    matrix: Any = cells.matrices[config.kind]

    def features(train: NDArray[np.intp]) -> list[NDArray[np.float32]]:
        mine = np.flatnonzero(np.isin(cells.patient, train))
        rng = np.random.default_rng(config.seed)
        some = np.sort(rng.choice(mine, min(len(mine), 1000), replace=False))
        components = min(config.attention.components, matrix.shape[1] - 1, len(some) - 1)
        svd: Any = TruncatedSVD(max(components, 1), n_iter=2, random_state=config.seed).fit(matrix[some])
        return _bags(cells, np.asarray(matrix @ svd.components_.T))

    return features

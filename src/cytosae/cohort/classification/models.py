"""The models that a classification compares: concepts, baselines, confounders and controls, all in the same folds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax
from sklearn.decomposition import TruncatedSVD

from cytosae.atlas.matrix import dense
from cytosae.cohort.classification.confounders import all_confounders, colour_following, match_by_colour
from cytosae.cohort.classification.features import (
    Array,
    CohortArrays,
    Features,
    cell_residual,
    fixed,
    mean_by_patient,
    residual,
)
from cytosae.cohort.classification.folds import groups_of_rarest
from cytosae.cohort.classification.linear import fit_elastic_net, fit_l2
from cytosae.cohort.classification.mil import fit_attention
from cytosae.cohort.config import STRENGTHS, AttentionConfig, ClassificationConfig, Kind
from cytosae.cohort.stain.retest import Pairs, retest_reliability, stable_directions

if TYPE_CHECKING:
    from anndata import AnnData

Variant = Literal[
    "all concepts",
    "stain-sensitive set aside",
    "colour-following set aside",
    "immature cells",
    "stain-stable directions",
]
VARIANTS: tuple[Variant, ...] = get_args(Variant)
KINDS: tuple[Kind, ...] = ("presence", "mean", "count")
Family = Literal["concepts", "baseline", "confounder", "control"]
Groups = NDArray[np.generic] | None
Outcome = tuple[Array, Array]
"""Decision [n, K] (log odds of each class against its training share) and probability [n, K]."""


@dataclass(frozen=True)
class Split:
    """Who is fitted on and who is asked about.

    Attributes
    ----------
    train, test : row numbers of patients
    seed : of inner splits and networks
    groups : [P] patients of one group are on one side of every inner split, too; None for no groups
    """

    train: NDArray[np.intp]
    test: NDArray[np.intp]
    seed: int
    groups: Groups = None

    @property
    def together(self) -> Groups:
        """Groups of the training patients."""
        return _at(self.groups, self.train)


class Learner(Protocol):
    """Fits on the training rows of the features and answers for the test rows; ``y`` is read at training rows only."""

    def predict(self, features: Any, y: NDArray[np.integer], split: Split) -> Outcome:
        """Decision and probability of the test patients."""
        ...


@dataclass(frozen=True)
class L2:
    """`fit_l2`."""

    strengths: tuple[float, ...] = STRENGTHS
    inner_folds: int = 5
    min_share: float = 0.05

    def predict(self, features: Array, y: NDArray[np.integer], split: Split) -> Outcome:
        """Decision and probability of the test patients."""
        fit = fit_l2(
            features[split.train],
            y[split.train],
            strengths=self.strengths,
            inner_folds=self.inner_folds,
            min_share=self.min_share,
            seed=split.seed,
            groups=split.together,
        )
        return _outcome(fit.logits(features[split.test]), y[split.train])


@dataclass(frozen=True)
class ElasticNet:
    """`fit_elastic_net`."""

    inner_folds: int = 5
    min_share: float = 0.05

    def predict(self, features: Array, y: NDArray[np.integer], split: Split) -> Outcome:
        """Decision and probability of the test patients."""
        fit = fit_elastic_net(
            features[split.train],
            y[split.train],
            inner_folds=self.inner_folds,
            min_share=self.min_share,
            seed=split.seed,
            groups=split.together,
        )
        return _outcome(fit.logits(features[split.test]), y[split.train])


@dataclass(frozen=True)
class Attention:
    """`fit_attention` on bags of cells."""

    config: AttentionConfig = field(default_factory=AttentionConfig)

    def predict(self, features: Sequence[NDArray[np.float32]], y: NDArray[np.integer], split: Split) -> Outcome:
        """Decision and probability of the test patients."""
        bags = [features[i] for i in split.train]
        model = fit_attention(bags, y[split.train], seed=split.seed, config=self.config, groups=split.together)
        probability = model.probabilities([features[i] for i in split.test])
        return _outcome(np.log(np.maximum(probability, 1e-300)), y[split.train])


@dataclass(frozen=True)
class Majority:
    """The most frequent class of the training patients for everybody."""

    def predict(self, features: Any, y: NDArray[np.integer], split: Split) -> Outcome:
        """The same decision and probability for all test patients."""
        share = np.bincount(y[split.train]) / len(split.train)
        decision = -(np.arange(len(share)) != share.argmax()).astype(np.float64)
        return np.tile(decision, (len(split.test), 1)), np.tile(share, (len(split.test), 1))


@dataclass(frozen=True)
class Configuration:
    """A way to use concepts that can be fitted, saved and applied to new patients.

    Attributes
    ----------
    kind : what the barcode counts
    variant : all concepts; those left when stain-sensitive or colour-following ones are set aside; barcodes of immature
        cells only; or directions of barcodes that are stable when the stain is changed
    penalty : L2 on all concepts, or an elastic net that keeps few
    """

    kind: Kind = "presence"
    variant: Variant = "all concepts"
    penalty: Literal["L2", "elastic net"] = "L2"

    @property
    def name(self) -> str:
        """Name of its row in the table."""
        variant = "" if self.variant == "all concepts" else f", {self.variant}"
        return f"concepts ({self.kind}){variant}" + ("" if self.penalty == "L2" else f", {self.penalty}")

    @property
    def images_alone(self) -> bool:
        """Whether new patients need nothing but images; barcodes of immature cells need the types of their cells."""
        return self.variant != "immature cells"

    @property
    def complexity(self) -> int:
        """Order of simplicity for ties: first the penalty, then the variant, then the kind."""
        simple = 3 * VARIANTS.index(self.variant) + KINDS.index(self.kind)
        return simple + 3 * len(VARIANTS) * (self.penalty != "L2")


@dataclass(frozen=True)
class Model:
    """One row of the table.

    Attributes
    ----------
    name, family : what it is called, and what it stands for
    features : training patients -> features of all patients
    learner : what is fitted on them
    repeats : repetitions that it is run in, None for all
    rows : the patients it is run on, None for all
    splits : whether it can be trained on one half of the colour range
    configuration : set for those that can be recommended
    """

    name: str
    family: Family
    features: Features
    learner: Learner
    repeats: int | None = None
    rows: NDArray[np.intp] | None = None
    splits: bool = True
    configuration: Configuration | None = None


@dataclass(frozen=True)
class Design:
    """What a configuration sees of the patients; all of it is learnt from training patients.

    Attributes
    ----------
    barcodes : training patients -> barcodes [P, m]
    directions : training patients -> [m, r], directions along which barcodes are seen; None for the latents themselves
    cell_types : of the cells that the barcodes are made of, empty for all
    """

    barcodes: Features
    directions: Features | None = None
    cell_types: tuple[str, ...] = ()

    @property
    def features(self) -> Features:
        """Training patients -> what a linear model is fitted on."""
        barcodes, directions = self.barcodes, self.directions
        return barcodes if directions is None else lambda train: barcodes(train) @ directions(train)


def design(
    data: CohortArrays,
    kind: Kind,
    variant: Variant,
    config: ClassificationConfig,
    following: Callable[[NDArray[np.intp]], NDArray[np.bool_]] | None = None,
) -> Design | None:
    """The design of a configuration; None where these data do not allow it (no colours, types or retest).

    ``following`` : `colour_following` of these cells, where it is wanted more than once
    """
    barcode, cells, retest = data.layers[kind], data.cells, data.retest
    if variant == "all concepts":
        return Design(fixed(barcode))
    if variant == "colour-following set aside":
        if cells is None or cells.colours is None or len(cells.type_names) < 2:
            return None
        find = following or (lambda train: colour_following(cells, train))
        return Design(lambda train: _without(barcode, find(train)))
    if variant == "immature cells":
        keep = None if cells is None else cells.of_types(config.immature)
        if cells is None or keep is None:
            return None
        of_types = mean_by_patient(cells.matrices[kind], cells.patient, len(data.patients), keep)
        return Design(fixed(of_types), cell_types=config.immature)
    if retest is None:
        return None
    pairs, least = retest[kind], config.reliability
    if variant == "stain-sensitive set aside":
        return Design(lambda train: _without(barcode, ~(retest_reliability(*pairs.of(train)) >= least)))
    return Design(fixed(barcode), stable_of(pairs, least))


def stable_of(pairs: Pairs, least: float) -> Features:
    """Training patients -> the stable directions of ``pairs``."""
    return lambda train: stable_directions(*pairs.of(train), width=pairs.width, least=least)


def build_models(
    data: CohortArrays,
    config: ClassificationConfig,
    random: AnnData | None = None,
    random_retest: Mapping[str, Pairs] | None = None,
) -> list[Model]:
    """All rows that these data allow, in the order of the table.

    Parameters
    ----------
    data : the patients
    config : see `ClassificationConfig`
    random : barcodes of the same patients by an SAE with random weights
    random_retest : its cells in two stains, by kind
    """
    models = candidate_models(data, config)
    models += _more_of_concepts(data, config)
    models += _baselines(data, config)
    models += _confounder_models(data, config)
    if random is not None:
        rows = random.obs_names.astype(str).get_indexer(list(data.patients))
        barcodes = {kind: dense(random.layers[kind], np.float64)[rows] for kind in config.kinds}
        models += [
            Model(f"random-weight SAE ({kind})", "control", fixed(matrix), linear_of(config))
            for kind, matrix in barcodes.items()
        ]
        for kind, pairs in (random_retest or {}).items():
            if kind in barcodes:
                name = f"random-weight SAE ({kind}), stain-stable directions"
                seen = Design(fixed(barcodes[kind]), stable_of(pairs, config.reliability))
                models.append(Model(name, "control", seen.features, linear_of(config)))
    return models


def candidate_models(data: CohortArrays, config: ClassificationConfig) -> list[Model]:
    """The models that can be recommended: each barcode in each variant that the data allow, and an elastic net."""
    cells, models = data.cells, []
    following = remembered(lambda train: colour_following(cells, train)) if cells is not None else None
    for variant in VARIANTS:
        for kind in config.kinds:
            seen = design(data, kind, variant, config, following)
            if seen is not None:
                setting = Configuration(kind, variant)
                models.append(Model(setting.name, "concepts", seen.features, linear_of(config), configuration=setting))
    setting = Configuration(config.kind, penalty="elastic net")
    sparse = ElasticNet(config.inner_folds, config.min_share)
    layer = fixed(data.layers[config.kind])
    models.append(Model(setting.name, "concepts", layer, sparse, config.slow_repeats, configuration=setting))
    return models


def linear_of(config: ClassificationConfig) -> L2:
    """The linear model that a classification uses throughout."""
    return L2(config.strengths, config.inner_folds, config.min_share)


def remembered(function: Callable[[NDArray[np.intp]], Any]) -> Callable[[NDArray[np.intp]], Any]:
    """The function with its answers kept, by training patients."""
    known: dict[bytes, Any] = {}

    def asked(train: NDArray[np.intp]) -> Any:
        key = train.tobytes()
        if key not in known:
            known[key] = function(train)
        return known[key]

    return asked


def _without(barcode: Array, latents: NDArray[np.bool_]) -> Array:
    # A constant column is left out by `Standardise`, so the latents keep their numbers.
    return np.where(latents[None], 0.0, barcode)


def _more_of_concepts(data: CohortArrays, config: ClassificationConfig) -> list[Model]:
    """What is left when colour or all confounders are regressed out or matched."""
    kind, linear, colour = config.kind, linear_of(config), data.confounders.get("colour")
    barcode = data.layers[kind]
    models: list[Model] = []
    if colour is not None:
        for each in config.kinds:
            name = f"concepts ({each}), colour regressed out of"
            models.append(Model(f"{name} barcodes", "concepts", residual(data.layers[each], colour), linear))
            models.append(Model(f"{name} cells", "concepts", cell_residual(data, each), linear))
    everything = all_confounders(data)
    if everything is not None:
        name = f"concepts ({kind}), all confounders regressed out"
        models.append(Model(name, "concepts", residual(barcode, everything), linear))
    if colour is not None and len(data.classes) == 2:
        rows = match_by_colour(colour, data.y)
        if len(rows) >= 2 * 2 * 2 and groups_of_rarest(data.y[rows], _at(data.groups, rows)) >= 2:
            name = f"concepts ({kind}), colour-matched patients"
            models.append(Model(name, "concepts", fixed(barcode), linear, rows=rows))
            models.append(Model("colour, colour-matched patients", "confounder", fixed(colour), linear, rows=rows))
    return models


def _baselines(data: CohortArrays, config: ClassificationConfig) -> list[Model]:
    models, linear = [], linear_of(config)
    if data.cell_types is not None:
        shares = data.cell_types
        named = [name for name in shares.columns if name in config.promyelocytes]
        if named:
            share = shares[named].sum(axis=1).to_numpy(dtype=np.float64)[:, None]
            models.append(Model("share of promyelocytes", "baseline", fixed(share), linear))
        values = shares.to_numpy(dtype=np.float64)
        models.append(Model("cell-type shares", "baseline", fixed(values), linear))
    if data.tokens is not None:
        models.append(Model("mean token", "baseline", fixed(data.tokens), linear))
        if data.retest is not None:
            seen = Design(fixed(data.tokens), stable_of(data.retest["token"], config.reliability))
            models.append(Model("mean token, stain-stable directions", "baseline", seen.features, linear))
    if data.cells is not None:
        bags = _split(data.cells.tokens, data)
        learner = Attention(config.attention)
        models.append(Model("ABMIL on tokens", "baseline", lambda train: bags, learner, config.slow_repeats))
        reduced = _reduced_bags(data, config)
        name = f"ABMIL on barcodes ({config.kind})"
        models.append(Model(name, "baseline", reduced, learner, config.slow_repeats))
    nothing = np.zeros((len(data.y), 0))
    models.append(Model("majority", "baseline", fixed(nothing), Majority()))
    return models


def _confounder_models(data: CohortArrays, config: ClassificationConfig) -> list[Model]:
    linear = linear_of(config)
    models = [Model(f"{name} alone", "confounder", fixed(values), linear) for name, values in data.confounders.items()]
    everything = all_confounders(data)
    if everything is not None and len(data.confounders) > 1:
        models.append(Model("all confounders together", "confounder", fixed(everything), linear))
    return models


def _split(values: NDArray[Any], data: CohortArrays) -> list[NDArray[np.float32]]:
    assert data.cells is not None  # noqa: S101 - for the type checker; callers have looked
    order = np.argsort(data.cells.patient, kind="stable")
    ends = np.cumsum(np.bincount(data.cells.patient, minlength=len(data.patients)))[:-1]
    return [np.ascontiguousarray(part, dtype=np.float32) for part in np.split(values[order], ends)]


def _reduced_bags(data: CohortArrays, config: ClassificationConfig) -> Features:
    """Cells' barcodes on the first components of (at most 1,000 of) the training patients' cells."""
    cells = data.cells
    assert cells is not None  # noqa: S101 - for the type checker; callers have looked
    matrix: Any = cells.matrices[config.kind]

    def features(train: NDArray[np.intp]) -> list[NDArray[np.float32]]:
        mine = np.flatnonzero(np.isin(cells.patient, train))
        rng = np.random.default_rng(config.seed)
        some = np.sort(rng.choice(mine, min(len(mine), 1000), replace=False))
        components = min(config.attention.components, matrix.shape[1] - 1, len(some) - 1)
        svd: Any = TruncatedSVD(max(components, 1), n_iter=2, random_state=config.seed).fit(matrix[some])
        return _split(np.asarray(matrix @ svd.components_.T), data)

    return features


def _at(groups: Groups, rows: NDArray[np.intp]) -> Groups:
    return None if groups is None else groups[rows]


def _outcome(logits: Array, y_train: NDArray[np.integer]) -> Outcome:
    """Decision and probability from logits [n, K]: the log of the training shares is taken off for the decision."""
    log_probability = log_softmax(logits, axis=1)
    share = np.bincount(y_train, minlength=logits.shape[1]) / len(y_train)
    return log_probability - np.log(share), np.exp(log_probability)

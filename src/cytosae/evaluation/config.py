"""What can be measured; nothing here computes, so that the command line reads it quickly."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from cytosae.atlas.config import LocalisationConfig
from cytosae.cohort.config import AttentionConfig, Kind
from cytosae.common.errors import UsageError
from cytosae.sae.variants import VARIANTS

if TYPE_CHECKING:  # types made while running mean nothing to a type checker
    Variant = str
else:
    Variant = Literal[tuple(VARIANTS)]
Way = Literal["screened", "blocks", "dense"]


@dataclass(frozen=True)
class SpeedConfig:
    """What is measured of speed; the defaults take some seconds.

    Attributes
    ----------
    d : int
        Width of a token.
    m : int
        Latents.
    n : int
        Tokens of a batch.
    k : int
        Active latents of a token; of ReluL1 and JumpRelu about so many.
    variant : str
        Kind of SAE.
    paths : tuple of str
        Ways to find active latents: screening in bfloat16, in float32, dense products. Each is measured in a whole
        training step and in encoding alone.
    threads : int
        Of the processor; 0 for torch's own choice.
    device : str
        Where to measure; auto takes a GPU where there is one.
    rounds : int
        How often everything is measured in turns, after one for warming up; the smallest, the median and the largest
        value are given.
    """

    d: int = 768
    m: int = 12_288
    n: int = 1_024
    k: int = 32
    variant: Variant = "TopK"
    paths: tuple[Way, ...] = ("screened", "blocks", "dense")
    threads: int = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    rounds: int = 5

    def __post_init__(self) -> None:
        for name, least in (("d", 1), ("m", 8), ("n", 1), ("k", 1), ("threads", 0), ("rounds", 1)):
            if getattr(self, name) < least:
                raise UsageError(f"a measurement needs {name} >= {least}, not {getattr(self, name)}.")
        if self.k > self.m:
            raise UsageError(f"a measurement needs k <= m, not k = {self.k} of {self.m} latents.")


@dataclass(frozen=True)
class CohortsConfig:
    """Which cohorts are drawn and what is asked of them.

    Attributes
    ----------
    seeds : tuple of int
        A cohort for each, and for each difficulty.
    difficulties : tuple of float
        Of the cohorts, 0 to 1.
    patients : int
        Of a cohort.
    cells_per_patient : int
        Of a cohort.
    domain : str
        Laboratory of the cohorts, or mixed; the laboratory effect is always sought in cohorts of all laboratories.
    planted : float
        Share of the patients whose laboratory goes with the diagnosis, in the cohorts with a planted effect.
    kind : str
        Of the barcodes.
    top : int
        Concepts of a contrast among which a structure's own must be.
    k : int
        Cells in the precision of a ranking.
    folds : int
        Of the classification.
    shuffles : int
        Runs with shuffled diagnoses.
    bootstrap : int
        Resamples of patients behind each interval.
    confidence : float
        Coverage of the intervals.
    workers : int
        Processes that decode images.
    attention : AttentionConfig
        The multiple-instance model.
    """

    seeds: tuple[int, ...] = (0,)
    difficulties: tuple[float, ...] = (0.5,)
    patients: int = 40
    cells_per_patient: int = 50
    domain: str = "reference"
    planted: float = 1.0
    kind: Kind = "presence"
    top: int = 20
    k: int = 10
    folds: int = 4
    shuffles: int = 20
    bootstrap: int = 500
    confidence: float = 0.95
    workers: int = 0
    attention: AttentionConfig = field(default_factory=AttentionConfig)

    def __post_init__(self) -> None:
        from cytosae.cells.synthetic import DIAGNOSES

        least = self.folds * len(DIAGNOSES)
        if self.patients < least:
            raise UsageError(f"patients is {self.patients}; {self.folds} folds of all diagnoses need {least} or more.")
        if not self.seeds or not self.difficulties:
            raise UsageError("no seed or no difficulty was given; give at least one of each.")
        needed = round(1 / (1 - self.confidence)) - 1
        if self.shuffles < needed:
            raise UsageError(f"shuffles is {self.shuffles}; at a confidence of {self.confidence} {needed} are needed.")


@dataclass(frozen=True)
class ConceptsConfig:
    """What is measured.

    Attributes
    ----------
    cells : int
        Drawn cells, as many of every type; 0 leaves them out.
    real_cells : int
        At most so many of the cells with attributes, drawn at random; 0 for all.
    difficulty : float
        Of the drawn cells, 0 to 1.
    resamples : int
        Of the scored cells (in cohorts: of patients) behind each interval.
    seed : int
        Of drawings, halves, controls and resamples.
    workers : int
        Processes that decode images.
    size : int
        Pixels of the square drawn images.
    sample : int
        Tokens on which components and centroids are fitted.
    clusters : int
        Centroids of k-means.
    confidence : float
        Coverage of the intervals.
    localisation : LocalisationConfig
        Of nucleus and cytoplasm on real cells.
    cohorts : CohortsConfig or None
        The drawn cohorts; None leaves them out.
    """

    cells: int = 480
    real_cells: int = 0
    difficulty: float = 0.3
    resamples: int = 500
    seed: int = 0
    workers: int = 0
    size: int = 128
    sample: int = 50_000
    clusters: int = 256
    confidence: float = 0.95
    localisation: LocalisationConfig = field(default_factory=LocalisationConfig)
    cohorts: CohortsConfig | None = None

    def __post_init__(self) -> None:
        if self.cells and self.cells < 48:
            raise UsageError(f"cells is {self.cells}; give 48 or more (two of every type), or 0 to leave them out.")
        if self.cohorts is not None and not self.cells:
            raise UsageError("cohorts need drawn cells, on which latents are matched with structures; give cells.")
        if self.resamples < 2 or not 0 < self.confidence < 1:
            raise UsageError(
                f"resamples is {self.resamples}, confidence {self.confidence}; give 2 or more, and 0 to 1."
            )


@dataclass(frozen=True)
class QualityConfig:
    """What is measured of a dictionary's quality.

    Attributes
    ----------
    cells : int
        At most so many cells with a label, spread evenly over the data set.
    splits : int
        Random halves of the cells: what is chosen or fitted on one half is measured on the other.
    clusters : int
        Centroids of k-means.
    maps : int
        At most so many cells whose maps are examined.
    sample : int
        Tokens from which components, centroids and random latents are made.
    steps : int or None
        Training steps of the controls; None for as many as the SAE had.
    random_backbone : bool
        Also train an SAE on tokens of the backbone with random weights; the images of the cells are needed.
    seed : int
        Of halves, samples and controls.
    """

    cells: int = 600
    splits: int = 5
    clusters: int = 256
    maps: int = 48
    sample: int = 8192
    steps: int | None = None
    random_backbone: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("cells", 20), ("splits", 2), ("clusters", 2), ("maps", 2), ("sample", 64)):
            if getattr(self, name) < least:
                raise UsageError(f"quality.{name} is {getattr(self, name)}; it must be at least {least}.")


@dataclass(frozen=True)
class SuppressionConfig:
    """How the suppression of latents is measured.

    Attributes
    ----------
    splits : int
        Random thirds of the patients: one chooses the latents, on one probes are fitted, on one they are asked.
    controls : int
        Sets of as many other latents, matched in activation frequency, in each split.
    resamples : int
        Behind the intervals by which latents are chosen.
    seed : int
        Of thirds and controls.
    """

    splits: int = 5
    controls: int = 20
    resamples: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("splits", 2), ("controls", 2), ("resamples", 20)):
            if getattr(self, name) < least:
                raise UsageError(f"suppression.{name} is {getattr(self, name)}; it must be at least {least}.")


@dataclass(frozen=True)
class PairsConfig:
    """Which pairs of drawn cells are shown to an SAE, see `cytosae.cells.synthetic.draw_pair`.

    Attributes
    ----------
    pairs : int
        Of each attribute.
    attributes : tuple of str
        Names of attributes, such as nucleus_lobes; all if left out.
    domain : str
        Laboratory whose stain and camera they have, or mixed: all in turn.
    difficulty : float
        0 to 1, variation from cell to cell; the two cells of a pair always share it.
    size : int
        Pixels of the square drawn images.
    seed : int
        Of the drawings and of the random weights.
    """

    pairs: int = 40
    attributes: tuple[str, ...] = ()
    domain: str = "reference"
    difficulty: float = 0.3
    size: int = 128
    seed: int = 0

    def __post_init__(self) -> None:
        if self.pairs < 20:  # fewer, all in one direction, are no more than chance among thousands of concepts
            raise UsageError(f"pairs is {self.pairs}; it must be at least 20.")
        if not 0 <= self.difficulty <= 1 or self.size < 32:
            raise UsageError(f"difficulty is {self.difficulty}, size {self.size}; give 0 to 1, and 32 or more.")

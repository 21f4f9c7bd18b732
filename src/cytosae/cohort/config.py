"""What can be asked of a cohort; nothing here computes, so that the command line can be made from it quickly."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Odds = Literal["equal", "training"]
"""Where calls, decisions and probabilities hold: among as many patients of each diagnosis, or of as many as trained on.
"""
Kind = Literal["presence", "mean", "count"]
"""What a barcode says of a latent: share of cells with it, mean activation, or tokens with it per cell."""
Method = Literal["lasso", "forward", "pursuit"]
"""How few concepts are chosen: by an L1 penalty, forward selection by score statistics, orthogonal matching pursuit."""
STRENGTHS = (0.01, 0.1, 1.0, 10.0, 100.0, 1000.0)
"""Inverse penalties C to choose among; features are scaled so that one grid serves one column and thousands."""
IMMATURE = (
    "blast",
    "blast_cup_like",
    "myeloblast",
    "monoblast",
    "promonocyte",
    "promyelocyte",
    "promyelocyte_atypical",
    "faggot_cell",
    "myelocyte",
    "metamyelocyte",
    "immature_granulocyte",
)
"""Harmonised names of the immature cells of the myeloid line."""
PROMYELOCYTES = ("promyelocyte", "promyelocyte_atypical", "faggot_cell")
"""Harmonised names of promyelocytes."""


@dataclass(frozen=True)
class AttentionConfig:
    """How the attention model is trained.

    Attributes
    ----------
    hidden : int
        Width of the layer over the features, and of the attention.
    dropout : float
        Share of hidden units left out while training.
    learning_rate, weight_decay : float
        Of AdamW.
    most_epochs : int
        Passes over the patients at most.
    patience : int
        Epochs without a lower loss on the held-out patients after which it stops.
    inner_folds : int
        One of so many parts is held out to find the number of epochs, then all patients are trained on.
    batch_patients : int
        Patients a step.
    most_cells : int
        Cells of a patient seen in a step; more are drawn at random.
    components : int
        A barcode is reduced to so many components, found on training cells.
    """

    hidden: int = 64
    dropout: float = 0.25
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    most_epochs: int = 60
    patience: int = 10
    inner_folds: int = 5
    batch_patients: int = 16
    most_cells: int = 256
    components: int = 64


@dataclass(frozen=True)
class ClassificationConfig:
    """How diagnoses are classified and what it is compared with.

    Attributes
    ----------
    folds, repeats : int
        Outer folds, and how often the patients are split anew.
    inner_folds : int
        Folds of the training patients in which penalties are chosen.
    slow_repeats : int
        Repetitions of the slow models (elastic net, multiple-instance learning).
    strict_repeats : int
        Repetitions of the strict model, whose SAE is trained anew in each fold.
    kind : {"presence", "mean", "count"}
        Barcode of the rows that are made for one kind only.
    kinds : tuple of {"presence", "mean", "count"}
        Barcodes to compare.
    positive : str or None
        Of two diagnoses the one to be found; None for the rarer.
    group : str or None
        Column with the patients' sites; those of a site are on one side of every split, drawn and shuffled together.
    sessions : bool
        Without ``group``, whether the same holds for patients imaged in one session, as the running numbers in the
        names of their image files tell (`cytosae.cohort.imaging_sessions`). Whatever is chosen, the recommended model
        is also run the other way, in a row of its own.
    odds : {"equal", "training"}
        Where calls, decisions and probabilities hold: among as many patients of each diagnosis ("equal", so that a
        call does not depend on who happened to be collected), or among as many as were trained on ("training"). The
        class with the largest probability is called.
    immature : tuple of str
        Cell types of the barcodes of immature cells.
    promyelocytes : tuple of str
        Cell types counted as promyelocytes.
    strengths : tuple of float
        Candidates of the inverse penalty C.
    min_share : float
        Latents in fewer of the training patients are left out.
    most_concepts : int
        Concepts at most in the recommended decision, chosen among the training patients; 0 for no limit, and no models
        of few concepts.
    few_concepts : int
        The AUROC of few concepts is given for every number up to this one; 0 leaves it out.
    few_method : {"lasso", "forward", "pursuit"}
        How few concepts are chosen: in the order in which an L1 penalty lets them in, by forward selection with score
        statistics, or by orthogonal matching pursuit (compared by benchmarks/few_concepts.py).
    likeness : float
        Rank correlation over patients from which on two concepts are near-twins and are joined into a family.
    reliability : float
        Intraclass correlation under a change of stain below which a concept, or a direction, is set aside.
    specificity : float
        At which the sensitivity is given.
    bootstrap : int
        Resamples of patients behind each interval.
    confidence : float
        Coverage of the intervals.
    shuffles : int
        Runs with shuffled diagnoses.
    attention : AttentionConfig
        The multiple-instance model.
    seed : int
        Of folds, resamples, shuffles and networks.
    """

    folds: int = 5
    repeats: int = 10
    inner_folds: int = 5
    slow_repeats: int = 3
    strict_repeats: int = 1
    kind: Kind = "presence"
    kinds: tuple[Kind, ...] = ("presence", "mean", "count")
    positive: str | None = None
    group: str | None = None
    sessions: bool = False
    odds: Odds = "equal"
    immature: tuple[str, ...] = IMMATURE
    promyelocytes: tuple[str, ...] = PROMYELOCYTES
    strengths: tuple[float, ...] = STRENGTHS
    min_share: float = 0.05
    most_concepts: int = 12
    few_concepts: int = 32
    few_method: Method = "lasso"
    likeness: float = 0.8
    reliability: float = 0.5
    specificity: float = 0.9
    bootstrap: int = 2000
    confidence: float = 0.95
    shuffles: int = 20
    attention: AttentionConfig = field(default_factory=AttentionConfig)
    seed: int = 0

from .coder import SparseCoder
from .exchange.checkpoint import save_sae
from .exchange.sources import load_sae
from .model.autoencoder import SparseAutoencoder
from .model.choices import (
    FromData,
    Independent,
    Initialisation,
    MeanNorm,
    NoNormalisation,
    Normalisation,
    PositionMean,
    Tied,
    Whitening,
)
from .training.config import TrainConfig
from .training.median import geometric_median
from .training.metrics import Metrics, evaluate
from .training.optimisation import StepLog
from .training.recipes import RECIPES, Recipe
from .training.schedule import Constant, LinearDecay, Schedule
from .training.sweep import write_sweep
from .training.tau import PAPER_TAU, choose_tau
from .training.trainer import FitResult, Trainer
from .variants import AnySparsity, BatchTopK, JumpRelu, Matryoshka, ReluL1, TopK

__all__ = [
    "PAPER_TAU",
    "RECIPES",
    "AnySparsity",
    "BatchTopK",
    "Constant",
    "FitResult",
    "FromData",
    "Independent",
    "Initialisation",
    "JumpRelu",
    "LinearDecay",
    "Matryoshka",
    "MeanNorm",
    "Metrics",
    "NoNormalisation",
    "Normalisation",
    "PositionMean",
    "Recipe",
    "ReluL1",
    "Schedule",
    "SparseAutoencoder",
    "SparseCoder",
    "StepLog",
    "Tied",
    "TopK",
    "TrainConfig",
    "Trainer",
    "Whitening",
    "choose_tau",
    "evaluate",
    "geometric_median",
    "load_sae",
    "save_sae",
    "write_sweep",
]

"""Sparse autoencoders: the model, its variants, training, checkpoints and metrics."""

from __future__ import annotations

from cytosae.sae.exchange.checkpoint import save_sae
from cytosae.sae.exchange.loading import load_sae
from cytosae.sae.model.autoencoder import SparseAutoencoder
from cytosae.sae.model.normalisation import MeanNorm, NoNormalisation, Normalisation, PositionMean, Whitening
from cytosae.sae.training.config import TrainConfig
from cytosae.sae.training.initialisation import FromData, Independent, Initialisation, Tied
from cytosae.sae.training.median import geometric_median
from cytosae.sae.training.metrics import Metrics, evaluate
from cytosae.sae.training.optimisation import StepLog
from cytosae.sae.training.recipes import RECIPES, Recipe
from cytosae.sae.training.schedule import Constant, LinearDecay, Schedule
from cytosae.sae.training.sweep import write_sweep
from cytosae.sae.training.tau import PAPER_TAU, choose_tau
from cytosae.sae.training.trainer import FitResult, Trainer
from cytosae.sae.variants import AnySparsity, BatchTopK, JumpRelu, Matryoshka, ReluL1, TopK

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

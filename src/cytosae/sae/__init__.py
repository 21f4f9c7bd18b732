"""Sparse autoencoders: the model, its variants, training, checkpoints and metrics."""

from __future__ import annotations

from cytosae.sae.autoencoder import AnySparsity, SparseAutoencoder
from cytosae.sae.batch_topk import BatchTopK
from cytosae.sae.checkpoint import load_sae, save_sae
from cytosae.sae.config import TrainConfig
from cytosae.sae.initialisation import FromData, Independent, Initialisation, Tied
from cytosae.sae.jump_relu import JumpRelu
from cytosae.sae.matryoshka import Matryoshka
from cytosae.sae.median import geometric_median
from cytosae.sae.metrics import Metrics, evaluate
from cytosae.sae.normalisation import MeanNorm, NoNormalisation, Normalisation, PositionMean, Whitening
from cytosae.sae.optimisation import StepLog
from cytosae.sae.recipes import RECIPES, Recipe
from cytosae.sae.relu_l1 import ReluL1
from cytosae.sae.schedule import Constant, LinearDecay, Schedule
from cytosae.sae.sweep import write_sweep
from cytosae.sae.tau import PAPER_TAU, choose_tau
from cytosae.sae.topk import TopK
from cytosae.sae.trainer import FitResult, Trainer

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

"""Gated-attention multiple-instance learning on the cells of a patient: the field's usual model, as a baseline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from cytosae.cohort.classification.linear import against_shares
from cytosae.cohort.config import AttentionConfig
from cytosae.cohort.design import Design, Fold

Bags = Sequence[NDArray[np.float32]]


class GatedAttention(nn.Module):
    """Hidden layer, gated attention over cells, linear classifier of their weighted mean (Ilse et al. 2018, eq. 9)."""

    embed: nn.Sequential
    value: nn.Linear
    gate: nn.Linear
    score: nn.Linear
    head: nn.Linear

    def __init__(self, width: int, classes: int, config: AttentionConfig) -> None:
        super().__init__()
        self.embed = nn.Sequential(nn.Linear(width, config.hidden), nn.ReLU(), nn.Dropout(config.dropout))
        self.value = nn.Linear(config.hidden, config.hidden)
        self.gate = nn.Linear(config.hidden, config.hidden)
        self.score = nn.Linear(config.hidden, 1)
        self.head = nn.Linear(config.hidden, classes)

    def forward(self, cells: torch.Tensor, there: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits [B, K] and attention [B, n] (sums to 1) of cells [B, n, D], where ``there`` [B, n] is true."""
        hidden = self.embed(cells)
        scores = self.score(torch.tanh(self.value(hidden)) * torch.sigmoid(self.gate(hidden)))[..., 0]
        attention = torch.softmax(scores.masked_fill(~there, float("-inf")), dim=1)
        return self.head((attention[..., None] * hidden).sum(1)), attention


@dataclass(frozen=True)
class AttentionModel:
    """A trained attention model with the scaling of its features.

    Attributes
    ----------
    network : GatedAttention
        In evaluation mode.
    mean, scale : ndarray of float32, shape (D,)
        Of the training cells.
    epochs : int
        Passes that the held-out patients asked for.
    """

    network: GatedAttention
    mean: NDArray[np.float32]
    scale: NDArray[np.float32]
    epochs: int

    def probabilities(self, bags: Bags) -> NDArray[np.float64]:
        """Probability of each class, float64 [P, K], for bags of cells [n_i, D]."""
        logits = [self._forward(bag)[0] for bag in bags]
        return torch.softmax(torch.cat(logits).double(), dim=1).numpy()

    def attention(self, bag: NDArray[np.float32]) -> NDArray[np.float64]:
        """Weight of each cell of a bag [n, D], float64 [n], sums to 1."""
        weights = self._forward(bag)[1][0].double().numpy()
        return weights / weights.sum()

    @torch.no_grad()
    def _forward(self, bag: NDArray[np.float32]) -> tuple[torch.Tensor, torch.Tensor]:
        cells = torch.from_numpy(np.ascontiguousarray((bag - self.mean) / self.scale, dtype=np.float32))[None]
        return self.network(cells, torch.ones(cells.shape[:2], dtype=torch.bool))


def fit_attention(
    bags: Bags,
    y: NDArray[np.integer],
    *,
    seed: int,
    config: AttentionConfig | None = None,
    groups: NDArray[np.generic] | None = None,
) -> AttentionModel:
    """Train gated-attention multiple-instance learning.

    Parameters
    ----------
    bags : Bags
        float32 [n_i, D] for each patient, n_i > 0.
    y : ndarray of int, shape (P,)
        Classes 0..K-1.
    seed : int
        Of the split, the initial weights, the order and dropout; the same seed gives the same model.
    config : AttentionConfig or None
        See `AttentionConfig`.
    groups : ndarray, shape (P,), or None
        Patients of one group are held out together; None for no groups.

    References
    ----------
    Ilse, Tomczak and Welling, Attention-based deep multiple instance learning, ICML 2018.
    """
    config = config or AttentionConfig()
    cells = np.concatenate(list(bags)).astype(np.float64)
    mean, scale = cells.mean(0), cells.std(0)
    scale[scale < 1e-8] = 1.0
    scaled = [((bag - mean) / scale).astype(np.float32) for bag in bags]
    epochs = _epochs(scaled, Design(y, groups), seed, config)
    network, _ = _train(scaled, y, None, epochs, seed, config)
    return AttentionModel(network.eval(), mean.astype(np.float32), scale.astype(np.float32), epochs)


@dataclass(frozen=True)
class Attention:
    """`fit_attention` on bags of cells, as a learner."""

    config: AttentionConfig = field(default_factory=AttentionConfig)

    def evidence(self, features: Bags, design: Design, fold: Fold) -> NDArray[np.float64]:
        """Log odds of each class against its share of the training patients, for the test patients, shape (n, K)."""
        train, bags = design.take(fold.train), [features[i] for i in fold.train]
        model = fit_attention(bags, train.y, seed=fold.seed, config=self.config, groups=train.codes)
        probability = model.probabilities([features[i] for i in fold.test])
        return against_shares(np.log(np.maximum(probability, 1e-300)), train)


def _epochs(bags: Bags, design: Design, seed: int, config: AttentionConfig) -> int:
    """Epochs with the least loss on held-out patients; half of the most where none can be held out."""
    splits, y = design.inner_folds(config.inner_folds, seed), design.y
    if not splits:
        return max(config.most_epochs // 2, 1)
    train, test = splits[0]
    held = ([bags[i] for i in test], y[test])
    return _train([bags[i] for i in train], y[train], held, config.most_epochs, seed, config)[1]


def _train(
    bags: Bags,
    y: NDArray[np.integer],
    held: tuple[Bags, NDArray[np.integer]] | None,
    epochs: int,
    seed: int,
    config: AttentionConfig,
) -> tuple[GatedAttention, int]:
    """Train for ``epochs``, or with ``held`` patients until their loss no longer falls; returns the best epoch, too."""
    rng = np.random.default_rng(seed)
    target = torch.from_numpy(np.asarray(y, dtype=np.int64))
    best, best_epoch = np.inf, epochs
    # Initial weights and dropout draw from torch's global state: it is put back as it was.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = GatedAttention(bags[0].shape[1], int(y.max()) + 1, config)
        optimizer = torch.optim.AdamW(
            network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, foreach=True
        )
        for epoch in range(1, epochs + 1):
            network.train()
            order = rng.permutation(len(bags))
            for start in range(0, len(bags), config.batch_patients):
                rows = order[start : start + config.batch_patients]
                logits, _ = network(*_padded([_some(bags[i], config.most_cells, rng) for i in rows]))
                loss = nn.functional.cross_entropy(logits, target[torch.from_numpy(rows)])
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
            if held is not None:
                loss = _held_loss(network.eval(), *held)
                if loss < best - 1e-4:
                    best, best_epoch = loss, epoch
                elif epoch - best_epoch >= config.patience:
                    break
    return network, best_epoch


@torch.no_grad()
def _held_loss(network: GatedAttention, bags: Bags, y: NDArray[np.integer]) -> float:
    logits, _ = network(*_padded(bags))
    return float(nn.functional.cross_entropy(logits, torch.from_numpy(np.asarray(y, dtype=np.int64))))


def _some(bag: NDArray[np.float32], most: int, rng: np.random.Generator) -> NDArray[np.float32]:
    return bag if len(bag) <= most else bag[rng.choice(len(bag), most, replace=False)]


def _padded(bags: Bags) -> tuple[torch.Tensor, torch.Tensor]:
    """Bags side by side, [B, n, D], and which cells are there, [B, n]."""
    cells = [torch.from_numpy(np.ascontiguousarray(bag, dtype=np.float32)) for bag in bags]
    sizes = torch.tensor([len(bag) for bag in bags])
    return nn.utils.rnn.pad_sequence(cells, batch_first=True), torch.arange(int(sizes.max())) < sizes[:, None]

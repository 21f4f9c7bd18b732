"""Measure one candidate for the bundled backbone by the yardsticks of `scripts/trials_rule.py`, in two minutes.

    python scripts/trials_yardsticks.py --data DATA --weights runs/tiny/tiny.safetensors --out trial.json

`--deit FILE --blocks 7 8 9` measures DeiT-tiny as it came, cut after each of these blocks. Cells are a fixed random
part of each domain; probes are ridge regressions on CLS, mean and s.d. of the patch tokens. Labels, attributes and
masks are yardsticks only. `scripts/evaluate_tiny.py` is the slower and fuller measurement of one net.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from evaluate_tiny import (
    DOMAINS,
    NEUTROPHIL_NAMES,
    SHARED_CELLS,
    balanced_accuracy,
    frequent,
    iou,
    load,
    patch_classes,
    read_cells,
    statistics,
)
from PIL import ImageFile
from sklearn.linear_model import RidgeClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torchvision.transforms import v2

from cytosae.backbones import Backbone, load_backbone
from cytosae.sae import PositionMean, SparseAutoencoder, TopK, TrainConfig, Trainer

CELLS = {"acevedo": 900, "bccd_cells": 300, "tecom_wbc": 199, "cellavision_wbc": 70, "apl_cohort": 700}
CHANGED = 70  # cells of each domain seen in changed colours, too
MASKED = ("tecom_wbc", "cellavision_wbc")
FEW, DRAWS, FOLDS = 5, 10, 5
SAE_CELLS, SAE_STEPS, SAE_BATCH = 160, 400, 2048


def main() -> None:
    """Read cells, compute tokens once, write the figures of each block."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, help="tiny.safetensors of a candidate; none: the bundled one")
    parser.add_argument("--deit", type=Path, help="weights of DeiT-tiny, to be measured as they came")
    parser.add_argument("--blocks", type=int, nargs="+", default=[-2])
    parser.add_argument("--out", type=Path, required=True, help="JSON file; -blockN is added where there are several")
    options = parser.parse_args()
    torch.set_num_threads(1)
    ImageFile.LOAD_TRUNCATED_IMAGES = True  # three files of apl_cohort lack their last bytes
    for block in options.blocks:
        start = time.monotonic()
        if options.deit:
            from tiny_learner import untouched_deit

            backbone = untouched_deit(options.deit, block)
        else:
            backbone = load_backbone("tiny", options.weights, block=block)
        figures = measure(backbone, options.data)
        name = options.out.stem + (f"-block{block}" if len(options.blocks) > 1 else "")
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.with_name(f"{name}.json").write_text(json.dumps(figures, indent=1) + "\n")
        shown = " ".join(f"{key} {value:.3f}" for key, value in figures.items() if isinstance(value, float))
        print(f"{name} ({time.monotonic() - start:.0f} s): {shown}", flush=True)


def measure(backbone: Backbone, data: Path) -> dict[str, Any]:
    """All figures of one net."""
    domains = {name: read_domain(backbone, data, name) for name in DOMAINS}
    nucleus, cytoplasm = latent_localisation(domains, backbone.width)
    return {
        "few": float(np.mean([few_shot(d["pooled"], d["cells"]) for d in domains.values()])),
        "full": float(np.mean([within(d["pooled"], d["cells"]) for d in domains.values()])),
        "transfer": transfer(domains),
        "attributes": attributes(domains["acevedo"], data),
        "nucleus": nucleus,
        "cytoplasm": cytoplasm,
        "stain": float(np.mean([same_type(d) for d in domains.values()])),
        "position": float(np.mean([statistics(d["patches"].float())[0] for d in domains.values()])),
        "colour": float(np.mean([colour_share(d["patches"].float(), d["colours"]) for d in domains.values()])),
        "megabytes": megabytes(backbone),
        "relative_speed": relative_speed(backbone),
        "block": backbone.block,
        "weights": backbone.weights_hash,
    }


def read_domain(backbone: Backbone, data: Path, name: str) -> dict[str, Any]:
    """Tokens of a fixed random part of a domain's cells, plain and (of some) in changed colours."""
    cells = read_cells(data, name)
    order = np.random.default_rng(0).permutation(len(cells))[: CELLS[name]]
    cells = cells.iloc[np.sort(order)].reset_index(drop=True)
    images = [load(path) for path in cells["path"]]
    torch.manual_seed(0)
    jitter = v2.ColorJitter(brightness=0.25, contrast=0.25, saturation=0.4, hue=0.06)
    changed = np.sort(np.random.default_rng(1).permutation(len(images))[: min(CHANGED, len(images) // 2)])
    pooled, patches = features(backbone, images, 256)
    moved, _ = features(backbone, [jitter(images[i]) for i in changed], 0)
    side, size = backbone.grid[0], backbone.preprocessing.size
    plain = backbone.prepare(images[: len(patches)])
    colours = plain.unflatten(2, (side, size // side)).unflatten(4, (side, size // side)).mean((3, 5))
    return {
        "cells": cells,
        "pooled": pooled,
        "patches": patches,
        "changed": changed,
        "moved": moved,
        "colours": colours.flatten(2).transpose(1, 2),
    }


def features(backbone: Backbone, images: list, most: int) -> tuple[np.ndarray, torch.Tensor]:
    """CLS, mean and s.d. of patch tokens [N, 3 D], and patch tokens of the first `most` cells, float16."""
    pooled, kept = [], []
    for start in range(0, len(images), 16):
        tokens = backbone(backbone.prepare(images[start : start + 16]))
        pooled.append(torch.cat([tokens[:, 0], tokens[:, 1:].mean(1), tokens[:, 1:].std(1)], 1).numpy())
        if start < most:
            kept.append(tokens[:, 1:].half())
    return np.concatenate(pooled), torch.cat(kept) if kept else torch.empty(0)


def probe(n: int) -> Any:
    """Ridge regression on standardised features, classes weighted alike; stronger where cells are few."""
    return make_pipeline(StandardScaler(), RidgeClassifier(alpha=30_000 / max(n, 30), class_weight="balanced"))


def few_shot(x: np.ndarray, cells: pd.DataFrame) -> float:
    """Balanced accuracy on all other cells, from a few of each type; mean over draws."""
    chosen = frequent(cells)
    x, y = x[chosen], cells["label"].to_numpy()[chosen]
    rng = np.random.default_rng(0)
    scores = []
    for _ in range(DRAWS):
        train = np.concatenate([rng.permutation(np.flatnonzero(y == c))[:FEW] for c in np.unique(y)])
        test = np.setdiff1d(np.arange(len(y)), train)
        scores.append(balanced_accuracy(y[test], probe(len(train)).fit(x[train], y[train]).predict(x[test])))
    return float(np.mean(scores))


def within(x: np.ndarray, cells: pd.DataFrame) -> float:
    """Balanced accuracy, cross-validated over groups (patients or source images)."""
    chosen = frequent(cells)
    x, y, groups = x[chosen], cells["label"].to_numpy()[chosen], cells["group"].to_numpy()[chosen]
    scores = []
    for train, test in StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0).split(x, y, groups):
        scores.append(balanced_accuracy(y[test], probe(len(train)).fit(x[train], y[train]).predict(x[test])))
    return float(np.mean(scores))


def transfer(domains: dict[str, dict]) -> float:
    """Balanced accuracy on each domain of a probe fitted on the shared types of all others; mean."""
    labels = {name: d["cells"]["label"].replace(NEUTROPHIL_NAMES) for name, d in domains.items()}
    shared = {name: y.isin(SHARED_CELLS).to_numpy() for name, y in labels.items()}
    scores = []
    for test in domains:
        sources = [name for name in domains if name != test]
        x = np.concatenate([domains[name]["pooled"][shared[name]] for name in sources])
        y = np.concatenate([labels[name].to_numpy()[shared[name]] for name in sources])
        predicted = probe(len(y)).fit(x, y).predict(domains[test]["pooled"][shared[test]])
        scores.append(balanced_accuracy(labels[test].to_numpy()[shared[test]], predicted))
    return float(np.mean(scores))


def attributes(domain: dict, data: Path) -> float:
    """AUC (one value against the rest) over values, then over the eleven attributes; two halves."""
    truth = pd.read_csv(data / "acevedo" / "attributes.csv").drop(columns="label").set_index("image")
    names = [str(path.relative_to(data / "acevedo")) for path in domain["cells"]["path"]]
    table = truth.reindex(names).reset_index(drop=True)
    known = table.notna().all(axis=1).to_numpy()
    table, x = table[known], domain["pooled"][known]
    half = np.random.default_rng(0).random(len(x)) < 0.5
    means = []
    for attribute in table:
        y = table[attribute].astype(str).to_numpy()
        scores = []
        for train, test in ((half, ~half), (~half, half)):
            kinds = [k for k in np.unique(y) if min((y[train] == k).sum(), (y[test] == k).sum()) >= 8]
            for kind in kinds if len(kinds) > 1 else []:
                model = probe(train.sum()).fit(x[train], y[train] == kind)
                scores.append(roc_auc_score(y[test] == kind, model.decision_function(x[test])))
        means.append(np.mean(scores))
    return float(np.nanmean(means))


def same_type(domain: dict) -> float:
    """Share of cells, not used for the probe, whose predicted type stays in changed colours."""
    chosen = frequent(domain["cells"])
    y = domain["cells"]["label"].to_numpy()
    tested = domain["changed"][chosen[domain["changed"]]]
    train = np.setdiff1d(np.flatnonzero(chosen), tested)
    if len(set(y[train])) < 2:
        return float("nan")
    model = probe(len(train)).fit(domain["pooled"][train], y[train])
    moved = domain["moved"][np.searchsorted(domain["changed"], tested)]
    return float((model.predict(domain["pooled"][tested]) == model.predict(moved)).mean())


def colour_share(patches: torch.Tensor, colours: torch.Tensor) -> float:
    """Share of the patch tokens' variance [N, P, D] that a linear map of the patch's mean colour [N, P, 3] explains."""
    x, c = patches.flatten(0, 1).double(), colours.flatten(0, 1).double()
    x, c = x - x.mean(0), c - c.mean(0)
    fitted = c @ torch.linalg.lstsq(c, x).solution
    return float(fitted.square().sum() / x.square().sum())


def latent_localisation(domains: dict[str, dict], width: int) -> tuple[float, float]:
    """IoU of the best single latent with nucleus and with cytoplasm, chosen on half of the cells, on the others."""
    tokens = torch.cat([d["patches"][:SAE_CELLS] for d in domains.values()]).flatten(0, 1)
    sae = SparseAutoencoder(width, 4 * width, TopK(16), PositionMean())
    trainer = Trainer(sae, TrainConfig(steps=SAE_STEPS, batch_tokens=SAE_BATCH, warmup_steps=40))
    rng = torch.Generator().manual_seed(0)
    positions = torch.arange(256).repeat(len(tokens) // 256)
    trainer.fit(TokenDraws(tokens, positions, rng))
    scores: dict[int, list[float]] = {2: [], 1: []}
    for name in MASKED:
        x = domains[name]["patches"].float()
        truth = np.stack([patch_classes(m) for m in domains[name]["cells"]["mask"][: len(x)]])
        codes = sae.encode(x).detach().numpy()
        half = np.random.default_rng(0).permutation(len(truth)) % 2 == 0
        for kind, values in scores.items():
            values.append(best_latent(codes[half], truth[half] == kind, codes[~half], truth[~half] == kind))
    return float(np.mean(scores[2])), float(np.mean(scores[1]))


class TokenDraws:
    """Random batches of tokens held in memory, as the trainer reads them."""

    def __init__(self, tokens: torch.Tensor, positions: torch.Tensor, rng: torch.Generator) -> None:
        self.all_tokens, self.all_positions, self.rng = tokens, positions, rng
        self.tokens, self.positions = tokens[:0].float(), positions[:0]

    def __next__(self) -> TokenDraws:
        """The next batch."""
        return self._take(torch.randint(len(self.all_tokens), (SAE_BATCH,), generator=self.rng))

    def sample(self, n: int, seed: int) -> TokenDraws:
        """`n` tokens from which normalisation and bias are set."""
        return self._take(torch.randperm(len(self.all_tokens), generator=torch.Generator().manual_seed(seed))[:n])

    def _take(self, numbers: torch.Tensor) -> TokenDraws:
        batch = TokenDraws(self.all_tokens, self.all_positions, self.rng)
        batch.tokens, batch.positions = self.all_tokens[numbers].float(), self.all_positions[numbers]
        return batch

    def state_dict(self) -> dict[str, Any]:
        """Nothing: these trainings are not gone on with."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to take up."""


def best_latent(x: np.ndarray, y: np.ndarray, x_test: np.ndarray, y_test: np.ndarray) -> float:
    """IoU on the second cells of the latent and threshold that are best on the first; activations [n, P, m]."""
    best = (-1.0, 0, 0.0)
    for latent in np.flatnonzero((x > 0).mean((0, 1)) > 0.003):
        values = x[..., latent]
        for threshold in np.quantile(values[values > 0], (0.0, 0.15, 0.3, 0.5, 0.7)) - 1e-9:
            best = max(best, (iou(values > threshold, y), int(latent), float(threshold)))
    return iou(x_test[..., best[1]] > best[2], y_test)


def megabytes(backbone: Backbone) -> float:
    """Size of all weights as float16."""
    return sum(p.numel() for p in backbone.model.parameters()) * 2 / 1e6


def relative_speed(backbone: Backbone) -> float:
    """Images a second of processor time beside the bundled weights, in turn on one thread; preparation included."""
    images = [np.full((360, 363, 3), 128, np.uint8)] * 8
    nets = (load_backbone("tiny"), backbone)
    seconds: list[list[float]] = [[], []]
    for _ in range(8):
        for net, taken in zip(nets, seconds, strict=True):
            start = time.process_time()
            net(net.prepare(images))
            taken.append(time.process_time() - start)
    return min(seconds[0]) / min(seconds[1])


if __name__ == "__main__":
    main()

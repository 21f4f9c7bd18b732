"""Which recipe? Sparse autoencoders compared on real cells: `python benchmarks/recipes.py --data DATA`.

All are trained on the tokens (bundled backbone) of one half of Acevedo's cells; then each is measured on what it has
not seen:

* explained variance of the other half's tokens: all of it, of what the means of positions leave, in whitened units; L0;
  dead latents;
* IoU of the best latent with nucleus and cytoplasm masks (tecom_wbc, cellavision_wbc; searched on one half,
  scored on the other);
* the eleven human attributes of the unseen cells: mean over attributes and their values of the AUC of the best single
  latent (chosen on one half of these cells, scored on the other) and of a logistic regression on all latents' mean
  activations (same halves);
* seconds a step, all SAEs one after another in the same process.

Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler, StandardScaler

from cytosae import extract, load_backbone, read_cells
from cytosae.atlas import LocalisationConfig, localisation
from cytosae.atlas.encoding.token_activations import encode_cells
from cytosae.evaluation.unit_scores import aucs
from cytosae.sae import (
    BatchTopK,
    Independent,
    JumpRelu,
    Matryoshka,
    MeanNorm,
    NoNormalisation,
    PositionMean,
    ReluL1,
    SparseAutoencoder,
    Tied,
    TopK,
    TrainConfig,
    Trainer,
    Whitening,
    evaluate,
)
from cytosae.tokens import ReaderConfig, TokenReader

EXPANSION = 8
CANDIDATES = {
    "TopK 32, raw tokens": (TopK(32), NoNormalisation(), Tied()),
    "TopK 32, mean norm": (TopK(32), MeanNorm(), Tied()),
    "TopK 32, position means out": (TopK(32), PositionMean(), Tied()),
    "TopK 32, whitened": (TopK(32), Whitening(), Tied()),
    "TopK 16, position means out": (TopK(16), PositionMean(), Tied()),
    "BatchTopK 32, position means out": (BatchTopK(32), PositionMean(), Tied()),
    "Matryoshka 32, position means out": (Matryoshka(32), PositionMean(), Tied()),
    "JumpReLU, position means out": (JumpRelu(), PositionMean(), Tied()),
    "ReLU + L1 (paper)": (ReluL1(8e-5), NoNormalisation(), Independent()),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--only", nargs="*", help="words of candidates to measure, by default all")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", message="lbfgs failed to converge|Increase the number of iterations")
    with tempfile.TemporaryDirectory() as folder:
        compare(arguments.data, Path(folder), arguments.steps, arguments.only or [""])


def compare(data: Path, work: Path, steps: int, words: list[str]) -> None:
    backbone = load_backbone("tiny")
    acevedo = read_cells(data / "acevedo", name="acevedo")
    order = np.random.default_rng(0).permutation(len(acevedo))
    seen, unseen = (acevedo.subset(np.sort(part)) for part in np.array_split(order, 2))
    stores = {name: extract(cells, backbone, work / name) for name, cells in (("seen", seen), ("unseen", unseen))}
    masked = [read_cells(data / name, name=name) for name in ("tecom_wbc", "cellavision_wbc")]
    sources = [(extract(cells, backbone, work / cells.name), cells) for cells in masked]
    names = [name for name in CANDIDATES if any(word in name for word in words)]
    rows = []
    for name in names:
        sparsity, normalisation, initialisation = CANDIDATES[name]
        width = EXPANSION * backbone.width
        sae = SparseAutoencoder(backbone.width, width, sparsity, normalisation, initialisation=initialisation)
        seconds = fit(sae, stores["seen"], steps)
        rows.append({"recipe": name, **measure(sae, stores["unseen"], unseen, sources, data), "s a step": seconds})
        print(rows[-1], flush=True)
    rows.append({"recipe": "backbone tokens (mean)", **probe(mean_tokens(stores["unseen"]), unseen, data)})
    print(markdown(rows))


def fit(sae: SparseAutoencoder, store: object, steps: int) -> float:
    paper = isinstance(sae.sparsity, ReluL1)
    config = (
        TrainConfig.paper(steps=steps, batch_tokens=4096, warmup_steps=50, seed=0)
        if paper
        else TrainConfig(steps=steps, warmup_steps=50)
    )
    trainer = Trainer(sae, config)
    start = time.perf_counter()
    trainer.fit(TokenReader([store], ReaderConfig(batch_tokens=4096)))  # type: ignore[list-item]
    sae.eval()
    return (time.perf_counter() - start) / steps


def measure(sae, unseen_store, unseen, sources, data) -> dict[str, float]:
    m = evaluate(sae, unseen_store, 32_768)
    found = localisation(sae, sources, config=LocalisationConfig(bootstrap=200, permutations=5)).table
    latents = found[found["family"] == "SAE latent"].set_index("structure")["iou"]
    codes = torch.vstack([mean_code(sae, tokens) for _, tokens in unseen_store.batches(32)]).numpy()
    return {
        "L0": m.l0,
        "dead": m.dead_share,
        "EV": m.explained_variance,
        "EV after positions": m.explained_variance_after_position,
        "EV whitened": m.explained_variance_whitened,
        "nucleus IoU": latents["nucleus"],
        "cytoplasm IoU": latents["cytoplasm"],
        **probe(codes, unseen, data),
    }


def mean_code(sae: SparseAutoencoder, tokens: torch.Tensor) -> torch.Tensor:
    codes = encode_cells(sae, tokens)
    dense = np.zeros((len(tokens), sae.d_sae), np.float32)
    T = tokens.shape[1]
    for i in range(len(tokens)):
        dense[i] = np.asarray(codes[i * T : (i + 1) * T].mean(axis=0)).ravel()
    return torch.from_numpy(dense)


def mean_tokens(store) -> np.ndarray:
    return torch.vstack([tokens.mean(1) for _, tokens in store.batches(64)]).numpy()


def probe(values: np.ndarray, cells, data: Path) -> dict[str, float]:
    """Mean AUC over attributes (and values with 10 cells in each half) of the best column and of a linear probe."""
    truth = pd.read_csv(data / "acevedo" / "attributes.csv").set_index("image").drop(columns="label")
    frame = cells.frame["image"].map(lambda image: image if image in truth.index else None)
    rows = np.flatnonzero(frame.notna().to_numpy())
    table, x = truth.loc[frame.iloc[rows]], values[rows]
    half = np.random.default_rng(1).random(len(rows)) < 0.5
    best, linear = [], []
    for attribute in table:
        y = table[attribute].to_numpy()
        kinds = [k for k in np.unique(y) if min((y[half] == k).sum(), (y[~half] == k).sum()) >= 10]
        if len(kinds) < 2:
            continue
        singles, scores = [], []
        model = make_pipeline(MaxAbsScaler(), StandardScaler(), LogisticRegression(C=0.01, max_iter=300))
        model.fit(x[half], y[half])
        probabilities = model.predict_proba(x[~half])
        for kind in kinds:
            train = aucs(x[half], y[half] == kind)
            column = int(np.abs(train - 0.5).argmax())
            held_out = aucs(x[~half][:, [column]], y[~half] == kind)[0]
            singles.append(held_out if train[column] > 0.5 else 1 - held_out)
            scores.append(aucs(probabilities[:, [list(model.classes_).index(kind)]], y[~half] == kind)[0])
        best.append(np.mean(singles))
        linear.append(np.mean(scores))
    return {"best latent AUC": float(np.mean(best)), "linear AUC": float(np.mean(linear))}


def markdown(rows: list[dict[str, object]]) -> str:
    columns = list(rows[0])
    lines = ["| " + " | ".join(columns) + " |", "|" + "|".join("---" for _ in columns) + "|"]
    for row in rows:
        cells = [f"{row[c]:.3f}" if isinstance(row.get(c), float) else str(row.get(c, "")) for c in columns]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()

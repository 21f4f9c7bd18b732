"""How real synthetic cells are to a backbone: linear classifiers carried from synthetic to real cells and back.

    python scripts/realism.py --data DATA

Mean and standard deviation over a cell's tokens; logistic regression on neutrophil, lymphocyte, monocyte, eosinophil.
Trained on synthetic cells of all laboratories and applied to each real data set, trained on real ones and applied to
synthetic ones, beside cross-validation within each and transfer between real data sets. The figure is the mean over
the types of the share recognised (balanced accuracy): a guess is right in 0.25. Brackets: 2.5 and 97.5 percentiles of
1,000 bootstrap draws of the tested cells; cross-validated figures over five folds of source images or patients.
"""

from __future__ import annotations

import argparse
import hashlib
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image, ImageFile
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from cytosae.backbones import load_backbone
from cytosae.cells.synthetic import DOMAINS, TYPES, draw_cell
from cytosae.cells.synthetic.domains import vary_domain

LABELS = ("neutrophil", "lymphocyte", "monocyte", "eosinophil")
REAL = ("acevedo", "apl_cohort", "bccd_cells", "tecom_wbc", "cellavision_wbc")
SAME = {
    "segmented neutrophils": "neutrophil", "band neutrophils": "neutrophil", "eosinophils": "eosinophil",
    "neutrophil_segmented": "neutrophil", "neutrophil_band": "neutrophil",
}  # fmt: skip
"""Labels of the data sets and of the generator -> the four that all have."""

Cells = tuple[np.ndarray, np.ndarray, np.ndarray]  # features [N, 2 D], labels, groups


def main() -> None:
    """Draw and read cells, compute tokens, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, help="another tiny.safetensors (with tiny.json beside it)")
    parser.add_argument("--each", type=int, default=120, help="at most so many cells of a label and data set")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    ImageFile.LOAD_TRUNCATED_IMAGES = True  # three files of apl_cohort lack their last bytes
    warnings.simplefilter("ignore", ConvergenceWarning)  # an unfinished fit is judged by its score like any other
    backbone = load_backbone("tiny", options.weights)
    print(f"weights sha256 {backbone.weights_hash}; at most {options.each} cells of a label and data set\n")
    sets: dict[str, Cells] = {}
    for name in REAL:
        paths, labels, groups = real_cells(options.data, name, options.each, options.seed)
        images = [Image.open(path).convert("RGB") for path in paths]
        sets[name] = (tokens(backbone, images), labels, groups)
    images, labels = synthetic_cells(options.each, options.seed)
    sets["synthetic"] = (tokens(backbone, images), labels, np.arange(len(labels)))
    print(table(sets))


def real_cells(data: Path, name: str, each: int, seed: int) -> tuple[list[Path], np.ndarray, np.ndarray]:
    """Paths, labels and groups (patient, or source image) of a real data set's cells of the four types."""
    if name == "acevedo":
        paths = sorted((data / name).glob("PBC_dataset_normal_DIB/*/*.jpg"))
        group = [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]  # it holds exact copies
        frame = pd.DataFrame({"path": paths, "label": [path.parent.name for path in paths], "group": group})
    else:
        table = pd.read_csv(data / name / "manifest.csv")
        group = table["patient"] if name == "apl_cohort" else table["source_path"].str.split("#").str[0]
        paths = [data / name / image for image in table["image"]]
        frame = pd.DataFrame({"path": paths, "label": table["label"].str.lower(), "group": group})
    frame["label"] = frame["label"].replace(SAME)
    frame = frame[frame["label"].isin(LABELS)].sample(frac=1, random_state=seed)
    frame = frame.groupby("label").head(each)
    return frame["path"].tolist(), frame["label"].to_numpy(dtype=str), frame["group"].to_numpy(dtype=str)


def synthetic_cells(each: int, seed: int) -> tuple[list[Image.Image], np.ndarray]:
    """As many synthetic cells of each type from each laboratory, as it looks on different days."""
    images, labels = [], []
    names = [name for name in TYPES if SAME.get(name, name) in LABELS]
    for number, (domain, name) in enumerate((domain, name) for domain in DOMAINS.values() for name in names):
        share = 2 if name.startswith("neutrophil") else 1  # two types of neutrophil, one label
        for cell in range(-(-2 * each // (share * len(DOMAINS)))):
            rng = np.random.default_rng([seed, number, cell])
            images.append(Image.fromarray(draw_cell(name, vary_domain(domain, rng, 1.0), rng).image))
            labels.append(SAME.get(name, name))
    return images, np.array(labels)


def tokens(backbone, images: list[Image.Image]) -> np.ndarray:
    """Mean and standard deviation over the tokens of each image, [N, 2 D]."""
    pooled = []
    with torch.inference_mode():
        for start in range(0, len(images), 32):
            found = backbone(backbone.prepare(images[start : start + 32]))
            pooled.append(torch.cat([found.mean(1), found.std(1)], 1).float().numpy())
    return np.concatenate(pooled)


def table(sets: dict[str, Cells]) -> str:
    """Markdown: a row for each real data set."""
    pools = {name: pooled(sets, name) for name in REAL}
    lines = [
        "| real data set | cells | synthetic → real | other real → real | real → synthetic | within real |",
        "|---|---|---|---|---|---|",
    ]
    drawn = sets["synthetic"]
    learned = classifier().fit(drawn[0], drawn[1])
    for name in REAL:
        own = sets[name]
        others = classifier().fit(pools[name][0], pools[name][1])
        back = classifier().fit(own[0], own[1])
        lines.append(
            f"| {name} | {len(own[1])} | {score(learned, own)} | {score(others, own)} | {score(back, drawn)} "
            f"| {within(own)} |"
        )
    everything = pooled(sets, "synthetic")
    back = classifier().fit(everything[0], everything[1])
    lines.append(
        f"| all | {len(everything[1])} | {score(learned, everything)} | | {score(back, drawn)} | {within(everything)} |"
    )
    return "\n".join([*lines, "", f"Within synthetic cells ({len(drawn[1])}): {within(drawn)}."])


def pooled(sets: dict[str, Cells], without: str) -> Cells:
    """All real cells but one data set's."""
    parts = [cells for name, cells in sets.items() if name not in (without, "synthetic")]
    features, labels, groups = (np.concatenate([np.asarray(part[i]) for part in parts]) for i in range(3))
    return features, labels, groups


def classifier() -> Pipeline:
    """Scaled logistic regression, classes weighted alike."""
    return make_pipeline(StandardScaler(), LogisticRegression(C=0.01, class_weight="balanced", max_iter=2000))


def balanced(truth: np.ndarray, guess: np.ndarray) -> float:
    """Mean over labels of the share recognised."""
    return float(np.mean([(guess[truth == label] == label).mean() for label in np.unique(truth)]))


def score(model: Pipeline, cells: Cells) -> str:
    """Balanced accuracy with its bootstrap interval; cells are drawn again within each label."""
    truth, guess = cells[1], model.predict(cells[0])
    rng = np.random.default_rng(0)
    parts = [np.flatnonzero(truth == label) for label in np.unique(truth)]
    draws = []
    for _ in range(1000):
        rows = np.concatenate([rng.choice(part, len(part)) for part in parts])
        draws.append(balanced(truth[rows], guess[rows]))
    low, high = np.quantile(draws, [0.025, 0.975])
    return f"{balanced(truth, guess):.3f} [{low:.3f}, {high:.3f}]"


def within(cells: Cells) -> str:
    """Balanced accuracy of five-fold cross-validation, groups held together."""
    features, labels, groups = cells
    guess = labels.copy()
    for train, test in StratifiedGroupKFold(5, shuffle=True, random_state=0).split(features, labels, groups):
        guess[test] = classifier().fit(features[train], labels[train]).predict(features[test])
    return f"{balanced(labels, guess):.3f}"


if __name__ == "__main__":
    main()

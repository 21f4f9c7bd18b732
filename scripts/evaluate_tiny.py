"""Measure the bundled `tiny` backbone: every figure of its model card in one run, as Markdown tables.

    python scripts/evaluate_tiny.py --data DATA

Linear probes (logistic regression) on frozen tokens, for the trained net, the weights that were bundled before, the
net untrained, and raw pixels; where nuclei are; how far colour moves the tokens; and the statistics of the tokens
themselves. Labels, attributes and masks are yardsticks only: no training has seen them. Uncertainty: s.d. over five
folds (split by source image, or by patient), or the 2.5 and 97.5 percentiles of 1,000 bootstrap draws of test cells.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import warnings
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image, ImageFile
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from timm.models.eva import Eva
from torch import Tensor
from torchvision.transforms import v2

from cytosae.backbones import REGISTRY, Backbone, load_backbone

DOMAINS = ("acevedo", "bccd_cells", "tecom_wbc", "cellavision_wbc", "apl_cohort")
CHANGED = 400  # cells of each domain whose colours are changed
STRENGTHS = (0.0003, 0.003, 0.03)  # inverse regularisation
SHARED_CELLS = ("neutrophil", "lymphocyte", "monocyte", "eosinophil")
NEUTROPHIL_NAMES = {
    "segmented neutrophils": "neutrophil",
    "band neutrophils": "neutrophil",
    "eosinophils": "eosinophil",
}
NETS = ("tiny", "former", "untrained", "pixels")
Result = tuple[str, dict[str, dict[str, float]]]  # a Markdown table, and headline -> net -> mean
LEAST = 8  # cells (and groups) that a class needs to be probed
FOLDS = 5


@dataclass
class Domain:
    """Cells of one data set, with what each net makes of them."""

    cells: pd.DataFrame  # path, label, group, mask
    pooled: dict[str, np.ndarray] = field(default_factory=dict)  # net -> [N, F]
    changed: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=int))  # cells seen in changed colours, too
    jittered: dict[str, np.ndarray] = field(default_factory=dict)  # net -> [len(changed), F]
    patches: dict[str, np.ndarray] = field(default_factory=dict)  # net -> [N, 256, D] float16


def main() -> None:
    """Read cells, compute tokens, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, help="another tiny.safetensors (with tiny.json beside it)")
    parser.add_argument("--every", type=int, default=2, help="take every n-th cell of apl_cohort only")
    parser.add_argument("--nets", nargs="+", default=list(NETS), choices=NETS)
    tables = (token_statistics, localisation, transfer, colour, cell_types, attributes)
    parser.add_argument(
        "--tables", nargs="+", default=[t.__name__ for t in tables], choices=[t.__name__ for t in tables]
    )
    options = parser.parse_args()
    ImageFile.LOAD_TRUNCATED_IMAGES = True  # three files of apl_cohort lack their last bytes
    warnings.simplefilter("ignore", ConvergenceWarning)  # an unfinished fit is judged by its score like any other
    trained = load_backbone("tiny", options.weights)
    print(f"weights sha256 {trained.weights_hash}\n", flush=True)
    domains = {}
    for name in DOMAINS:
        cells = read_cells(options.data, name)
        if name == "apl_cohort":
            cells = cells.iloc[:: options.every].reset_index(drop=True)
        domains[name] = Domain(cells)
        compute(domains[name], trained, options.nets)
    means: dict[str, dict[str, float]] = {}
    for table in tables:
        if table.__name__ in options.tables:
            text, headline = table(domains, options.nets, options.data)
            means |= headline
            print(text, "\n", flush=True)
    rows = [[net, *[f"{values[net]:.3f}" for values in means.values()]] for net in options.nets]
    print(markdown("In short: means over the domains, attributes or transfers", ["net", *means], rows))


def read_cells(data: Path, name: str) -> pd.DataFrame:
    """One row a cell: path, label, group (what must not be in training and test at once), mask."""
    if name == "acevedo":
        paths = sorted((data / name).glob("PBC_dataset_normal_DIB/*/*.jpg"))
        cells = pd.DataFrame({"path": paths, "label": [p.parent.name for p in paths], "mask": None})
        # exact duplicates under two names are one source image
        return cells.assign(group=[hashlib.sha256(p.read_bytes()).hexdigest() for p in paths])
    frame = pd.read_csv(data / name / "manifest.csv")
    cells = pd.DataFrame(
        {"path": [data / name / image for image in frame["image"]], "label": frame["label"].str.lower()}
    )
    if name == "apl_cohort":
        return cells.assign(group=frame["patient"], mask=None)
    group = frame["source_path"].str.split("#").str[0]
    masks = [data / name / m if isinstance(m, str) else None for m in frame["mask"]]
    return cells.assign(group=group, mask=masks)


def compute(domain: Domain, trained: Backbone, nets: list[str]) -> None:
    """Fill in pooled tokens of all cells, plain and with changed colours, and patch tokens of some."""
    torch.manual_seed(0)
    jitter = v2.ColorJitter(brightness=0.25, contrast=0.25, saturation=0.4, hue=0.06)
    images = [load(path) for path in domain.cells["path"]]
    domain.changed = np.sort(np.random.default_rng(0).permutation(len(images))[:CHANGED])
    changed = [jitter(images[i]) for i in domain.changed]
    for net in nets:
        domain.pooled[net], domain.patches[net] = features(net, trained, images)
        domain.jittered[net], _ = features(net, trained, changed)


def load(path: Path) -> Image.Image:
    """A cell's image."""
    with Image.open(path) as image:
        return image.convert("RGB")


def features(net: str, trained: Backbone, images: list[Image.Image]) -> tuple[np.ndarray, np.ndarray]:
    """Pooled features [N, F], and tokens of the first 512 cells [n, 256, D] (for pixels: the patches' own)."""
    if net == "pixels":
        small = [
            np.asarray(image.resize((32, 32), Image.Resampling.BILINEAR), dtype=np.float32).ravel() / 255
            for image in images
        ]
        batch = trained.prepare(images[:512])
        side = trained.preprocessing.size // trained.grid[0]
        patches = batch.unfold(2, side, side).unfold(3, side, side).permute(0, 2, 3, 1, 4, 5)
        patches = patches.reshape(len(batch), 256, -1)
        return np.stack(small), patches.numpy().astype(np.float16)
    pooled, kept = [], []
    network = NETWORKS[net](trained)
    for start in range(0, len(images), 32):
        tokens = network(network.prepare(images[start : start + 32]))
        pooled.append(torch.cat([tokens[:, 0], tokens[:, 1:].mean(1), tokens[:, 1:].std(1)], 1).numpy())
        if start < 512:
            kept.append(tokens[:, 1:].numpy().astype(np.float16))
    return np.concatenate(pooled), np.concatenate(kept)


def untrained(trained: Backbone) -> Backbone:
    """The same architecture with the random weights it starts from."""
    torch.manual_seed(0)
    described = resources.files("cytosae.backbones") / "weights" / "tiny.json"
    model = Eva(**json.loads(described.read_text())["architecture"]["arguments"])
    return Backbone(
        model, name="untrained", preprocessing=trained.preprocessing, block=trained.block,
        weights_hash="", source="random", licence="",
    )  # fmt: skip


def former(_trained: Backbone) -> Backbone:
    """The weights that the last version bundled."""
    return load_backbone("tiny", list(REGISTRY["tiny"].former)[-1])


NETWORKS = {"tiny": lambda trained: trained, "former": former, "untrained": untrained}


def probe(strength: float, iterations: int = 150) -> Pipeline:
    """Logistic regression on standardised features, classes weighted alike."""
    regression = LogisticRegression(C=strength, class_weight="balanced", max_iter=iterations, tol=1e-3)
    return make_pipeline(StandardScaler(), regression)


def fit_probe(x: np.ndarray, y: np.ndarray, groups: np.ndarray) -> Pipeline:
    """Choose the strength of regularisation on one inner split of the training cells, then fit on all of them."""
    inner, held = next(StratifiedGroupKFold(4, shuffle=True, random_state=1).split(x, y, groups))
    scores = [balanced_accuracy(y[held], probe(c, 60).fit(x[inner], y[inner]).predict(x[held])) for c in STRENGTHS]
    return probe(STRENGTHS[int(np.argmax(scores))]).fit(x, y)


def balanced_accuracy(true: np.ndarray, predicted: np.ndarray) -> float:
    """Mean over the classes that are there of the share that is recognised."""
    return float(np.mean([(predicted[true == c] == c).mean() for c in np.unique(true)]))


def cross_validate(x: np.ndarray, y: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Balanced accuracy and macro AUC (one against the rest) of each fold."""
    accuracy, area = [], []
    for train, test in StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0).split(x, y, groups):
        model = fit_probe(x[train], y[train], groups[train])
        accuracy.append(balanced_accuracy(y[test], model.predict(x[test])))
        chances = model.predict_proba(x[test])
        each = [
            roc_auc_score(y[test] == c, chances[:, i])
            for i, c in enumerate(model.classes_)
            if 0 < (y[test] == c).sum() < len(test)
        ]
        area.append(np.mean(each))
    return np.array(accuracy), np.array(area)


def frequent(cells: pd.DataFrame, column: str = "label") -> np.ndarray:
    """Which cells belong to a class of at least LEAST cells from as many groups."""
    usable = cells.groupby(column)["group"].nunique()
    return cells[column].isin(usable.index[usable >= LEAST]).to_numpy() & (cells[column] != "wbc_unlabelled").to_numpy()


def cell_types(domains: dict[str, Domain], nets: list[str], _data: Path) -> Result:
    """Probes for the cell type within each domain."""
    rows, scores = [], {net: [] for net in nets}
    for name, domain in domains.items():
        chosen = frequent(domain.cells)
        y, groups = domain.cells["label"].to_numpy()[chosen], domain.cells["group"].to_numpy()[chosen]
        row = [name, str(int(chosen.sum())), str(len(set(y)))]
        for net in nets:
            accuracy, _ = cross_validate(domain.pooled[net][chosen], y, groups)
            row.append(spread(accuracy))
            scores[net].append(accuracy.mean())
        rows.append(row)
    text = markdown("Cell types within a domain: balanced accuracy", ["domain", "cells", "classes", *nets], rows)
    return text, {"cell types": mean_of(scores)}


def attributes(domains: dict[str, Domain], nets: list[str], data: Path) -> Result:
    """Probes for the eleven attributes of acevedo."""
    labels = pd.read_csv(data / "acevedo" / "attributes.csv").drop(columns="label").set_index("image")
    cells = domains["acevedo"].cells
    names = [str(path.relative_to(data / "acevedo")) for path in cells["path"]]
    cells = pd.concat([cells, labels.reindex(names).reset_index(drop=True)], axis=1)
    rows, areas = [], {net: [] for net in nets}
    for attribute in labels.columns:
        chosen = cells[attribute].notna().to_numpy() & frequent(cells, attribute)
        y, groups = cells[attribute].to_numpy()[chosen].astype(str), cells["group"].to_numpy()[chosen]
        row = [attribute, str(int(chosen.sum())), str(len(set(y)))]
        for net in nets:
            accuracy, area = cross_validate(domains["acevedo"].pooled[net][chosen], y, groups)
            row += [spread(accuracy), spread(area)]
            areas[net].append((accuracy.mean(), area.mean()))
        rows.append(row)
    rows.append(["mean", "", ""] + [f"{value:.3f}" for net in nets for value in np.mean(areas[net], 0)])
    head = ["attribute", "cells", "values", *[f"{net}: {what}" for net in nets for what in ("bal. acc.", "AUC")]]
    text = markdown("Attributes of acevedo (WBCAtt): balanced accuracy and macro AUC", head, rows)
    return text, {"attributes, AUC": {net: float(np.mean(areas[net], 0)[1]) for net in nets}}


def transfer(domains: dict[str, Domain], nets: list[str], _data: Path) -> Result:
    """Probes trained on the four shared cells of all other domains, or of the two training domains, tested on one."""
    rows, scores = [], {net: [] for net in nets}
    renamed = {name: d.cells["label"].replace(NEUTROPHIL_NAMES) for name, d in domains.items()}
    shared = {name: labels.isin(SHARED_CELLS).to_numpy() for name, labels in renamed.items()}
    for test in DOMAINS:
        for sources in (DOMAINS[:2], tuple(d for d in DOMAINS if d != test)):
            if test in sources:
                continue
            y = np.concatenate([renamed[d].to_numpy()[shared[d]] for d in sources])
            groups = np.concatenate(
                [f"{d}/" + domains[d].cells["group"].astype(str).to_numpy()[shared[d]] for d in sources]
            )
            truth = renamed[test].to_numpy()[shared[test]]
            row = ["acevedo + bccd" if sources == DOMAINS[:2] else "all others", test, str(len(truth))]
            for net in nets:
                x = np.concatenate([domains[d].pooled[net][shared[d]] for d in sources])
                model = fit_probe(x, y, groups)
                predicted = model.predict(domains[test].pooled[net][shared[test]])
                row.append(interval(truth, predicted))
                scores[net].append(balanced_accuracy(truth, predicted))
            rows.append(row)
    head = ["trained on", "tested on", "cells", *nets]
    text = markdown("Four shared cell types across domains: balanced accuracy", head, rows)
    return text, {"across domains": mean_of(scores)}


def colour(domains: dict[str, Domain], nets: list[str], _data: Path) -> Result:
    """How far a change of brightness, contrast, saturation and hue moves features and probe outputs."""
    rows, same = [], {net: [] for net in nets}
    for name, domain in domains.items():
        chosen = frequent(domain.cells)
        numbers = np.flatnonzero(chosen)
        y, groups = domain.cells["label"].to_numpy(), domain.cells["group"].to_numpy()
        halves = StratifiedGroupKFold(2, shuffle=True, random_state=0).split(numbers, y[chosen], groups[chosen])
        train, held = (numbers[half] for half in next(halves))
        tested = np.intersect1d(held, domain.changed)
        row = [name, str(len(tested))]
        for net in nets:
            x = domain.pooled[net]
            changed = domain.jittered[net][np.searchsorted(domain.changed, tested)]
            moved = ((x[tested] - changed) ** 2).sum(1).mean() / ((x - x.mean(0)) ** 2).sum(1).mean()
            model = fit_probe(x[train], y[train], groups[train])
            before, after = model.predict(x[tested]), model.predict(changed)
            drop = balanced_accuracy(y[tested], before) - balanced_accuracy(y[tested], after)
            same[net].append((before == after).mean())
            row += [f"{moved:.2f}", f"{(before == after).mean():.2f}", f"{drop:+.3f}"]
        rows.append(row)
    head = ["domain", "cells", *[f"{net}: {what}" for net in nets for what in ("moved", "same", "loss")]]
    text = (
        "moved: mean squared change of the pooled features / their variance over cells; same: share of cells whose "
        "predicted type is the same; loss: of balanced accuracy, when the probe is trained on unchanged colours"
    )
    changed = markdown("Changed colours (torchvision ColorJitter 0.25, 0.25, 0.4, 0.06)", head, rows)
    return f"{changed}\n\n{text}", {"same type in changed colours": mean_of(same)}


def localisation(domains: dict[str, Domain], nets: list[str], _data: Path) -> Result:
    """IoU with nucleus and cytoplasm, over patches, in cells that neither probe nor search has seen."""
    rows, nuclei = [], {net: [] for net in nets}
    masked = ("tecom_wbc", "cellavision_wbc")
    truth = {name: np.stack([patch_classes(m) for m in domains[name].cells["mask"]]) for name in masked}
    for name in masked:
        other = masked[1 - masked.index(name)]
        half = np.random.default_rng(0).permutation(len(truth[name])) % 2 == 0
        for kind, title in ((2, "nucleus"), (1, "cytoplasm")):
            row = [name, title, f"{iou(np.ones_like(truth[name][~half], dtype=bool), truth[name][~half] == kind):.2f}"]
            for net in nets:
                x = domains[name].patches[net].astype(np.float32)
                there = domains[other].patches[net].astype(np.float32)
                values = [
                    best_unit(x[half], truth[name][half] == kind, x[~half], truth[name][~half] == kind),
                    patch_probe(x[half], truth[name][half] == kind, x[~half], truth[name][~half] == kind),
                    patch_probe(there, truth[other] == kind, x[~half], truth[name][~half] == kind),
                ]
                row += [f"{value:.2f}" for value in values]
                if title == "nucleus":
                    nuclei[net].append(values)
            rows.append(row)
    head = [
        "domain",
        "part",
        "all patches",
        *[f"{net}: {what}" for net in nets for what in ("best unit", "probe", "probe from the other domain")],
    ]
    text = markdown("Where nucleus and cytoplasm are: IoU over patches", head, rows)
    parts = {"nucleus, best unit": 0, "nucleus, probe from the other domain": 2}
    return text, {k: {net: float(np.mean(nuclei[net], 0)[i]) for net in nets} for k, i in parts.items()}


def patch_classes(mask: Path) -> np.ndarray:
    """The commonest class (0 background, 1 cytoplasm, 2 nucleus) of each of the 16 x 16 patches, flat [256]."""
    with Image.open(mask) as image:
        classes = np.asarray(image.resize((128, 128), Image.Resampling.NEAREST))
    patches = classes.reshape(16, 8, 16, 8).transpose(0, 2, 1, 3).reshape(256, 64)
    return np.stack([(patches == c).sum(1) for c in range(3)]).argmax(0)


def iou(found: np.ndarray, true: np.ndarray) -> float:
    """Intersection over union, all cells together."""
    return float((found & true).sum() / max(1, (found | true).sum()))


def best_unit(x: np.ndarray, y: np.ndarray, x_test: np.ndarray, y_test: np.ndarray) -> float:
    """IoU of the one number of the token, with sign and threshold, that is best on the first cells, on the others."""
    best = (-1.0, 0, 1, 0.0)
    for unit in range(x.shape[-1]):
        for sign in (1, -1):
            values = sign * x[..., unit]
            for threshold in np.quantile(values, np.linspace(0.3, 0.97, 24)):
                best = max(best, (iou(values > threshold, y), unit, sign, float(threshold)))
    _, unit, sign, threshold = best
    return iou(sign * x_test[..., unit] > threshold, y_test)


def patch_probe(x: np.ndarray, y: np.ndarray, x_test: np.ndarray, y_test: np.ndarray) -> float:
    """IoU of a logistic regression on single tokens."""
    model = probe(0.01).fit(x.reshape(-1, x.shape[-1]), y.ravel())
    return iou(model.predict(x_test.reshape(-1, x.shape[-1])).reshape(y_test.shape), y_test)


def token_statistics(domains: dict[str, Domain], nets: list[str], _data: Path) -> Result:
    """What the variance of the patch tokens consists of."""
    rows, shares = [], {net: [] for net in nets}
    for name, domain in domains.items():
        for net in nets:
            values = statistics(torch.from_numpy(domain.patches[net].astype(np.float32)))
            shares[net].append(values)
            rows.append([name, net, *[f"{value:.3g}" for value in values]])
    head = [
        "domain",
        "net",
        "position",
        "first direction",
        "ten directions",
        "effective rank",
        "mean norm",
        "s.d. of norm",
    ]
    text = markdown("Patch tokens: share of their variance by position and by leading directions", head, rows)
    parts = {"position": 0, "first direction": 1}
    return text, {k: {net: float(np.mean(shares[net], 0)[i]) for net in nets} for k, i in parts.items()}


def statistics(x: Tensor) -> list[float]:
    """Shares of variance, exp of the spectral entropy, and norms, of tokens [N, P, D]."""
    flat = x.flatten(0, 1)
    centred = flat - flat.mean(0)
    total = centred.square().sum(1).mean()
    # the means of finitely many cells vary by chance, too: subtract what chance alone would give
    noise = x.var(0).sum(1).mean() / len(x)
    position = ((x.mean(0) - flat.mean(0)).square().sum(1).mean() - noise) / total
    share = torch.linalg.eigvalsh(centred.T @ centred / len(flat)).clamp(min=0).flip(0)
    share = share / share.sum()
    rank = torch.exp(-(share * share.clamp(min=1e-12).log()).sum())
    norms = flat.norm(dim=1)
    return [float(v) for v in (position, share[0], share[:10].sum(), rank, norms.mean(), norms.std())]


def mean_of(scores: dict[str, list[float]]) -> dict[str, float]:
    """Mean of each net's scores."""
    return {net: float(np.mean(values)) for net, values in scores.items()}


def spread(values: np.ndarray) -> str:
    """Mean and s.d. over folds."""
    return f"{values.mean():.3f} ± {values.std(ddof=1):.3f}"


def interval(truth: np.ndarray, predicted: np.ndarray) -> str:
    """Balanced accuracy with a bootstrap interval."""
    rng = np.random.default_rng(0)
    draws = rng.integers(len(truth), size=(1000, len(truth)))
    right = truth == predicted
    scores = [np.mean([right[d][truth[d] == c].mean() for c in np.unique(truth[d])]) for d in draws]
    low, high = np.quantile(scores, [0.025, 0.975])
    return f"{balanced_accuracy(truth, predicted):.3f} [{low:.2f}, {high:.2f}]"


def markdown(title: str, head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [f"### {title}", "", "| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


if __name__ == "__main__":
    main()

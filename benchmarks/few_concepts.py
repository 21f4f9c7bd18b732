"""How few concepts are chosen: three methods compared on planted and on real patients, and the curves of a cohort.

    python benchmarks/few_concepts.py [--study STUDY] [--repeats 10] [--out FOLDER]

Planted patients are numbers: of 600 latents, three, each with two near-twins, carry the diagnosis. Printed for each
method: how often the three are among the first three chosen in a fold, the AUROC of 1 to 12 concepts, that of the
number chosen in inner folds, and seconds a fold. With --study, the same of the study's patients for each kind of
barcode; then the curves beside random weights, neurons, components and clusters.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from cytosae.cohort import ClassificationConfig, Configuration, Controls, Design, gather
from cytosae.cohort.classification.assessment import Trial, cross_validate
from cytosae.cohort.classification.cohort_arrays import CohortArrays
from cytosae.cohort.classification.features import fixed
from cytosae.cohort.classification.few_concepts import Few
from cytosae.cohort.classification.few_curve import few_curves, few_scores
from cytosae.cohort.classification.models import Model
from cytosae.cohort.classification.scores import auroc_of
from cytosae.cohort.classification.selection import METHODS
from cytosae.pipeline import Study
from cytosae.pipeline.cohort_work import CohortWork

PLANTED = 3
TWINS = 2
SHOWN = (1, 2, 3, 4, 6, 8, 10, 12)


def main() -> None:
    """Run what is asked for and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", type=Path)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=5, help="planted cohorts")
    parser.add_argument("--out", type=Path, help="folder for curves.csv and methods.csv")
    asked = parser.parse_args()
    config = ClassificationConfig(repeats=asked.repeats, bootstrap=1000)
    rows = [row for seed in range(asked.seeds) for row in of_planted(replace(config, repeats=2, seed=seed))]
    table = pd.DataFrame(rows).groupby(["patients", "method"], sort=False).mean().reset_index()
    curves = None
    if asked.study is not None:
        data = of_study(asked.study, config)
        trial = Trial.of(data, data.design, config, config.seed)
        found = [row for kind, X in data.layers.items() for row in methods(kind, X, trial)]
        table = pd.concat([table, pd.DataFrame(found)])
        curves = pd.concat([few_curves(Configuration(kind), trial) for kind in config.kinds])
    print(table.to_string(index=False, float_format="{:.3f}".format))
    if curves is not None:
        print(curves.pivot_table("auroc", "features", "concepts").round(3).to_string())
        print(curves[curves["enough"]].round(3).to_string(index=False))
    if asked.out is not None:
        asked.out.mkdir(parents=True, exist_ok=True)
        table.to_csv(asked.out / "methods.csv", index=False)
        if curves is not None:
            curves.to_csv(asked.out / "curves.csv", index=False)


def planted(seed: int, patients: int = 80, latents: int = 600) -> tuple[np.ndarray, np.ndarray]:
    """Barcodes, of which the first nine are three signals with their near-twins, and a diagnosis of a quarter."""
    rng = np.random.default_rng(seed)
    y = (np.arange(patients) % 4 == 0).astype(int)
    X = rng.normal(size=(patients, latents))
    for signal in range(PLANTED):
        values = rng.normal(size=patients) + 1.3 * y
        for twin in range(1 + TWINS):
            X[:, signal * (1 + TWINS) + twin] = values + 0.2 * rng.normal(size=patients)
    return X, y


def of_planted(config: ClassificationConfig) -> list[dict[str, object]]:
    """All methods on one planted cohort."""
    X, y = planted(config.seed)
    names = tuple(f"P{i:03d}" for i in range(len(y)))
    data = CohortArrays(names, Design(y, None, ("other", "planted")), {"presence": X}, None, None, {})
    trial = Trial.of(data, data.design, config, config.seed)
    rows = methods("planted", X, trial)
    for row in rows:
        learner, hits = Few(method=str(row["method"])), []  # pyright: ignore[reportArgumentType]
        for fold in trial.folds:
            own, labels = X[fold.train], y[fold.train]
            first = learner.order(own, labels, learner.join(own, labels), PLANTED).features
            hits.append(len({int(j) // (1 + TWINS) for j in first if j < PLANTED * (1 + TWINS)}) / PLANTED)
        row["found"] = float(np.mean(hits))
    return rows


def methods(name: str, X: np.ndarray, trial: Trial) -> list[dict[str, object]]:
    """AUROC of each method, number by number, and of the number chosen in inner folds."""
    rows, y, K = [], trial.design.y, len(trial.design.classes)
    for method in METHODS:
        learner = Few(method=method)
        curve = [float(auroc_of(scores, y, K)[0]) for scores in few_scores(fixed(X), learner, trial)]
        start = time.perf_counter()
        chosen = cross_validate(Model(name, "concepts", fixed(X), learner), trial.design, trial.folds)
        seconds = (time.perf_counter() - start) / len(trial.folds)
        row = {"patients": name, "method": method, "chosen number": float(auroc_of(chosen, y, K)[0])}
        row |= {"mean of 1 to 12": float(np.mean(curve))} | {str(k): curve[k - 1] for k in SHOWN if k <= len(curve)}
        rows.append({**row, "seconds": seconds})
    return rows


def of_study(path: Path, config: ClassificationConfig) -> CohortArrays:
    """The patients of a study's cohort."""
    there = CohortWork(Study(path))
    asked = replace(config, positive=there.asked.positive)
    controls = Controls(random=there.control)
    return gather(
        there.barcodes, there.atlas, there.colours, patient=there.config.patient, controls=controls, config=asked
    )


if __name__ == "__main__":
    main()

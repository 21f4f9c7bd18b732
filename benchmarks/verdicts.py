"""Precision and recall of the verdicts morphology, artefact, mixed and unclear, where the truth has been planted.

    python benchmarks/verdicts.py [--seeds 11 12 13 14 15] [--smears 6] [--cells 20] [--columns 40]

For every seed, smears of the six laboratories are drawn anew: six cell types, each smear with its own stain. Planted
columns follow what is known of the cell, how its image came about, both, or neither, with as much noise as signal, or
four times as much. The rule sees type, nucleus-to-cytoplasm ratio (in three steps) and laboratory, and the looks of the
images; it is not told the smear's stain, nor the cell's size. Intervals are Wilson's; columns of one seed share cells.
"""

from __future__ import annotations

import argparse

import numpy as np
import pandas as pd
from statsmodels.stats.proportion import proportion_confint

from cytosae.atlas.meaning.verdicts import VERDICTS, give_verdicts
from cytosae.cells.looks import LOOKS, looks_of
from cytosae.cells.synthetic import DOMAINS, draw_cell
from cytosae.cells.synthetic.domains import vary_domain
from cytosae.common.progress import progress

TYPES = ("neutrophil_segmented", "lymphocyte", "monocyte", "eosinophil", "erythroblast", "myeloblast")
TRUTH = {
    "cell type": "morphology",
    "ratio of nucleus to cytoplasm": "morphology",
    "laboratory": "artefact",
    "stain of the smear, in no column": "artefact",
    "type and laboratory": "mixed",
    "ratio and stain of the smear": "mixed",
    "noise": "unclear",
}
UNTOLD = "size of the cell, in no column"
STRENGTHS = (1.0, 0.5)


def main() -> None:
    """Draw, plant, judge, print two tables for each strength."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[11, 12, 13, 14, 15])
    parser.add_argument("--smears", type=int, default=6, help="of each laboratory")
    parser.add_argument("--cells", type=int, default=20, help="of each smear")
    parser.add_argument("--columns", type=int, default=40, help="of each kind")
    options = parser.parse_args()
    found = pd.concat([judged(seed, options) for seed in options.seeds])
    for strength in STRENGTHS:
        here = found[found["strength"] == strength]
        print(f"\nSignal {strength**2 / (1 + strength**2):.0%} of the variance of a column\n")
        print("| follows | " + " | ".join(VERDICTS) + " |")
        print("|---" * (1 + len(VERDICTS)) + "|")
        for kind in (*TRUTH, UNTOLD):
            shares = here.loc[here["kind"] == kind, "verdict"].value_counts(normalize=True)
            print(f"| {kind} | " + " | ".join(f"{shares.get(v, 0.0):.0%}" for v in VERDICTS) + " |")
        scored = here[here["kind"] != UNTOLD]
        truth = scored["kind"].map(TRUTH)
        print("\n| verdict | precision | recall |\n|---|---|---|")
        for name in VERDICTS:
            said, true = scored["verdict"] == name, truth == name
            print(f"| {name} | {share(said & true, said)} | {share(said & true, true)} |")


def judged(seed: int, options: argparse.Namespace) -> pd.DataFrame:
    """Verdicts on the planted columns of one drawing: kind, strength, verdict."""
    cells, looks = drawn(seed, options.smears, options.cells)
    rng = np.random.default_rng([seed, 1])
    columns, rows = [], []
    for _ in range(options.columns):
        of_type = dict(zip(TYPES, rng.normal(size=len(TYPES)), strict=True))
        of_lab = dict(zip(DOMAINS, rng.normal(size=len(DOMAINS)), strict=True))
        kind, lab = (scaled(cells[name].map(of)) for name, of in (("type", of_type), ("laboratory", of_lab)))
        ratio, stain, size = (scaled(cells[name]) for name in ("ratio", "stain", "size"))
        signals = (kind, ratio, lab, stain, kind + lab, ratio + stain, 0 * kind, size)
        for name, signal in zip((*TRUTH, UNTOLD), signals, strict=True):
            for strength in STRENGTHS:
                columns.append(strength * signal + rng.normal(size=len(cells)))
                rows.append({"kind": name, "strength": strength})
    steps = pd.cut(cells["ratio"], [-1, 0.4, 0.65, 2], labels=["low", "middle", "high"])
    verdicts = give_verdicts(
        np.stack(columns, 1),
        pd.DataFrame({"type": cells["type"], "ratio": steps}),
        cells[["laboratory"]],
        looks=looks,
        units=cells["smear"].to_numpy(),
    )
    return pd.DataFrame(rows).assign(verdict=verdicts["verdict"])


def drawn(seed: int, smears: int, cells: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What is true of the cells, and how their images look."""
    rows, looks = [], []
    with progress(f"Drawing, seed {seed}", len(DOMAINS) * smears * cells, "cells") as bar:
        for smear in range(len(DOMAINS) * smears):
            laboratory = list(DOMAINS)[smear % len(DOMAINS)]
            rng = np.random.default_rng([seed, 2, smear])
            domain = vary_domain(DOMAINS[laboratory], rng, 1.0)
            stain = np.log(np.sum(domain.dyes[0]) / np.sum(DOMAINS[laboratory].dyes[0]))
            for _ in range(cells):
                kind = str(rng.choice(TYPES))
                drawing = draw_cell(kind, domain, rng, size=64, difficulty=0.5)
                looks.append(looks_of(drawing.image))
                ratio, size = (drawing.attributes[name] for name in ("nuclear_cytoplasmic_ratio", "cell_diameter"))
                rows.append((kind, laboratory, smear, stain, ratio, size))
                bar.advance(1)
    names = pd.Index(["type", "laboratory", "smear", "stain", "ratio", "size"])
    return pd.DataFrame(rows, columns=names), pd.DataFrame(looks, columns=pd.Index(LOOKS))


def scaled(values: pd.Series) -> np.ndarray:
    """To mean 0 and variance 1."""
    numbers = values.to_numpy(float)
    return (numbers - numbers.mean()) / numbers.std()


def share(hits: pd.Series, of: pd.Series) -> str:
    """A share with its 95 % interval."""
    if not of.any():
        return "–"
    low, high = proportion_confint(int(hits.sum()), int(of.sum()), method="wilson")
    return f"{hits.sum() / of.sum():.2f} ({low:.2f} to {high:.2f})"


if __name__ == "__main__":
    main()

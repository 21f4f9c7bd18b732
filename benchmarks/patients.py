"""APL against other AML on 82 real patients, from images to the table of the docs.

    python benchmarks/patients.py --data DATA/apl_cohort --out runs/patients

Goes the whole way with the defaults (`cytosae run`, `cytosae cohort`) and prints the table of models, baselines,
confounders and controls, the contrasts, and how the ranking of cells compares with experts. `--strict` adds SAEs
trained without the test patients. Then, where asked for, the rows of concepts and colour, without shuffled diagnoses:

    --stains macenko        for stain-normalised images
    --saes whitened wide    for other SAEs on the same tokens
    --weights A/tiny.safetensors B/tiny.safetensors    for other trainings of the backbone
    --retest 500 4000       for so many cells seen in another stain
    --reliability -1 0.75   for another least reliability of directions and concepts; -1 keeps all of them
    --cells 10 25           for so many of each patient's cells, the SAE as it is
    --sessions              for folds that keep patients together who were imaged in one session
"""

from __future__ import annotations

import argparse
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cytosae.cohort import barcodes, classify, open_contrast
from cytosae.pipeline import Study
from cytosae.pipeline.cohort_work import CohortWork

COLUMNS = {
    "model": "model",
    "auroc": "AUROC (95 %)",
    "auroc_balanced": "balanced",
    "auroc_split": "split",
    "auroc_split_balanced": "split, balanced",
    "r2_colour": "by colour",
    "macro_f1": "macro F1",
    "sensitivity": "sens. at 0.9",
    "brier": "Brier",
}
SAES: dict[str, dict[str, Any]] = {
    "narrow": {"expansion": 4},
    "wide": {"expansion": 64},
    "batch_topk": {"sparsity": {"type": "BatchTopK"}},
    "whitened": {"normalisation": {"type": "Whitening"}},
    "whitened_batch_topk": {"sparsity": {"type": "BatchTopK"}, "normalisation": {"type": "Whitening"}},
}
"""Changes of the SAE's recipe (TopK, 16 latents for each dimension, mean and norm taken out)."""

SPINE = ["cells", "tokens", "sae", "atlas"]
"""Artifacts of a study before its cohort."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of images with patients and diagnoses")
    parser.add_argument("--out", type=Path, required=True, help="folder for the studies")
    parser.add_argument("--stains", nargs="*", default=[], help="stain normalisations to measure, too")
    parser.add_argument("--saes", nargs="*", default=[], choices=SAES, help="other SAEs to measure, too")
    parser.add_argument("--weights", nargs="*", default=[], type=Path, help="other weights of `tiny` to measure, too")
    parser.add_argument("--retest", nargs="*", default=[], type=int, help="numbers of cells seen in another stain")
    parser.add_argument("--reliability", nargs="*", default=[], type=float, help="least reliabilities to measure, too")
    parser.add_argument("--cells", nargs="*", default=[], type=int, help="numbers of cells a patient to measure, too")
    parser.add_argument("--sessions", action="store_true", help="also folds that keep imaging sessions together")
    parser.add_argument("--strict", action="store_true", help="also SAEs trained without the test patients")
    options = parser.parse_args()
    start = time.monotonic()
    work = finish(Study.open(options.out / "plain", [options.data], [{"cohort": {"strict": options.strict}}]))
    minutes = (time.monotonic() - start) / 60
    result = work.result()
    groups = ", ".join(f"{n} {name}" for name, n in result.patients.items())
    print(f"{groups}; from images to pages in {minutes:.1f} minutes\n")
    print(table(result.table), "\n")
    print(f"Recommended: {result.reason} Shuffled diagnoses reach its AUROC with p = {result.p_shuffled:.3f}.\n")
    for a, b in work.comparisons:
        contrasts(work, a, b)
    variants = {stain: {"extract": {"stain": stain}} for stain in options.stains}
    variants |= {name: {"sae": SAES[name]} for name in options.saes}
    variants |= {path.parent.name: {"backbone": {"weights": str(path)}} for path in options.weights}
    for n in options.retest:
        variants[f"retest of {n} cells"] = {"cohort": {"retest_cells": n}}
    for least in options.reliability:
        variants[f"reliability {least:g}"] = {"cohort": {"classification": {"reliability": least}}}
    if options.sessions:
        variants["sessions kept together"] = {"cohort": {"classification": {"sessions": True}}}
    brief = {"cohort": {"pages": 0, "classification": {"shuffles": 0}}}
    for name, changes in variants.items():
        here = options.out / name.replace(" ", "_")
        if set(changes) <= {"sae", "cohort"}:
            reuse(options.out / "plain", here, ["cells", "tokens"] if "sae" in changes else SPINE)
        study = Study.open(here, [options.data], [brief, changes])
        variant_table(name, finish(study).result().table)
    for cells in options.cells:
        variant_table(f"{cells} cells a patient", fewer_cells(work, cells))


def variant_table(name: str, rows: pd.DataFrame) -> None:
    """What is compared between variants."""
    shown = rows["family"].isin(["concepts", "confounder", "control"]) | rows["model"].str.startswith("mean token")
    print(f"\n### {name}\n\n{table(rows[shown])}", flush=True)


def reuse(there: Path, here: Path, names: Sequence[str]) -> None:
    """Links to artifacts of another study, which a study that asks for the same takes for its own."""
    for name in names:
        if not (here / name).exists():
            shutil.copytree(there / name, here / name, copy_function=os.link)


def fewer_cells(work: CohortWork, cells: int) -> pd.DataFrame:
    """The classification of a cohort with at most so many cells of each patient, drawn at random (seed 0)."""
    atlas, patient = work.study.atlas(work.dataset), work.config.patient
    order = np.random.default_rng(0).permutation(atlas.n_obs)
    number = atlas.obs.iloc[order].groupby(patient, observed=True).cumcount().to_numpy()
    few = atlas[np.sort(order[number < cells])].copy()
    config = replace(work.asked, shuffles=0)
    patients = barcodes(few, patient=patient, diagnosis=work.config.diagnosis)
    given = {"colours": work.colours, "retest": work.retest, "classes": work.classes, "patient": patient}
    return classify(patients, few, **given, config=config).table


def finish(study: Study) -> CohortWork:
    """Images to the pages of a cohort; what is there already is not done again."""
    study.run()
    work = CohortWork(study)
    work.run()
    return work


def table(rows: pd.DataFrame) -> str:
    """Markdown."""
    lines = ["| " + " | ".join(COLUMNS.values()) + " |", "|" + "---|" * len(COLUMNS)]
    for row in rows.to_dict("records"):
        cells = [str(row["model"]), f"{row['auroc']:.2f} ({row['auroc_low']:.2f} to {row['auroc_high']:.2f})"]
        for name in list(COLUMNS)[2:]:
            value = row.get(name)
            cells.append("" if value is None or pd.isna(value) else f"{value:.2f}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def contrasts(work: CohortWork, a: str, b: str) -> None:
    """The clearest concepts of a contrast, and what experts would find among the first cells."""
    frame = open_contrast(work.study.place("contrasts", work.pair(a, b)))
    found = int((frame["q"] <= 0.05).sum())
    print(f"{a} against {b}: {found} of {int(frame['tested'].sum())} concepts at q <= 0.05; the clearest:\n")
    top = frame.nsmallest(12, "p")[["mean_a", "mean_b", "cliffs_delta", "p", "q"]].round(4)
    top["mostly on"] = work.atlas.var.loc[top.index, "top_class"].astype(str)
    print(markdown(top), "\n")
    for name in ("evaluation", "differences", "enrichment"):
        file = work.study.place("ranking", work.pair(a, b)) / f"{name}.csv"
        if file.is_file():
            print(f"{name}:\n\n{markdown(pd.read_csv(file).round(3))}\n")


def markdown(frame: pd.DataFrame) -> str:
    """A frame as it stands."""
    shown = frame.reset_index() if frame.index.name else frame
    head = "| " + " | ".join(map(str, shown.columns)) + " |\n|" + "---|" * len(shown.columns)
    return head + "".join("\n| " + " | ".join(map(str, row)) + " |" for row in shown.to_numpy(dtype=object).tolist())


if __name__ == "__main__":
    main()

"""Does painting the cell out tell a decision about cells from one about laboratories?

    python benchmarks/cell_controls.py --out controls --seeds 3
    python benchmarks/cell_controls.py --study STUDY

Without --study, cohorts are drawn: two diagnoses, patients of six laboratories; honest ones, where the laboratory has
nothing to do with the diagnosis, and planted ones, where a laboratory goes with each diagnosis and the cells of both
diagnoses are drawn alike otherwise as in honest ones. Printed for each are AUROCs of the recommended model and of the
rows that see the cell, or do not, and whether the decision is refused; and for drawn ones how well the best of the few
concepts of the decision marks the cells of the disease (`SIGNS`, AUC over cells), beside the best of as many random
concepts (mean of 200 draws) and of all. With --study, the same of a study's cohort, without the latter.
"""

from __future__ import annotations

import argparse
from itertools import takewhile
from pathlib import Path

import numpy as np

from cytosae.cells.synthetic import synthesize
from cytosae.cohort import ClassificationResult
from cytosae.evaluation.unit_scores import aucs
from cytosae.pipeline import Study, cohort_steps
from cytosae.pipeline.cohort_work import CohortWork
from cytosae.views.patients.models_view import recommended_facts, rivals_of

QUICK = {
    "sae": {"expansion": 8, "train": {"steps": 400}},
    "cohort": {
        "retest_cells": 0,
        "classification": {
            "folds": 4,
            "inner_folds": 3,
            "repeats": 2,
            "slow_repeats": 1,
            "shuffles": 0,
            "bootstrap": 500,
            "strengths": [0.1, 1.0, 10.0, 100.0],
        },
    },
}
SIGNS = ("promyelocyte", "promyelocyte_bilobed", "faggot_cell", "myeloblast_with_auer_rod")
"""Types of cells that the drawn disease brings."""
COLUMNS = (
    "recommended",
    "cell painted out",
    "cell alone",
    "background tokens only",
    "cell-type shares",
    "colour alone",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="folder for cohorts and studies")
    parser.add_argument("--study", type=Path, help="a study with a cohort, instead of drawn ones")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--patients", type=int, default=40)
    parser.add_argument("--cells", type=int, default=20)
    options = parser.parse_args()
    heads = (*COLUMNS, "refused", "marks the disease's cells: best chosen; random; best of all")
    print(f"| cohort | {' | '.join(heads)} |\n|---{'|---' * len(heads)}|")
    if options.study is not None:
        print_row(options.study.name, CohortWork(Study.open(options.study)).result(), "")
        return
    for seed in range(options.seeds):
        for words, planted in (("honest", 0.0), ("planted laboratory", 1.0)):
            place = options.out / f"{words.split()[0]}-{seed}"
            if not (place / "patients").is_dir():
                asked = {"patients": options.patients, "cells": options.cells, "seed": seed, "domain": "mixed"}
                named = {"diagnoses": ("control", "PML::RARA-like"), "planted": planted}
                synthesize(place / "patients", processes=2, **asked, **named)
            print_row(f"{words}, seed {seed}", *classified(place))


def classified(place: Path) -> tuple[ClassificationResult, str]:
    study = Study.open(place / "study", [place / "patients"], [QUICK])
    study.read_all_cells()
    study.extract("patients")
    study.train()
    study.build_atlas("patients")
    work = CohortWork(study)
    steps = cohort_steps.all_steps(work, study.config, study.context)
    study.do(takewhile(lambda step: step.at.role != "classifier", steps))
    result = work.result()
    return result, marks_of(result, study)


def marks_of(result: ClassificationResult, study: Study) -> str:
    """How well concepts mark the disease's cells: the best chosen, the best of as many random ones, the best of all."""
    if result.few_concepts.empty:
        return ""
    atlas = study.atlas("patients")
    ill = atlas.obs["label"].astype(str).isin(SIGNS).to_numpy()
    found = aucs(atlas.X.toarray(), ill)
    chosen = result.few_concepts["latent"].to_numpy(int)
    rng = np.random.default_rng(0)
    random = [found[rng.choice(len(found), len(chosen), replace=False)].max() for _ in range(200)]
    return f"{found[chosen].max():.2f} of {len(chosen)}; {np.mean(random):.2f}; {found.max():.2f}"


def print_row(words: str, result: ClassificationResult, marks: str) -> None:
    facts, rivals, rows = recommended_facts(result, 0), rivals_of(result), result.table.set_index("model")
    cells = [f"{facts['auroc']:.2f} ({facts['auroc_interval'][0]:.2f} to {facts['auroc_interval'][1]:.2f})"]
    for start in COLUMNS[1:]:
        named = next((name for name in (*rivals, *rows.index) if str(name).startswith(start)), None)
        cells.append("" if named is None else f"{rows.at[named, 'auroc']:.2f}")
    print(
        f"| {words} | {' | '.join(cells)} | {'yes' if facts['may_not_be_about_cells'] else 'no'} | {marks} |",
        flush=True,
    )


if __name__ == "__main__":
    main()

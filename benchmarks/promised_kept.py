"""What cross-validation promises, and what patients who come later, or from elsewhere, get.

    python benchmarks/promised_kept.py STUDY [--repeats 3]       a finished cohort, split by time, session and colour
    python benchmarks/promised_kept.py --drawn [--seeds 2]       drawn cohorts, later ones also of another laboratory

The first trains on some patients of a cohort and tests on the others: early and late by the order of imaging, each
imaging session left out, one half of the colour range; nothing is written into the study. The second draws cohorts,
goes the whole way, and validates on 24 later patients of each laboratory, in whose images the disease is planted in the
same way. Each prints promised and kept for every model, as Markdown.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd

from cytosae.cells.synthetic import synthesize
from cytosae.cohort import ClassificationConfig, Controls, gather
from cytosae.cohort.classification.models import build_models
from cytosae.cohort.validation.promised_kept import promised_and_kept, splits_of
from cytosae.pipeline import Study
from cytosae.pipeline.cohort_work import CohortWork
from cytosae.pipeline.later_patients import validate_patients
from cytosae.pipeline.study_config import CohortConfig

SHOWN = (
    *("concepts (presence)", "concepts (mean)", "cell-type shares", "share of promyelocytes", "mean token"),
    *("colour alone", "order of imaging alone", "random-weight SAE (presence)", "cell painted out (presence)"),
    *("cell alone (presence)", "background tokens only (presence)"),
)
"""The models that are compared, beside the recommended one."""
LABORATORIES = {"the same laboratory": "reference", "another laboratory": "blue"}
DRAWN = ("control", "PML::RARA-like")


def within(study: Study, repeats: int) -> pd.DataFrame:
    """Promised and kept within a finished cohort."""
    work = CohortWork(study)
    config = replace(work.asked, repeats=repeats, bootstrap=1000, shuffles=0)
    painted = study.place("focus", work.dataset).exists()
    data = gather(
        work.barcodes,
        work.atlas,
        work.colours,
        classes=work.classes or tuple(work.counts),
        patient=work.config.patient,
        retest=work.retest,
        controls=Controls(
            random=work.control, of_cells=work.cell_controls if painted else {}, retest=work.retest_by("control")
        ),
        config=config,
    )
    wanted = {*SHOWN, work.result().recommended.name}
    models = [model for model in build_models(data, config) if model.name in wanted]
    return promised_and_kept(data, models, splits_of(data), config)


def drawn(seeds: int, patients: int, cells: int) -> pd.DataFrame:
    """Promised and kept on drawn cohorts and later patients of two laboratories; the mean over seeds."""
    tables = []
    for seed in range(seeds):
        with TemporaryDirectory() as folder:
            tables.append(_one_drawn(Path(folder), seed, patients, cells))
    table = pd.concat(tables)
    shown = table.groupby(["laboratory", "model"], sort=False)[["promised", "kept"]]
    return shown.agg(["mean", "std"]).reset_index() if seeds > 1 else table


def _one_drawn(folder: Path, seed: int, patients: int, cells: int) -> pd.DataFrame:
    classification = ClassificationConfig(folds=4, repeats=2, slow_repeats=1, shuffles=2, bootstrap=1000, seed=seed)
    cohort = CohortConfig(stability=0, pages=0, retest_cells=500, painted_cells=500, classification=classification)
    images = synthesize(folder / "early", patients=patients, cells=cells, seed=2 * seed, diagnoses=DRAWN)
    small = {"expansion": 4, "train": {"steps": 150, "batch_tokens": 1024}}
    study = Study.open(folder / "study", [images], [{"extract": {"workers": 0}, "sae": small}])
    study.run()
    study.config = replace(study.config, cohort=cohort)
    rows = []
    with study.alone():
        CohortWork(study).run()
        for name, domain in LABORATORIES.items():
            later = synthesize(
                folder / f"later_{domain}", patients=24, cells=cells, seed=2 * seed + 1, diagnoses=DRAWN, domain=domain
            )
            held = validate_patients(study, later).validation
            for row in held.rows.to_dict("records"):
                if row["model"] in (*SHOWN, held.recommended):
                    facts = {"model": row["model"], "promised": row["promised_auroc"], "kept": row["auroc"]}
                    rows.append({"laboratory": name, **facts, "recommended": row["model"] == held.recommended})
    return pd.DataFrame(rows)


def main() -> None:
    """Print the table that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path, nargs="?")
    parser.add_argument("--drawn", action="store_true")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--patients", type=int, default=24)
    parser.add_argument("--cells", type=int, default=20)
    asked = parser.parse_args()
    if not asked.drawn and asked.study is None:
        parser.error("name a finished study, or give --drawn")
    table = (
        drawn(asked.seeds, asked.patients, asked.cells) if asked.drawn else within(Study(asked.study), asked.repeats)
    )
    if "kept_low" in table:
        gone = table[(table["kept_low"] <= 0.5).to_numpy()]
        print(f"{len(gone)} of {len(table)} rows are not shown to hold (interval of what is kept reaches 0.5).\n")
    numbers = table.select_dtypes(np.number).columns
    table[numbers] = table[numbers].round(2)
    print(table.to_markdown(index=False))


if __name__ == "__main__":
    main()

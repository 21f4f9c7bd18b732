"""Pseudo-patients of real cells with stated mixtures: does a cohort's analysis say what was put in?

    python benchmarks/pseudo_patients.py --data DATA/acevedo --out runs/pseudo

Composes patients with four diagnoses (normal, eosinophilia, lymphocytosis, left shift) from the labelled cells of
Acevedo, no image in two patients; goes the public way (`cytosae run`, `cytosae cohort --compare eosinophilia normal`,
and all four) with the bundled backbone; and prints how well composition is recovered, whether the concepts of
eosinophilia are those of eosinophils, whether explanations of held-out patients point at eosinophils, and how well the
diagnoses are told apart. The diagnoses are mixtures and nothing else, so that nothing here is a finding about patients.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cytosae.atlas import reference_table
from cytosae.cohort import (
    REST,
    ClassificationConfig,
    ClassificationResult,
    Configuration,
    Controls,
    Intervals,
    Kind,
    classify,
    contrast,
    explain_decision,
    fit_classifier,
    fit_l2,
    open_cohort,
)
from cytosae.pipeline import Study
from cytosae.pipeline.cohort_work import CohortWork

if TYPE_CHECKING:
    from anndata import AnnData

IMAGES = "PBC_dataset_normal_DIB"
DISEASE, CONTROL, CELL = "eosinophilia", "normal", "eosinophil"
MIXTURES: Mapping[str, Mapping[str, float]] = {
    CONTROL: {"neutrophil": 0.62, "lymphocyte": 0.16, "monocyte": 0.10, CELL: 0.05, "basophil": 0.04, "ig": 0.03},
    DISEASE: {"neutrophil": 0.30, "lymphocyte": 0.09, "monocyte": 0.08, CELL: 0.46, "basophil": 0.04, "ig": 0.03},
    "lymphocytosis": {
        "neutrophil": 0.34,
        "lymphocyte": 0.42,
        "monocyte": 0.11,
        CELL: 0.05,
        "basophil": 0.04,
        "ig": 0.04,
    },
    "left shift": {"neutrophil": 0.36, "lymphocyte": 0.08, "monocyte": 0.09, CELL: 0.04, "basophil": 0.03, "ig": 0.40},
}
"""Expected share of each cell type."""
CHANGES: dict[str, Any] = {
    "sae": {"train": {"steps": 500}},
    "cohort": {
        "compare": [DISEASE, CONTROL],
        "experts": [CELL],
        "stability": 10,
        "pages": 4,
        "classification": {"repeats": 3, "slow_repeats": 1, "shuffles": 5, "bootstrap": 1000},
    },
}
"""Half of the steps and fewer repetitions than the defaults; everything else is as it comes."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the Acevedo cells")
    parser.add_argument("--out", type=Path, required=True, help="folder for the manifest and the study")
    parser.add_argument("--patients", type=int, default=7, help="patients of each diagnosis")
    parser.add_argument("--cells", type=int, default=40, help="cells of each patient")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    start = time.monotonic()
    table = compose(stock(options.data), patients=options.patients, cells=options.cells, seed=options.seed)
    study = Study.open(
        options.out / "study", [write_manifest(table, options.data, options.out / "patients")], [CHANGES]
    )
    study.run()
    work = CohortWork(study)
    work.run()
    every = classify_all(work)
    print(f"{len(set(table['patient']))} patients, {len(table)} cells; {(time.monotonic() - start) / 60:.1f} minutes\n")
    atlas = work.atlas.to_memory()
    rows = recovered(predict_types(atlas), atlas)
    for against, kind in itertools.product((CONTROL, REST), ("presence", "mean")):
        rows |= concepts_found(contrast_of(work, against, kind), atlas)
    rows |= ranking_found(work)
    rows |= explained(explain_held_out(work.barcodes, atlas, work.result().recommended, work.asked, work.colours))
    for name, result in {"four diagnoses": every, f"{DISEASE} against {CONTROL}": work.result()}.items():
        rows |= told_apart(result, name)
    print(markdown(rows))


def stock(data: Path) -> pd.DataFrame:
    """The labelled cells under ``data``, each content once: image (relative to the class folders), label, sha256.

    Copies under one label are kept once (the first by name); an image under two labels is left out.
    """
    root = data / IMAGES
    files = sorted(file for file in root.glob("*/*.jpg"))
    if not files:
        raise SystemExit(f"{root} has no images; give the folder of the Acevedo cells as --data.")
    frame = pd.DataFrame(
        {
            "image": [file.relative_to(root).as_posix() for file in files],
            "label": [file.parent.name for file in files],
            "sha256": [hashlib.sha256(file.read_bytes()).hexdigest() for file in files],
        }
    )
    labels = frame.groupby("sha256")["label"].transform("nunique")
    return frame[labels == 1].drop_duplicates("sha256").reset_index(drop=True)


def compose(
    cells_there: pd.DataFrame,
    *,
    patients: int,
    cells: int,
    seed: int,
    mixtures: Mapping[str, Mapping[str, float]] = MIXTURES,
    concentration: float = 60.0,
) -> pd.DataFrame:
    """Patients of each diagnosis, their cells drawn from the stock without replacement.

    A patient's shares are Dirichlet around the mixture of the diagnosis (a larger ``concentration`` varies less), its
    cells multinomial of these. A draw that asks for more cells of a type than there are is drawn anew as a whole.

    Returns
    -------
    One row a cell: image, label, patient, diagnosis, sha256.
    """
    rng = np.random.default_rng(seed)
    for _ in range(100):
        wanted = [
            (diagnosis, dict(zip(mixture, counts.tolist(), strict=True)))
            for diagnosis, mixture in mixtures.items()
            for counts in _counts(np.array(list(mixture.values())), patients, cells, concentration, rng)
        ]
        total = pd.DataFrame([counts for _, counts in wanted]).sum()
        if (total <= cells_there["label"].value_counts().reindex(total.index).fillna(0)).all():
            break
    else:
        raise SystemExit(f"{patients} patients of {cells} cells need more cells than there are; ask for fewer.")
    left = {label: rng.permutation(rows).tolist() for label, rows in cells_there.groupby("label").groups.items()}
    # names say nothing about the diagnosis
    names = [f"P{number:02d}" for number in rng.permutation(len(wanted))]
    parts = []
    for name, (diagnosis, counts) in zip(names, wanted, strict=True):
        rows = [left[label].pop() for label, n in counts.items() for _ in range(n)]
        parts.append(cells_there.loc[rows].assign(patient=name, diagnosis=diagnosis))
    return pd.concat(parts).sort_values(["patient", "image"], ignore_index=True)


def _counts(
    mixture: np.ndarray, patients: int, cells: int, concentration: float, rng: np.random.Generator
) -> Iterable[np.ndarray]:
    for shares in rng.dirichlet(concentration * mixture / mixture.sum(), patients):
        yield rng.multinomial(cells, shares)


def write_manifest(table: pd.DataFrame, data: Path, folder: Path) -> Path:
    """Write ``folder/manifest.csv`` beside a link to the images; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    link = folder / "images"
    if not link.exists():
        link.symlink_to((data / IMAGES).resolve(), target_is_directory=True)
    rows = table[["image", "label", "patient", "diagnosis"]].assign(image="images/" + table["image"])
    text = rows.to_csv(index=False)
    file = folder / "manifest.csv"
    if not file.is_file() or file.read_text(encoding="utf-8") != text:
        file.write_text(text, encoding="utf-8")
    return folder


def classify_all(work: CohortWork) -> ClassificationResult:
    """The classification of all diagnoses; the study keeps that of the pair."""
    config = replace(work.config.classification, positive=None)
    control = open_cohort(work.study.place("control", work.dataset))
    return classify(work.barcodes, work.atlas, colours=work.colours, controls=Controls(control), config=config)


def predict_types(atlas: AnnData, *, folds: int = 5, strength: float = 10.0, seed: int = 0) -> np.ndarray:
    """Cell type of each cell by logistic regression on its concepts, fitted on the cells of other patients: (n,)."""
    names = atlas.obs["patient"].astype(str).to_numpy()
    labels, y = np.unique(atlas.obs["label"].astype(str).to_numpy(), return_inverse=True)
    X = np.asarray(atlas.X.toarray(), dtype=np.float64)  # pyright: ignore[reportAttributeAccessIssue, reportOptionalMemberAccess]
    predicted = np.empty(len(y), dtype=labels.dtype)
    for part in np.array_split(np.random.default_rng(seed).permutation(np.unique(names)), folds):
        test = np.isin(names, part)
        fit = fit_l2(X[~test], y[~test], strengths=(strength,), inner_folds=2, min_share=0.01, seed=seed)
        predicted[test] = labels[fit.logits(X[test]).argmax(1)]
    return predicted


def recovered(predicted: np.ndarray, atlas: AnnData) -> dict[str, str]:
    """Predicted shares of cell types against the true ones, beside the mean shares of the other patients."""
    facts = composition(
        predicted, atlas.obs["label"].astype(str).to_numpy(), atlas.obs["patient"].astype(str).to_numpy()
    )
    return {
        "composition: mean absolute error of a share": f"{facts['error']:.3f} (baseline {facts['error_baseline']:.3f})",
        "composition: correlation over patients, mean of types": f"{facts['correlation']:.2f}",
        f"composition: correlation over patients, {CELL}s": f"{facts['correlation_cell']:.2f}",
        "composition: cells typed rightly": f"{facts['accuracy']:.2f} (baseline {facts['accuracy_baseline']:.2f})",
    }


def composition(predicted: np.ndarray, true: np.ndarray, patients: np.ndarray) -> dict[str, float]:
    """Mean absolute error of the shares, correlations over patients and accuracy of cells, beside no-information ones.

    The baseline of a patient's shares is the mean of the others'; that of cells the commonest type.
    """
    real = pd.crosstab(patients, true, normalize="index")
    found = pd.crosstab(patients, predicted, normalize="index").reindex_like(real).fillna(0)
    others = (real.sum() - real) / (len(real) - 1)
    by_type = pd.Series(
        {name: np.corrcoef(real[name], found[name])[0, 1] if found[name].std() else 0.0 for name in real}
    )
    return {
        "error": float(np.abs(found - real).to_numpy().mean()),
        "error_baseline": float(np.abs(others - real).to_numpy().mean()),
        "correlation": float(by_type.mean()),
        "correlation_cell": float(by_type[CELL]),
        "accuracy": float((predicted == true).mean()),
        "accuracy_baseline": float(pd.Series(true).value_counts(normalize=True).iloc[0]),
    }


def contrast_of(work: CohortWork, against: str = CONTROL, kind: Kind = "presence") -> pd.DataFrame:
    """Eosinophilia against normal, or against all others, every latent."""
    return contrast(work.barcodes, DISEASE, against, kind=kind, intervals=Intervals(resamples=1))


def specific_concepts(table: pd.DataFrame, n: int = 10, *, called: bool = True) -> list[int]:
    """The ``n`` concepts most specific to the first group: largest effect, then largest difference.

    Only those with q <= 0.05 and a large effect, or with ``called=False`` of all that were tested.
    """
    rows = table[table["specific_a" if called else "tested"]]
    return [int(latent) for latent in rows.sort_values(["cliffs_delta", "difference"], ascending=False).index[:n]]


def reference_share(atlas: AnnData, latents: Sequence[int]) -> np.ndarray:
    """Share of eosinophils among the reference cells of each latent."""
    return np.array([(reference_table(atlas, latent)["label"] == CELL).mean() for latent in latents])


def concepts_found(table: pd.DataFrame, atlas: AnnData) -> dict[str, str]:
    """Whose concepts the most specific ones are."""
    pair = f"{DISEASE} against {table.attrs['b']}, {table.attrs['kind']}"
    there = (atlas.obs["label"].astype(str) == CELL).mean()
    rows = {f"{pair}: specific concepts": f"{int(table['specific_a'].sum())} of {int(table['tested'].sum())}"}
    for name, called in {"most specific, q <= 0.05": True, "largest effects, called or not": False}.items():
        shares = reference_share(atlas, specific_concepts(table, called=called))
        found = "none called"
        if len(shares):
            one_by_one = ", ".join(f"{share:.1f}" for share in shares)
            found = f"{shares.mean():.2f} (all cells {there:.2f}), by concept {one_by_one}"
        rows[f"{pair}: {CELL}s among the reference cells of the ten {name}"] = found
    return rows


def ranking_found(work: CohortWork) -> dict[str, str]:
    """Eosinophils among the first ten cells of each patient, by weights from other patients."""
    pair = work.pair(DISEASE, CONTROL)
    table = pd.read_csv(work.study.place("ranking", pair) / "evaluation.csv", index_col=0)
    return {
        f"{CELL}s among the first ten cells, {name}": f"{row['precision']:.2f} "
        f"({row['precision_low']:.2f} to {row['precision_high']:.2f}), average precision {row['average_precision']:.2f}"
        for name, row in table.iterrows()
    }


def explain_held_out(
    barcodes: AnnData,
    atlas: AnnData,
    configuration: Configuration,
    config: ClassificationConfig,
    colours: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Explain each patient with eosinophilia by a classifier fitted on all other patients of the two diagnoses.

    Returns
    -------
    One row a patient: ``decision`` for eosinophilia; ``share``, eosinophils among its cells; ``contribution`` and
    ``difference``, their share of what speaks for the diagnosis (positive parts, from nothing and from the typical
    patient); ``first``, eosinophils among the ten cells that contribute most; ``residual``, decision less its parts.
    """
    config = replace(config, positive=DISEASE)
    pair = barcodes[barcodes.obs["diagnosis"].isin([DISEASE, CONTROL]).to_numpy()]
    rows = []
    for name in pair.obs_names[(pair.obs["diagnosis"] == DISEASE).to_numpy()]:
        others = pair[pair.obs_names != name].copy()
        seen = atlas[atlas.obs["patient"].isin(others.obs_names).to_numpy()]
        classifier = fit_classifier(
            others, seen, configuration=configuration, colours=colours, classes=(DISEASE, CONTROL), config=config
        )
        found = explain_decision(classifier, atlas, str(name), target=DISEASE)
        own = (found.cells["label"] == CELL).to_numpy()
        facts: dict[str, Any] = {
            "patient": name,
            "decision": found.value,
            "share": own.mean(),
            "first": own[:10].mean(),
        }
        for column in ("contribution", "difference"):
            positive = np.clip(found.cells[column].to_numpy(), 0, None)
            facts[column] = positive[own].sum() / positive.sum() if positive.sum() else 0.0
        total = found.intercept + found.cells["contribution"].sum()
        facts["residual"] = max(abs(found.value - total), found.residuals.concepts)
        rows.append(facts)
    return pd.DataFrame(rows).set_index("patient")


def explained(table: pd.DataFrame) -> dict[str, str]:
    """What held-out patients' decisions rest on."""
    chance = f"(of their cells {table['share'].mean():.2f})"
    return {
        f"held-out patients with {DISEASE} called so": f"{int((table['decision'] > 0).sum())} of {len(table)}",
        f"{CELL}s' share of what speaks for {DISEASE}": f"{table['contribution'].mean():.2f} {chance}",
        "the same, against the typical patient": f"{table['difference'].mean():.2f} {chance}",
        f"{CELL}s among the ten cells that contribute most": f"{table['first'].mean():.2f} {chance}",
        "decision less the sum of its parts, at most": f"{table['residual'].max():.1e}",
    }


def told_apart(result: ClassificationResult, name: str) -> dict[str, str]:
    """AUROC and macro F1 of concepts, of what they are compared with, and with shuffled diagnoses."""
    table = result.table.set_index("model")
    recommended = table.index[table["recommended"].fillna(value=False).astype(bool)].tolist()
    wanted = [*recommended, "concepts (presence)", "mean token", "cell-type shares", "colour alone", "majority"]
    wanted += [str(row) for row in table.index if str(row).startswith(("random-weight SAE (presence", "shuffled"))]
    rows = {}
    for model in dict.fromkeys(wanted):
        row = table.loc[model]
        text = f"AUROC {row['auroc']:.2f} ({row['auroc_low']:.2f} to {row['auroc_high']:.2f})"
        text += f", macro F1 {row['macro_f1']:.2f}" if pd.notna(row["macro_f1"]) else ""
        rows[f"{name}: {model}" + (" (recommended)" if model in recommended else "")] = text
    return rows


def markdown(rows: Mapping[str, str]) -> str:
    """A table of two columns."""
    return "\n".join(["| asked | found |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())])


if __name__ == "__main__":
    main()

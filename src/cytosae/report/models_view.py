"""A classification as shown: the table of models, what confounders leave of them, ROC and reliability curves."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import roc_curve

from cytosae.report.cohort_content import Table, TableRow, interval, p_value
from cytosae.report.cohort_figures import reliability_plot, roc_plot
from cytosae.report.html import number, percent

if TYPE_CHECKING:
    from cytosae.cohort.classification.result import ClassificationResult

FAMILIES = {
    "concepts": "Concepts",
    "baseline": "Baselines",
    "confounder": "Confounders alone",
    "control": "Negative controls",
}
"""Family in the table of a classification -> words, in the order shown."""

DEFINITIONS = [
    ("Balanced accuracy", "Mean over classes of the share of their patients that are called rightly."),
    ("Explained by colour", "Adjusted R² of the model’s out-of-fold decisions on the patients’ colour statistics."),
    (
        "AUROC without colour",
        "Of what is left of the decisions when the part that follows colour is taken out, fitted on the other folds.",
    ),
    (
        "Colour split",
        "Trained on one half of the colour range and tested on the other, in both directions along two components: a "
        "stand-in for another stain or scanner.",
    ),
    (
        "Order of imaging",
        "Rank of the patients by the running numbers in the names of their image files. Neighbouring numbers tell that "
        "patients were imaged in one session; they are kept on one side of every split.",
    ),
    (
        "Reliability in another stain",
        "The stain of the same cells was changed at random and they were encoded anew: the intraclass correlation of a "
        "concept over these pairs. 1: nothing changes; below 0.5 it is poor, and the concept changes with the stain.",
    ),
    (
        "Stain-stable directions",
        "Sums of concepts along which the same cells in another stain are alike and different cells differ; the model "
        "is fitted along them and is a sum of concepts all the same.",
    ),
]


@dataclass(frozen=True)
class ModelsView:
    """A classification as shown.

    Attributes
    ----------
    name : model whose predictions are listed
    positive : class whose probability is listed
    findings : sentences above the tables
    tables, plots, tiles, definitions : as the templates take them
    predictions : index patient, columns probability (of ``positive``, out of fold) and decided (class)
    """

    name: str
    positive: str
    findings: list[str]
    tables: list[Table]
    plots: list[dict[str, Any]]
    predictions: pd.DataFrame
    tiles: list[dict[str, str]] = field(default_factory=list)
    definitions: list[tuple[str, str]] = field(default_factory=lambda: list(DEFINITIONS))


def models_view(result: ClassificationResult, *, curves: int = 5) -> ModelsView:
    """Prepare a classification for the page of a cohort; ``curves`` models at most in the ROC plot."""
    rows = result.table.set_index("model", drop=False)
    name, classes = result.recommended.name, result.classes
    positive = classes[1] if len(classes) == 2 else classes[0]
    own = result.predictions[result.predictions["model"] == name].set_index("patient")
    probability = own[f"probability_{positive}"].astype(float)
    bins = result.reliability.query("model == @name and `class` == @positive")
    plots = _roc(result, rows, curves)
    if len(bins):
        truth = (own["diagnosis"] == positive).to_numpy()
        words = "Reliability of the model in bold: patients in bins of equal size, 95 % intervals; marks: patients."
        uri = reliability_plot(bins, truth, probability.to_numpy(), name=positive)
        plots.append({"uri": uri, "width": 385, "words": words})
    best = interval(float(rows.loc[name, "auroc"]), np.nan, np.nan)
    return ModelsView(
        name=name,
        positive=positive,
        findings=_findings(result, rows),
        tables=[_main_table(result, rows), *_confounding(rows, name)],
        plots=plots,
        predictions=pd.DataFrame(
            {"probability": probability.to_numpy(), "decided": own["call"].to_numpy()}, index=own.index.astype(str)
        ),
        tiles=[{"value": best, "label": f"AUROC of {name}"}],
    )


def _main_table(result: ClassificationResult, rows: pd.DataFrame) -> Table:
    columns = {
        "auroc": "AUROC",
        "balanced_accuracy": "Balanced accuracy",
        "macro_f1": "Macro F1",
        "sensitivity": f"Sensitivity at specificity {result.config.get('specificity', 0.9):g}",
        "brier": "Brier",
    }
    there = {name: words for name, words in columns.items() if name in rows}
    against = result.comparisons.set_index("model") if len(result.comparisons) else pd.DataFrame()
    made = []
    for family in [*FAMILIES, *sorted(set(rows["family"]) - set(FAMILIES))]:
        for place, (name, row) in enumerate(rows[rows["family"] == family].iterrows()):
            cells = [str(name), *(_with_interval(row, column) for column in there)]
            if len(against):
                cells += _difference(against.loc[name]) if name in against.index else ["", ""]
            words = "" if place else FAMILIES.get(str(family), str(family))
            made.append(TableRow(cells, strong=name == result.recommended.name, family=words))
    head = ["Model", *there.values(), *(["Recommended less this", "p"] if len(against) else [])]
    caption = (
        "All models in the same folds of patients, every choice made inside them. In brackets: 95 % intervals over "
        "patients. In bold: the one recommended."
    )
    return Table(head, made, frozenset(range(1, len(head))), caption)


def _difference(row: Any) -> list[str]:
    """Difference of AUROC with its interval, and the p of the corrected resampled t-test."""
    return [
        _with_interval(row.rename({"low": "difference_low", "high": "difference_high"}), "difference"),
        p_value(row["p_t"]),
    ]


def _with_interval(row: Any, name: str) -> str:
    low, high = (float(row[end]) if end in row.index else np.nan for end in (f"{name}_low", f"{name}_high"))
    return interval(float(row[name]), low, high)


def _confounding(rows: pd.DataFrame, recommended: str) -> list[Table]:
    """What colour and other confounders have to do with each model; nothing where they were not known."""
    columns = {
        "r2_colour": ("Explained by colour", percent),
        "auroc_without_colour": ("AUROC without colour", _two),
        "r2_confounders": ("Explained by all confounders", percent),
        "auroc_without_confounders": ("AUROC without them", _two),
        "auroc_matched": ("AUROC on colour-matched patients", _two),
        "auroc_split": ("AUROC, colour split", _two),
        "auroc_split_worst": ("… worst direction", _two),
    }
    there = {
        name: words for name, words in columns.items() if name in rows and bool(rows[name].notna().to_numpy().any())
    }
    if not there:
        return []
    known = rows[rows[list(there)].notna().any(axis=1)]
    made = [
        TableRow(
            [
                str(row["model"]),
                _two(float(row["auroc"])),
                *(shown(float(row[name])) for name, (_, shown) in there.items()),
            ],
            strong=row["model"] == recommended,
        )
        for _, row in known.iterrows()
    ]
    head = ["Model", "AUROC", *(words for words, _ in there.values())]
    return [
        Table(
            head,
            made,
            frozenset(range(1, len(head))),
            "What is left when colour and other confounders are accounted for.",
        )
    ]


def _findings(result: ClassificationResult, rows: pd.DataFrame) -> list[str]:
    """What the table says of the recommended model, whoever wins."""
    best: Any = rows.loc[result.recommended.name]
    sentences = [f"The recommended model, {best['model']}, reaches AUROC {_with_interval(best, 'auroc')}."]
    others = rows[rows["family"].isin(["baseline", "confounder"])]
    if len(others):
        top: Any = others.iloc[int(np.asarray(others["auroc"]).argmax())]
        apart = best["auroc_low"] > top["auroc_high"] or top["auroc_low"] > best["auroc_high"]
        relation = "above" if best["auroc"] > top["auroc"] else "not above"
        sentences.append(
            f"That is {relation} the best of baselines and confounders, {top['model']}, with "
            f"{_with_interval(top, 'auroc')}{'' if apart else '; the intervals overlap'}."
        )
    if np.isfinite(float(best.get("r2_colour", np.nan))):
        sentences.append(
            f"Colour alone explains {percent(float(best['r2_colour']))} of its decisions; without that part the AUROC "
            f"is {_two(float(best.get('auroc_without_colour', np.nan)))}."
        )
    controls = rows[rows["family"] == "control"]
    if len(controls):
        worst: Any = controls.iloc[int(np.asarray(controls["auroc"]).argmax())]
        sentences.append(f"The highest negative control is {worst['model']} with {_with_interval(worst, 'auroc')}.")
    if np.isfinite(result.p_shuffled):
        chance = p_value(result.p_shuffled)
        sentences.append(f"Against shuffled diagnoses, for which models are chosen by the same rule, p is {chance}.")
    return [" ".join(sentences), f"Why this one: {result.reason}", *result.notes]


def _roc(result: ClassificationResult, rows: pd.DataFrame, most: int) -> list[dict[str, Any]]:
    """Two classes: the recommended model and the best of the others; more: the recommended one, class by class."""
    classes, name = result.classes, result.recommended.name
    drawn: dict[str, tuple[NDArray, NDArray]] = {}
    if len(classes) == 2:
        predicted = set(result.predictions["model"])
        others = rows.query("family != 'concepts'").sort_values(by="auroc", ascending=False)["model"]
        for model in [name, *[other for other in others if other in predicted][: most - 1]]:
            drawn[f"{model}, {number(float(rows.loc[model, 'auroc']), 2)}"] = _curve(result, model, classes[1])
    else:
        drawn = {each: _curve(result, name, each) for each in classes}
    words = "ROC curves of probabilities averaged over repetitions; the AUROC in the table is a mean over repetitions."
    return [{"uri": roc_plot(drawn), "width": 385, "words": words}]


def _curve(result: ClassificationResult, model: str, positive: str) -> tuple[NDArray, NDArray]:
    rows = result.predictions[result.predictions["model"] == model]
    truth = np.asarray(rows["diagnosis"] == positive)
    x, y, _ = roc_curve(truth, np.asarray(rows[f"probability_{positive}"], dtype=float))
    return x, y


def _two(value: float) -> str:
    return interval(value, float("nan"), float("nan"))

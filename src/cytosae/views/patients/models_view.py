"""A classification as it is shown: the few rows that matter, all rows, what confounders leave of them, curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cytosae.cohort.classification.row_names import PAINTED, twin_of
from cytosae.views.parts.number_words import listed, p_value, percent, two
from cytosae.views.parts.page_parts import Number, Shown, Table, known, measured, say, series, table_of
from cytosae.views.parts.plots import Axis, Chart, IntervalPanel, IntervalRow, Intervals, Series

if TYPE_CHECKING:
    from cytosae.cohort.classification.result import ClassificationResult

FAMILIES = {
    "concepts": "Concepts",
    "baseline": "Baselines",
    "confounder": "Confounders alone",
    "control": "Negative controls",
}
"""Family in the table of a classification -> words, in the order shown."""

RIVALS = {
    "cell-type shares": "the types of the cells alone",
    PAINTED: "the image with the cell painted out",
    "colour alone": "the colour of the images alone",
    "order of imaging": "the order of imaging alone",
    "random-weight SAE": "a dictionary with random weights",
    "shuffled diagnoses: the choice": "diagnoses that were dealt out at random",
}
"""Beginning of a row's name -> what it is in words: the rows that matter beside the recommended one, in this order."""


@dataclass(frozen=True)
class ModelsView:
    """A classification: how well the recommended model does, what does as well without concepts, and every row.

    ``name`` is the recommended model, ``positive`` the class whose probability is listed; ``compared`` and ``key`` show
    it beside the rows that matter.
    """

    name: str
    positive: str
    verdict: str
    auroc: Number
    compared: Intervals
    key: Table | None
    all: Table | None
    confounding: Table | None
    roc: Chart
    reliability: Chart | None
    findings: tuple[str, ...]


def view_of_models(result: ClassificationResult, *, curves: int = 5) -> ModelsView:
    """Gather a classification; ``curves`` models at most among the receiver operating characteristics."""
    rows = result.table.set_index("model", drop=False)
    name, classes = result.recommended.name, result.classes
    best: Any = rows.loc[name]
    auroc, rivals = measured(best, "auroc"), rivals_of(result)
    return ModelsView(
        name=name,
        positive=positive_of(result),
        verdict=_verdict(classes, auroc, rivals),
        auroc=auroc,
        compared=_compared(result),
        key=_table(result, rows_that_matter(result), {"auroc": "AUROC", "balanced_accuracy": "Balanced accuracy"}),
        all=_table(result, by_family(rows), _columns(result, rows), families=True),
        confounding=_confounding(rows, name),
        roc=_roc(result, rows, curves),
        reliability=_reliability(result),
        findings=_findings(result, best),
    )


def positive_of(result: ClassificationResult) -> str:
    """Of two classes the one to be found, of more the first."""
    return result.classes[1] if len(result.classes) == 2 else result.classes[0]


def rivals_of(result: ClassificationResult) -> dict[str, Number]:
    """Model -> AUROC of the rows that matter beside the recommended one, by the same barcode if there are several."""
    rows = result.table.set_index("model", drop=False)
    name, kind, found = result.recommended.name, result.recommended.kind, {}
    for start in RIVALS:
        first = next((str(row) for row in rows.index if str(row).startswith(start)), None)
        chosen = twin_of(name, kind, start, rows.index) or first
        if chosen is not None and chosen != name:
            found[chosen] = measured(rows.loc[chosen].to_dict(), "auroc")
    return found


def rows_that_matter(result: ClassificationResult) -> tuple[str, ...]:
    """The recommended model first, then what a limit to its concepts leaves out and what it has to be better than."""
    return tuple(row_words(result))


def recommended_facts(result: ClassificationResult, concepts: int) -> dict[str, Any]:
    """The recommended model for programs; ``concepts`` is how many its decision sums.

    ``background_auroc`` is that of the same folds with the cell painted out, ``may_not_be_about_cells`` whether it lies
    within the interval of the recommended model's, or above; both None where that control was not made.
    """
    rows = result.table.set_index("model", drop=False)
    auroc = measured(rows.loc[result.recommended.name].to_dict(), "auroc")
    painted = _painted(rivals_of(result))
    return {
        "name": result.recommended.name,
        **vars(result.recommended),
        "concepts": concepts,
        "auroc": auroc.value,
        "auroc_interval": [auroc.low, auroc.high],
        "background_auroc": None if painted is None else painted.value,
        "may_not_be_about_cells": None if painted is None else as_good(painted, auroc),
        "without_limit": price_of(result),
    }


def price_of(result: ClassificationResult) -> dict[str, Any] | None:
    """What a limit to the number of concepts costs: the model without one, and the difference of AUROC from it."""
    if not result.unlimited:
        return None
    row = result.comparisons.set_index("model").loc[result.unlimited]
    auroc = measured(result.table.set_index("model").loc[result.unlimited].to_dict(), "auroc")
    return {
        "name": result.unlimited,
        "auroc": auroc.value,
        "difference": known(row["difference"]),
        "difference_interval": [known(row["low"]), known(row["high"])],
    }


def rival_words(name: str) -> str:
    """What a row that matters is, in words."""
    return next(words for start, words in RIVALS.items() if name.startswith(start.partition(": ")[0]))


def row_words(result: ClassificationResult) -> dict[str, str]:
    """What each row that matters is, in words."""
    words = {name: rival_words(name) for name in rivals_of(result)}
    unlimited = {result.unlimited: "without a limit to concepts"} if result.unlimited else {}
    return {result.recommended.name: "the recommended decision", **unlimited, **words}


def doubts_of(result: ClassificationResult) -> tuple[str, ...]:
    """What does as well as the recommended model and has no concepts in it, and what a limit to these costs."""
    price, words = price_of(result), ()
    if price is not None and (price["difference_interval"][1] or 0.0) < 0:
        words = (
            f"The few concepts of the recommended decision do clearly worse than {price['name']}: AUROC lower by "
            f"{two(-price['difference'])}.",
        )
    auroc, rivals = measured(result.table.set_index("model").loc[result.recommended.name], "auroc"), rivals_of(result)
    equal = {name: other for name, other in rivals.items() if as_good(other, auroc)}
    if not equal:
        return words
    named = [f"{rival_words(name)} ({say(other.value)})" for name, other in equal.items()]
    return (
        *words,
        f"No worse than the concepts, within their interval: {listed(named)}. The decision may not be about what the "
        "concepts show.",
    )


def _verdict(classes: tuple[str, ...], auroc: Number, rivals: Mapping[str, Number]) -> str:
    told = f"{classes[1]} from {classes[0]}" if len(classes) == 2 else f"{len(classes)} diagnoses apart"
    first = f"Concepts of the cells tell {told} with AUROC {say(auroc)} in cross-validation"
    if auroc.low is not None and auroc.low <= 0.5:
        first = f"Concepts of the cells are not shown to tell {told}: AUROC {say(auroc)} in cross-validation"
    beside, painted = next(iter(rivals), None), _painted(rivals)
    said = f"{first}; {rival_words(beside)} reach {say(rivals[beside])}." if beside else f"{first}."
    return warned(said, painted, auroc)


def warned(said: str, painted: Number | None, auroc: Number) -> str:
    """A verdict, after the warning where the image with the cell ``painted`` out does as well."""
    if painted is None or not as_good(painted, auroc):
        return said
    reached = f"with the cell painted out of every image the AUROC is {say(painted)}"
    return f"The decision may not be about the cells: {reached}. {said}"


def _painted(rivals: Mapping[str, Number]) -> Number | None:
    """AUROC with the cell painted out; None where that control was not made."""
    return next((auroc for name, auroc in rivals.items() if name.startswith(PAINTED)), None)


def as_good(other: Number, auroc: Number) -> bool:
    """Whether another AUROC lies within the interval of the recommended model's, or above."""
    least = auroc.value if auroc.low is None else auroc.low
    return least is not None and (other.value or 0.0) >= least


def _compared(result: ClassificationResult) -> Intervals:
    name, table = result.recommended.name, result.table.set_index("model")
    rows = tuple(
        IntervalRow(words.removesuffix(" alone"), measured(table.loc[row].to_dict(), "auroc"), strong=row == name)
        for row, words in row_words(result).items()
    )
    words = (
        f"AUROC with its 95 % interval in the same folds of patients: {name}, and what it has to be better than. "
        "Dashed: chance."
    )
    return Intervals(words, Axis("AUROC"), (IntervalPanel("", rows, 0.5),))


def by_family(rows: pd.DataFrame) -> list[str]:
    """Names of rows, whose index they are, in the order in which families are shown."""
    families = [*FAMILIES, *sorted(set(rows["family"]) - set(FAMILIES))]
    return [str(name) for family in families for name in rows.index[rows["family"] == family]]


def _columns(result: ClassificationResult, rows: pd.DataFrame) -> dict[str, str]:
    columns = {
        "auroc": "AUROC",
        "balanced_accuracy": "Balanced accuracy",
        "macro_f1": "Macro F1",
        "sensitivity": f"Sensitivity at specificity {result.config.get('specificity', 0.9):g}",
        "brier": "Brier",
    }
    return {name: words for name, words in columns.items() if name in rows}


def _table(
    result: ClassificationResult, names: Sequence[str], columns: Mapping[str, str], *, families: bool = False
) -> Table | None:
    """These rows of the table of models, the recommended one in bold."""
    rows = result.table.set_index("model", drop=False)
    chosen = [rows.loc[name] for name in names]
    frame = pd.DataFrame({"Model": list(names)})
    for column, words in columns.items():
        frame[words] = [measured(row, column) for row in chosen]
    shown: dict[str, Shown] = dict.fromkeys(columns.values(), "two")
    if len(result.comparisons):
        # Difference of AUROC with its interval, and the p of the corrected resampled t-test.
        against = result.comparisons.rename(columns={"low": "difference_low", "high": "difference_high"})
        others = against.set_index("model").reindex(names)
        frame["Recommended less this"] = [measured(row, "difference") for _, row in others.iterrows()]
        frame["p"] = others["p_t"].to_numpy()
        shown |= {"Recommended less this": "two", "p": "p"}
    return table_of(
        frame,
        "All in the same folds of patients, every choice made inside them. In brackets: 95 % intervals. In bold: the "
        "one recommended.",
        shown=shown,
        strong=[name == result.recommended.name for name in names],
        families=[FAMILIES.get(row["family"], str(row["family"])) for row in chosen] if families else None,
    )


def _confounding(rows: pd.DataFrame, recommended: str) -> Table | None:
    """What colour and other confounders have to do with each model; nothing where they were not known."""
    columns: dict[str, tuple[str, Shown]] = {
        "r2_colour": ("Explained by colour", "percent"),
        "auroc_without_colour": ("AUROC without colour", "two"),
        "r2_confounders": ("Explained by all confounders", "percent"),
        "auroc_without_confounders": ("AUROC without them", "two"),
        "auroc_matched": ("AUROC on colour-matched patients", "two"),
        "auroc_split": ("AUROC, colour split", "two"),
        "auroc_split_worst": ("… worst direction", "two"),
    }
    there = [name for name in columns if name in rows and np.isfinite(rows[name].to_numpy(dtype=float)).any()]
    found = pd.DataFrame(rows[["model", "auroc", *there]]).dropna(subset=there, how="all")
    return table_of(
        found.rename(columns={"model": "Model", "auroc": "AUROC", **{name: columns[name][0] for name in there}}),
        "What is left when colour and other confounders are accounted for.",
        shown={"AUROC": "two", **dict(columns.values())},
        strong=(found["model"] == recommended).tolist(),
    )


def _findings(result: ClassificationResult, best: Any) -> tuple[str, ...]:
    """What else is known of the recommended model, and why it is recommended."""
    sentences = [f"Why this one: {result.reason}", *result.notes]
    if known(best.get("r2_colour")) is not None:
        left = two(known(best.get("auroc_without_colour")))
        colour = f"Colour alone explains {percent(float(best['r2_colour']))} of its decisions"
        sentences.insert(0, f"{colour}; without that part the AUROC is {left}.")
    if np.isfinite(result.p_shuffled):
        chance = p_value(result.p_shuffled)
        sentences.append(f"Against shuffled diagnoses, for which models are chosen by the same rule, p is {chance}.")
    return tuple(sentences)


def _roc(result: ClassificationResult, rows: pd.DataFrame, most: int) -> Chart:
    """Two classes: the recommended model and the best of the others; more: the recommended one, class by class."""
    from sklearn.metrics import roc_curve

    classes, name = result.classes, result.recommended.name
    if len(classes) == 2:
        predicted = set(result.predictions["model"])
        others = rows.query("family != 'concepts'").sort_values(by="auroc", ascending=False)["model"]
        models = [name, *[other for other in others if other in predicted][: most - 1]]
        named = {f"{model}, {two(float(rows.loc[model, 'auroc']))}": (model, classes[1]) for model in models}
    else:
        named = {each: (name, each) for each in classes}
    drawn = []
    for place, (words, (model, positive)) in enumerate(named.items()):
        own = result.predictions[result.predictions["model"] == model]
        x, y, _ = roc_curve(np.asarray(own["diagnosis"] == positive), np.asarray(own[f"probability_{positive}"]))
        drawn.append(Series(words, series(x), series(y), drawn="steps", strong=place == 0))
    words = "ROC curves of probabilities averaged over repetitions; the AUROC in the table is a mean over repetitions."
    return Chart(words, Axis("1 − specificity"), Axis("sensitivity"), tuple(drawn), unit=True)


def _reliability(result: ClassificationResult) -> Chart | None:
    name, positive = result.recommended.name, positive_of(result)
    bins = result.reliability.query("model == @name and `class` == @positive")
    if bins.empty:
        return None
    own = result.predictions[result.predictions["model"] == name]
    truth, probability = np.asarray(own["diagnosis"] == positive), np.asarray(own[f"probability_{positive}"])
    patients = [
        Series(words, series(probability[truth == there]), (edge,) * int((truth == there).sum()), drawn="ticks")
        for words, there, edge in ((f"patients with {positive}", True, 1.0), ("other patients", False, 0.0))
    ]
    shares = Series(
        "patients in bins",
        *(series(bins[column]) for column in ("predicted", "observed", "low", "high")),
        drawn="points",
        strong=True,
    )
    return Chart(
        "Reliability of the recommended model: patients in bins of equal size, 95 % intervals; marks: patients.",
        Axis(f"predicted probability of {positive}"),
        Axis(f"observed share of {positive}"),
        (shares, *patients),
        unit=True,
    )

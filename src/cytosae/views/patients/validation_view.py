"""Later patients: what was promised beside what is kept, in one sentence, one picture and the few rows that matter."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pandas as pd

from cytosae.cohort.classification.row_names import PAINTED
from cytosae.views.concepts.concept_view import ConceptView, views_of_concepts
from cytosae.views.parts.number_words import count, listed, percent, two
from cytosae.views.parts.opened_dataset import OpenedAtlas
from cytosae.views.parts.page_parts import (
    Fact,
    Head,
    MadeFrom,
    Page,
    Shown,
    Table,
    define,
    known,
    measured,
    say,
    series,
    table_of,
)
from cytosae.views.parts.plots import Axis, Chart, IntervalPanel, IntervalRow, Intervals, Series
from cytosae.views.patients.evidence import RESEARCH
from cytosae.views.patients.models_view import FAMILIES, as_good, by_family, positive_of, rival_words, rivals_of, warned

if TYPE_CHECKING:
    from cytosae.cohort import ClassificationResult, Validation

MEASURES = {
    "auroc": "AUROC",
    "balanced_accuracy": "Balanced accuracy",
    "macro_f1": "Macro F1",
    "sensitivity": "Sensitivity at the fixed threshold",
    "specificity": "Specificity at the fixed threshold",
    "calibration_slope": "Calibration slope (1 is right)",
    "calibration_intercept": "Calibration intercept (0 is right)",
    "brier": "Brier",
}
"""Column of a validation -> words."""
LEAST_SHOWN = -0.2
"""Net benefit below which nothing is drawn: acting on everybody falls without end."""


class EarlierLook(Protocol):
    """What a page needs to know of an earlier look at the same patients."""

    @property
    def at(self) -> str:
        """When, ISO 8601."""
        ...

    @property
    def patients(self) -> int:
        """How many of the patients."""
        ...


@dataclass(frozen=True, kw_only=True)
class ValidationView(Page):
    """Later patients: promised against kept, benefit, calibration, concepts that shifted, and every patient."""

    compared: Intervals
    key: Table | None
    curve: Chart
    reliability: Chart | None
    measures: Table | None
    all: Table | None
    missing: Table | None
    concepts_words: str
    concepts: tuple[ConceptView, ...]
    shifted: Table | None
    patients_words: str
    patients: Table | None
    set_aside: Table | None
    notes: tuple[str, ...]


def view_of_validation(
    found: Validation,
    result: ClassificationResult,
    training: OpenedAtlas,
    later: OpenedAtlas,
    *,
    earlier: Sequence[EarlierLook] = (),
    concepts: int = 12,
) -> ValidationView:
    """Gather a validation.

    ``result`` is the classification that promised, ``training`` and ``later`` are the cells of both; ``earlier`` are
    earlier looks at some of these patients.
    """
    n, best = sum(found.patients.values()), found.best
    first = found.shifted.head(concepts)
    latents = [int(latent) for latent in first["latent"]]
    facts = {int(row["latent"]): _facts(row) for row in first.to_dict("records")}
    groups = listed([f"{k} with {name}" for name, k in found.patients.items()])
    return ValidationView(
        head=Head(
            kicker="Later patients",
            title=f"{' against '.join(found.classes[::-1]) if len(found.classes) < 3 else 'Diagnoses'}: what is kept",
            byline=f"{count(n, 'later patient')} of {later.name}, {groups}; trained on {training.name}",
            verdict=verdict_of(found, result, earlier),
            warnings=(*doubts_of_validation(found, result), *_outside(found)),
            notice=(RESEARCH, "Nothing was fitted, chosen or set on the later patients."),
        ),
        tiles=(
            Fact("AUROC on later patients", measured(best, "auroc"), "two", 0.5, "chance"),
            Fact("AUROC promised", known(best["promised_auroc"]), "two"),
            Fact("later patients", n, "count"),
        ),
        compared=_compared(found, result),
        key=_table(found, rows_shown(found, result), families=False),
        curve=_curve(found),
        reliability=_reliability(found, result),
        measures=_measures(found),
        all=_table(found, by_family(found.rows.set_index("model")), families=True),
        missing=_pairs(found.missing, "Row", "Why it was not made"),
        concepts_words=_shift_words(found),
        concepts=views_of_concepts(training, latents[:4], facts=facts, others=[later], references=8),
        shifted=_shifted(first),
        patients_words=_patients_words(found, result),
        patients=_patients(found, result),
        set_aside=_pairs(found.set_aside, "Patient", "Why set aside"),
        notes=found.notes,
        definitions=define("AUROC", "Balanced accuracy", "Brier", "Fixed threshold", *_WORDS),
        made_from=tuple(MadeFrom(one.name, str(one.atlas.uns["provenance"]["tokens"])) for one in (training, later)),
    )


_WORDS = ("Calibration slope", "Calibration intercept", "Net benefit", "Shifted", "Cliff’s delta", "q")


def verdict_of(found: Validation, result: ClassificationResult, earlier: Sequence[EarlierLook] = ()) -> str:
    """The finding in one sentence, what speaks against it first."""
    auroc, promised = measured(found.best, "auroc"), measured(found.best, "promised_auroc")
    told = f"{found.classes[1]} from {found.classes[0]}" if len(found.classes) == 2 else "the diagnoses apart"
    n = count(sum(found.patients.values()), "later patient")
    if auroc.low is not None and auroc.low <= 0.5:
        said = f"On {n} it is not shown that concepts tell {told}: AUROC {say(auroc)}"
    elif auroc.high is not None and promised.value is not None and auroc.high < promised.value:
        said = f"On {n} concepts tell {told} less well than promised: AUROC {say(auroc)}"
    else:
        said = f"On {n} concepts tell {told} with AUROC {say(auroc)}"
    said = f"{said}; cross-validation promised {say(promised)}."
    painted = next((row for name, row in _rivals(found, result).items() if name.startswith(PAINTED)), None)
    said = warned(said, None if painted is None else measured(painted, "auroc"), auroc)
    return f"{second_look(earlier)} {said}".lstrip()


def second_look(earlier: Sequence[EarlierLook]) -> str:
    """That patients were looked at before; empty where none was."""
    if not earlier:
        return ""
    most, times = max(look.patients for look in earlier), len(earlier)
    often = {1: "once", 2: "twice"}.get(times, f"{times} times")
    return (
        f"A second look is no validation: {most} of these patients {'was' if most == 1 else 'were'} looked at before "
        f"({often}, first on {earlier[0].at[:10]})."
    )


def doubts_of_validation(found: Validation, result: ClassificationResult) -> tuple[str, ...]:
    """What does as well as the classifier on the later patients, within its interval, and has no concepts in it."""
    auroc = measured(found.best, "auroc")
    equal = {name: row for name, row in _rivals(found, result).items() if as_good(measured(row, "auroc"), auroc)}
    if not equal:
        return ()
    named = [f"{rival_words(name)} ({two(float(row['auroc']))})" for name, row in equal.items()]
    return (f"No worse on these patients, within its interval: {listed(named)}.",)


def rows_shown(found: Validation, result: ClassificationResult) -> list[str]:
    """The classifier's row first, then what it has to be better than."""
    return [found.recommended, *_rivals(found, result)]


def _rivals(found: Validation, result: ClassificationResult) -> dict[str, Any]:
    """Rows that matter beside the recommended one, of those that could be made of later patients."""
    rows = found.rows.set_index("model", drop=False)
    names = [name for name in rivals_of(result) if name in rows.index]
    names += [str(name) for name in rows.index if str(name).startswith("shuffled diagnoses")]
    return {name: rows.loc[name].to_dict() for name in names}


def _compared(found: Validation, result: ClassificationResult) -> Intervals:
    named = {name: rival_words(name).removesuffix(" alone") for name in _rivals(found, result)}
    rows = found.rows.set_index("model")
    panels = []
    for title, column in (("promised", "promised_auroc"), ("kept", "auroc")):
        lines = [IntervalRow("recommended", measured(found.best, column), strong=True)]
        lines += [IntervalRow(words, measured(rows.loc[name], column)) for name, words in named.items()]
        panels.append(IntervalPanel(title, tuple(lines), 0.5))
    words = (
        "AUROC with its 95 % interval: as cross-validation on the training patients promised it, and as the same "
        "models keep it on later patients. Dashed: chance."
    )
    return Intervals(words, Axis("AUROC"), tuple(panels))


def _table(found: Validation, names: Sequence[str], *, families: bool) -> Table | None:
    """AUROC promised and kept of these rows, and of the last ones more where all are shown."""
    rows = found.rows.set_index("model", drop=False)
    columns = {"promised_auroc": "AUROC promised", "auroc": "AUROC kept", "difference": "Recommended less this"}
    if families:
        columns |= {name: MEASURES[name] for name in list(MEASURES)[1:]}
    frame = pd.DataFrame({"Model": list(names)})
    for column, words in columns.items():
        frame[words] = [measured(rows.loc[name], column) for name in names]
    shown: dict[str, Shown] = dict.fromkeys(columns.values(), "two")
    return table_of(
        frame,
        "Each fitted on the training patients as in their table, and applied to the later ones. In brackets: 95 % "
        "intervals, patients resampled; shuffled diagnoses: over the shuffles. In bold: the classifier.",
        shown=shown,
        strong=[name == found.recommended for name in names],
        families=[FAMILIES.get(str(rows.at[name, "family"]), "") for name in names] if families else None,
    )


def _measures(found: Validation) -> Table | None:
    best = found.best
    named = {**MEASURES, **({f"f1_{c}": f"F1 of {c}" for c in found.classes})}
    frame = pd.DataFrame({"Measure": list(named.values())})
    frame["Promised"] = [measured(best, f"promised_{column}") for column in named]
    frame["Kept"] = [measured(best, column) for column in named]
    words = (
        f"{found.recommended}, in cross-validation and on the later patients, with 95 % intervals. A dash: no number "
        "can be given, as for the slope where the decisions part the classes without a mistake."
    )
    return table_of(frame, words, shown={"Promised": "two", "Kept": "two"})


def _curve(found: Validation) -> Chart:
    own = found.curves.query("model == @found.recommended")
    several, lines = len(found.classes) > 2, []
    for name, rows in own.query("patients == 'later'").groupby("class", sort=False):
        low, high = ((), ()) if several else (_drawn(rows["low"]), _drawn(rows["high"]))
        at = series(rows["threshold"])
        line = Series(str(name) if several else "later patients", at, _drawn(rows["net_benefit"]), low, high)
        lines.append(line if several else replace(line, strong=True))
        if not several:
            before = own.query("patients == 'cross-validation'")
            lines.append(Series("cross-validation", series(before["threshold"]), _drawn(before["net_benefit"])))
            seen = rows[rows["treat_all"] >= LEAST_SHOWN]
            lines.append(Series("acting on everybody", series(seen["threshold"]), series(seen["treat_all"])))
    words = (
        "Decision curve: what acting from a probability on is worth, in true positives a patient, false ones counted "
        f"by the odds of that probability; dashed: acting on nobody. Of patients among whom {_population(found)}. "
        "Grey: 95 % interval."
    )
    return Chart(words, Axis("probability from which one acts"), Axis("net benefit"), tuple(lines), level=0.0)


def _population(found: Validation) -> str:
    equal = found.config.get("odds", "equal") == "equal"
    return "the diagnoses are equally frequent" if equal else "the diagnoses are as frequent as they are here"


def _drawn(values: Any) -> tuple[Any, ...]:
    return series(np.maximum(np.asarray(values, dtype=np.float64), LEAST_SHOWN))


def _reliability(found: Validation, result: ClassificationResult) -> Chart | None:
    positive = positive_of(result)
    bins = found.reliability.query("`class` == @positive")
    before = result.reliability.query("model == @found.recommended and `class` == @positive")
    if bins.empty:
        return None
    shares = Series(
        "later patients in bins",
        *(series(bins[column]) for column in ("predicted", "observed", "low", "high")),
        drawn="points",
        strong=True,
    )
    promised = Series("in cross-validation", series(before["predicted"]), series(before["observed"]))
    return Chart(
        "Calibration: later patients in bins of equal size, 95 % intervals; the line: in cross-validation.",
        Axis(f"predicted probability of {positive}"),
        Axis(f"observed share of {positive}"),
        (shares, promised),
        unit=True,
    )


def _facts(row: Mapping[Any, Any]) -> tuple[Fact, ...]:
    return (
        Fact("Mean barcode, training", known(row["training"]), "number"),
        Fact("Mean barcode, later", known(row["later"]), "number"),
        Fact("Cliff’s delta, later against training", known(row["delta"]), "signed"),
        Fact("q", known(row["q"]), "p"),
        Fact("Weight in the decision", known(row["weight"]), "signed"),
    )


def _shift_words(found: Validation) -> str:
    n, shifted = len(found.shifted), int(found.shifted["shifted"].sum())
    words = (
        f"Of the {count(n, 'concept')} that the decision sums, {shifted} {'is' if shifted == 1 else 'are'} otherwise "
        "in the later patients than in training patients of the same diagnosis (van Elteren’s rank test, false "
        "discovery rate 5 %). Those that move the decision most, first."
    )
    influence = found.shifted["influence"]
    total = float(influence.sum())
    if shifted and total > 0:
        share = float(influence[found.shifted["shifted"].astype(bool)].sum()) / total
        words += f" The shifted ones have {percent(share)} of the influence."
    return words


def _shifted(first: pd.DataFrame) -> Table | None:
    table = pd.DataFrame({"Latent": [str(int(latent)) for latent in first["latent"]]})
    named = {"weight": "Weight", "training": "Training", "later": "Later", "delta": "Cliff’s delta", "q": "q"}
    for column, words in named.items():
        table[words] = first[column].to_numpy()
    table["Shifted"] = ["yes" if there else "no" for there in first["shifted"]]
    shown: dict[str, Shown] = {"Weight": "signed", "Cliff’s delta": "signed", "q": "p"}
    return table_of(table, "Mean barcodes of the training and of the later patients.", shown=shown)


def _outside(found: Validation) -> tuple[str, ...]:
    outside = [row for row in found.predictions.to_dict("records") if row["outside"]]
    if not outside:
        return ()
    return (
        f"{len(outside)} of {count(len(found.predictions), 'later patient')} lie outside of what the classifier was "
        f"fitted on (first: {outside[0]['patient']}: {outside[0]['reason']}).",
    )


def _patients_words(found: Validation, result: ClassificationResult) -> str:
    right = int((found.predictions["call"] == found.predictions["diagnosis"]).sum())
    return f"Called rightly: {right} of {len(found.predictions)}, by the probability of {positive_of(result)}."


def _patients(found: Validation, result: ClassificationResult) -> Table | None:
    share = f"probability_{positive_of(result)}"
    own = found.predictions.sort_values(["diagnosis", share], ascending=[True, False])
    frame = pd.DataFrame({"Patient": own["patient"].astype(str), "Diagnosis": own["diagnosis"].astype(str)})
    frame["Cells"] = own["n_cells"].astype(int)
    frame[f"Probability of {positive_of(result)}"] = own[share].astype(float)
    frame["Called"] = own["call"].astype(str)
    frame["Outside"] = own["reason"].fillna("").astype(str)
    wrong = (own["call"] != own["diagnosis"]).tolist()
    shown: dict[str, Shown] = {f"Probability of {positive_of(result)}": "percent"}
    return table_of(frame, "In bold: called wrongly.", shown=shown, strong=wrong)


def _pairs(named: Mapping[str, str], first: str, second: str) -> Table | None:
    items: Iterable[tuple[str, str]] = named.items()
    return table_of(pd.DataFrame(list(items), columns=pd.Index([first, second])))

"""What `cytosae cohort validate` prints, for people and for programs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cytosae.views.parts.number_words import two
from cytosae.views.parts.page_parts import measured, say
from cytosae.views.patients.validation_view import MEASURES

if TYPE_CHECKING:
    from cytosae.cohort import Validation


def held_row(row: Mapping[str, Any]) -> list[str]:
    """A row of the table: name, AUROC promised, AUROC kept."""
    return [str(row["model"]), say(measured(row, "promised_auroc")), say(measured(row, "auroc"))]


def counts_of(found: Validation) -> str:
    """How many patients of each class, trained on and later."""
    return "; ".join(
        f"{name}: {found.patients[name]} later, {found.training[name]} trained on" for name in reversed(found.classes)
    )


def lines_of(found: Validation) -> list[str]:
    """The classifier's other measures, who is set aside, who lies outside, and what shifted."""
    best, named = found.best, {name: words for name, words in MEASURES.items() if name != "auroc"}
    lines = [
        f"{words}: {say(measured(best, name))}, promised {two(measured(best, f'promised_{name}').value)}."
        for name, words in named.items()
    ]
    shifted = int(found.shifted["shifted"].sum())
    lines.append(f"Concepts of the decision that shifted: {shifted} of {len(found.shifted)}.")
    lines += [f"Set aside: {name}: {why}." for name, why in found.set_aside.items()]
    for row in found.predictions.to_dict("records"):
        if row["outside"]:
            lines.append(
                f"Warning: {row['patient']} lies outside of what the classifier was fitted on: {row['reason']}"
            )
    return [*lines, *found.notes]


def facts_of_validation(found: Validation) -> dict[str, Any]:
    """The validation for programs: the classifier's measures first, every table behind them."""
    best = found.best
    facts: dict[str, Any] = {
        "auroc": best["auroc"],
        "auroc_interval": [best["auroc_low"], best["auroc_high"]],
        "promised_auroc": best["promised_auroc"],
        "promised_auroc_interval": [best["promised_auroc_low"], best["promised_auroc_high"]],
        "patients": sum(found.patients.values()),
        "patients_by_diagnosis": dict(found.patients),
        "training_patients": dict(found.training),
        "recommended": found.recommended,
    }
    for name in MEASURES:
        if name != "auroc":
            facts |= {name: best[name], f"{name}_interval": [best[f"{name}_low"], best[f"{name}_high"]]}
            facts[f"promised_{name}"] = best[f"promised_{name}"]
    plain = found.to_plain()
    tables = {name: getattr(found, name).to_dict("records") for name in ("rows", "predictions", "curves")}
    return facts | {
        "classes": found.classes,
        "models": tables["rows"],
        "predictions": tables["predictions"],
        "decision_curve": [row for row in tables["curves"] if row["model"] == found.recommended],
        "shifted": found.shifted.to_dict("records"),
        **{name: plain[name] for name in ("missing", "set_aside", "notes")},
    }

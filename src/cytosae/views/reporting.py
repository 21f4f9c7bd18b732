"""The reporting checklists TRIPOD+AI and CLAIM, filled with what is known; the rest is left to the authors."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Literal

from cytosae.cells.focus.patch_grid import grid_of
from cytosae.common.artifact import package_version
from cytosae.views.parts.number_words import count, listed, percent, whole
from cytosae.views.parts.page_parts import Column, Row, Table, measured, say
from cytosae.views.patients.models_view import doubts_of, rivals_of

if TYPE_CHECKING:
    from cytosae.cohort.classification.result import ClassificationResult
    from cytosae.views.datasets.dataset_view import DatasetView
    from cytosae.views.parts.opened_dataset import OpenedDataset

AUTHORS = "to be filled by the authors"
LISTS = {"T": "TRIPOD+AI", "C": "CLAIM"}
CAPTION = (
    "What TRIPOD+AI (2024) and CLAIM (2024) ask of a paper, by what is asked. An answer stands here only where it "
    "follows from what was computed; it is a beginning of the authors’ own."
)
USE = "research: to list, show and compare what the model sees; not for decisions about patients"


def reporting_table(page: Literal["study", "cohort"], answers: Mapping[str, str]) -> Table:
    """All items that concern a page, each with its answer or the words that leave it to the authors.

    Raises
    ------
    KeyError
        for an answer to what no item of the page asks.
    """
    items = {name: item for name, item in _items().items() if page in item["pages"]}
    if unasked := answers.keys() - items.keys():
        raise KeyError(f"no item of the page asks for {', '.join(sorted(unasked))}")
    rows = [
        Row((item["words"], listed([LISTS[one] for one in item["asked_by"].split()]), answers.get(name) or AUTHORS))
        for name, item in items.items()
    ]
    return Table((Column("item"), Column("asked by"), Column("answer")), tuple(rows), CAPTION)


def answers_of_study(
    datasets: Sequence[OpenedDataset],
    views: Sequence[DatasetView],
    summary: Mapping[str, Any],
    trained_on: Sequence[str],
) -> dict[str, str]:
    """What a study with an SAE can answer of itself."""
    manifest, sae = datasets[0].store.manifest, datasets[0].sae
    backbone = manifest["backbone"]
    size = backbone.get("preprocessing", {}).get("size")
    skipped, copies = sum(view.skipped_files for view in views), sum(view.duplicates for view in views)
    sources = [
        f"{view.name}: {count(view.cells, 'cell')}"
        + (f" of {count(view.patients, 'patient')}" if view.patients else "")
        for view in views
    ]
    answers = {
        "objective": USE,
        "data_source": "; ".join(sources),
        "exclusions": f"{count(skipped, 'file')} skipped as unusable, each with its reason; "
        f"{count(copies, 'duplicate')} left out",
        "reference_standard": f"labels as they came with the images ({_labelled(views)}); who set them is for the "
        "authors",
        "partitions": f"the dictionary was trained on {listed(list(trained_on)) or 'data sets that are not named'}; "
        "its figures are of tokens of the same data sets, and labels were not used",
        "model": f"sparse autoencoder of {whole(sae.d_sae)} latents on tokens of "
        f"{backbone.get('name') or 'a backbone'} (block {backbone.get('block', 'unknown')}, weights "
        f"{str(manifest.get('weights_hash', 'unknown'))[:12]})",
        "software": f"cytosae {package_version()}",
        "explainability": "each concept by its strongest cells and its map on the patches; whether that is right, only "
        "reviews by experts with controls can say",
        "limitations": "concepts were not validated for clinical decisions",
    }
    if size:
        answers["preparation"] = "resized as a whole to {} x {} pixels; normalised as the backbone asks".format(
            *grid_of(size)
        )
    if (steps := summary.get("steps")) is not None:
        answers["training"] = f"{whole(steps)} steps on {whole(summary.get('tokens_seen') or 0)} tokens"
    if (explained := summary.get("explained_variance")) is not None:
        answers["performance"] = f"explained variance {percent(explained)}"
    if (positions := summary.get("variance_of_positions")) is not None:
        answers["controls"] = f"the mean token of each position alone explains {percent(positions)}"
    return answers


def answers_of_cohort(result: ClassificationResult, *, cells: int, dataset: str) -> dict[str, str]:
    """What a classification of patients can answer of itself."""
    rows = result.table.set_index("model", drop=False)
    name = result.recommended.name
    best: Any = rows.loc[name].to_dict()
    asked, wrong = result.config, _wrong(result, name)
    patients = sum(result.patients.values())
    rivals = [f"{rival}: {say(value)}" for rival, value in rivals_of(result).items()]
    return {
        "objective": f"{USE}; here: to tell {listed(list(result.classes))} apart",
        "data_source": f"{dataset}: {count(cells, 'cell')} of {count(patients, 'patient')}",
        "reference_standard": "the diagnosis in the table of cells; how it was made is for the authors",
        "predictors": f"how much of each concept a patient's cells show ({result.recommended.kind}); chosen inside "
        "of the training folds only",
        "sample_size": "; ".join(f"{group}: {whole(n)}" for group, n in result.patients.items())
        + "; that it is enough is for the authors to show",
        "partitions": f"{asked.get('folds', 'unknown')}-fold cross-validation by patient, repeated "
        f"{asked.get('repeats', 'unknown')} times, choices made in inner folds; kept together: "
        f"{best.get('kept together') or 'patients'}",
        "model": f"{name}: a linear decision on concepts, one probability a patient",
        "training": result.reason,
        "software": f"cytosae {package_version()}",
        "performance": f"AUROC {say(measured(best, 'auroc'))}, 95 % interval over patients",
        "calibration": f"Brier score {say(measured(best, 'brier'))}; curve under “All models, ROC and reliability”",
        "controls": "; ".join(rivals),
        "explainability": "the decision is the exact sum of concepts, cells and patches; pages of patients show it",
        "failures": f"{count(wrong, 'patient')} of {whole(patients)} called otherwise than diagnosed, each in the "
        "list of patients",
        "external": "none on this page: every figure is of cross-validation (cytosae cohort validate)",
        "limitations": " ".join(doubts_of(result)) or "no confounder that was looked at does as well",
    }


def _wrong(result: ClassificationResult, name: str) -> int:
    own = result.predictions[result.predictions["model"] == name]
    return int((own["call"] != own["diagnosis"]).sum())


def _labelled(views: Sequence[DatasetView]) -> str:
    return f"{whole(sum(view.labelled for view in views))} of {count(sum(view.cells for view in views), 'cell')}"


@cache
def _items() -> dict[str, dict[str, Any]]:
    return tomllib.loads(files("cytosae.views").joinpath("reporting_items.toml").read_text(encoding="utf-8"))

"""Commands about patients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, Parameter

from cytosae.cli.options import options_of
from cytosae.cli.output import Json, Output
from cytosae.cli.studies import ConfigFile, ExistingStudy, HowToRead, asked_for, open_study
from cytosae.common.errors import UsageError
from cytosae.pipeline import StudyConfig

cohort_app: App = App(
    name="cohort",
    help="""Patients: tell diagnoses apart by concepts, with baselines, confounders and controls in the same folds.

    **cytosae cohort --study DIR** compares the diagnoses of the patients of a study that has been run, fits a
    classifier and writes pages about the cohort, its diseases and patients. It is research, not a diagnosis.
    """,
)

if TYPE_CHECKING:
    from cytosae.cohort import ClassificationResult

    # types made while running mean nothing to a type checker
    CohortOptions = Any
    RuntimeOptions = Any
else:
    CohortOptions = options_of(StudyConfig, "cohort", "runtime")
    RuntimeOptions = options_of(StudyConfig, "runtime")


@dataclass(frozen=True)
class Printed:
    """What is printed.

    Attributes
    ----------
    every : bool
        Print every model, not only the recommended one and those that it has to be better than.
    as_json : bool
        Print one JSON document instead of text.
    """

    every: Annotated[bool, Parameter(name="--all", negative="")] = False
    as_json: Json = False


@Parameter(name="*")
@dataclass(frozen=True)
class Compared:
    """What is compared, and by which concepts.

    Attributes
    ----------
    dataset : str or None
        Data set with the patients; needed where several have some.
    diagnosis : str or None
        Column with the diagnoses.
    compare : tuple of str or None
        Two diagnoses to tell apart, the one to be found first; all that are there if left out.
    strict : bool
        Also train an SAE without the test patients of each fold (as often as there are folds), and classify with it.
    concepts : {"all", "approved"}
        approved: also run the recommended model, in the same folds, on the concepts alone whose names reviewers
        accepted, to see what that costs.
    reviews_url : str or None
        Database of the reviews as an SQLAlchemy URL, by default ``reviews.sqlite`` in the study.
    """

    dataset: str | None = None
    diagnosis: str | None = None
    compare: Annotated[tuple[str, str] | None, Parameter(negative="")] = None
    strict: Annotated[bool, Parameter(negative="")] = False
    concepts: Literal["all", "approved"] = "all"
    reviews_url: str | None = None


@cohort_app.default
def cohort(
    *,
    study: ExistingStudy,
    compared: Compared | None = None,
    config: ConfigFile = None,
    options: CohortOptions | None = None,
    printed: Annotated[Printed | None, Parameter(name="*")] = None,
) -> None:
    """Compare diagnoses: barcodes, contrasts, classification, pathognomonic cells, classifier, pages."""
    from cytosae.cohort import open_classifier
    from cytosae.pipeline.approval_step import approved_concepts
    from cytosae.pipeline.cohort_work import CohortWork
    from cytosae.views.patients.approval_view import view_of_approval
    from cytosae.views.patients.models_view import doubts_of, recommended_facts, rows_that_matter, view_of_models

    printed = printed or Printed()
    output = Output(as_json=printed.as_json)
    compared = compared or Compared()
    pair = list(compared.compare) if compared.compare else None
    given = {"dataset": compared.dataset, "diagnosis": compared.diagnosis, "compare": pair}
    asked = {name: value for name, value in given.items() if value is not None}
    changes = {"cohort": {**asked, **({"strict": True} if compared.strict else {})}}
    work = open_study(study, output, asked_for(config=config, options=options, changes=changes))
    approved = approved_concepts(work.path, compared.reviews_url) if compared.concepts == "approved" else ()
    with work.alone():
        patients = CohortWork(work)
        patients.run(approved)
    result, report = patients.result(), work.place("cohort_report", patients.dataset)
    models = result.table.to_dict("records")
    few = rows_that_matter(result)
    shown = models if printed.every else [row for name in few for row in models if row["model"] == name]
    output.line(view_of_models(result).verdict)
    for doubt in doubts_of(result):
        output.line(f"Warning: {doubt}")
    columns = ["model", "AUROC", "over colours", "by colour"]
    output.table(columns, [_row(row) for row in shown], title=_title(result))
    if len(shown) < len(models):
        output.line(f"{len(models) - len(shown)} more models were compared; --all prints them.")
    output.line(f"Recommended: {result.reason}")
    for note in result.notes:
        output.line(note)
    if approved:
        price = view_of_approval(patients.approval())
        output.line(price.verdict)
        output.result(approval=price)
    output.line(f"The report is {report}; open it in a browser. It is research, not a diagnosis.")
    classifier = open_classifier(work.place("classifier", patients.dataset))
    facts = recommended_facts(result, len(classifier.latents))
    plain = {**result.to_plain(), "recommended": facts, "models": models}
    output.result(dataset=patients.dataset, report=report, **plain)
    output.finish()


def _title(result: ClassificationResult) -> str:
    groups = " against ".join(f"{name} ({result.patients[name]})" for name in reversed(result.classes))
    return (
        f"{groups}; over colours: trained on one half of the colour range, tested on the other; by colour: share of "
        "the decision that colour explains"
    )


def _row(row: Mapping[str, Any]) -> list[str]:
    def figure(name: str) -> str:
        value = row.get(name)
        return "" if value is None or value != value else f"{value:.2f}"

    auroc = f"{figure('auroc')} ({figure('auroc_low')} to {figure('auroc_high')})"
    return [str(row["model"]), auroc, figure("auroc_split"), figure("r2_colour")]


@cohort_app.command
def predict(
    images: Path | None = None,
    /,
    *,
    study: ExistingStudy,
    dataset: str | None = None,
    classifier: Path | None = None,
    patient: str = "patient",
    out: Path | None = None,
    how: HowToRead | None = None,
    as_json: Json = False,
) -> None:
    """Apply the fitted classifier to new patients; says whose cells lie outside of what it was fitted on.

    Parameters
    ----------
    images
        Images of the new patients (a folder or manifest with the column of patients); without it, a data set of the
        study is taken.
    dataset
        Name of the new data set, or of the one to take.
    classifier
        A fitted classifier; the one of the study if left out.
    patient
        Column with the patients.
    out
        CSV file to write, by default STUDY/cohort/DATASET-predictions.csv.
    """
    from cytosae.pipeline.new_patients import find_classifier, predict_patients, read_new_patients

    output = Output(as_json=as_json)
    work = open_study(study, output)
    with work.alone():
        path = classifier or find_classifier(work)
        new = (how or HowToRead()).of([] if images is None else [images])
        name = read_new_patients(work, new[0], dataset) if new else dataset
        if name is None:
            raise UsageError("no patients are named; give a folder of their images, or --dataset.")
        table = predict_patients(work, name, path, patient=patient)
    file = out or work.path / "cohort" / f"{name}-predictions.csv"
    file.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(file, index=False)
    shown = [column for column in table.columns if column != "reason"]
    rows = [[f"{v:.3f}" if isinstance(v, float) else v for v in row] for row in table[shown].to_numpy(dtype=object)]
    output.table(shown, rows, title=f"Patients of {name}")
    seen = {row["patient"]: row["training_images"] for row in table.to_dict("records") if row["training_images"]}
    if seen:
        output.line(
            f"Warning: {sum(seen.values()):,} images of {len(seen)} of these patients (first: {next(iter(seen))}) are "
            "among those that SAE or classifier were trained on; what is said of such a patient is no test."
        )
    for row in table.to_dict("records"):
        if row["outside"]:
            output.line(f"Warning: {row['patient']} lies outside of what the classifier was fitted on: {row['reason']}")
    output.line(f"Written to {file}. It is research, not a diagnosis.")
    output.result(predictions=table.to_dict("records"), file=file)
    output.finish()


@cohort_app.command
def validate(
    images: Path | None = None,
    /,
    *,
    study: ExistingStudy,
    dataset: Annotated[str | None, Parameter(name=("--dataset", "--test-cohort"))] = None,
    train_cohort: str | None = None,
    how: HowToRead | None = None,
    options: RuntimeOptions | None = None,
    printed: Annotated[Printed | None, Parameter(name="*")] = None,
) -> None:
    """Hold the fitted classifier to what it promised, on later patients whose diagnosis is known; fits nothing.

    Parameters
    ----------
    images
        Images of the later patients (a folder or manifest with the columns of patients and diagnoses); without it, a
        data set of the study is taken.
    dataset
        Name of the new data set, or of the one to take.
    train_cohort
        Data set whose patients the classifier was fitted on; needed where several have a classifier.
    """
    from cytosae.cli.validation_output import counts_of, facts_of_validation, held_row, lines_of
    from cytosae.pipeline.later_patients import validate_patients
    from cytosae.views.patients.validation_view import doubts_of_validation, rows_shown, second_look, verdict_of

    printed = printed or Printed()
    output = Output(as_json=printed.as_json)
    work = open_study(study, output, asked_for(options=options))
    with work.alone():
        new = (how or HowToRead()).of([] if images is None else [images])
        held = validate_patients(work, new[0] if new else None, dataset, train_cohort)
    found, result = held.validation, held.result
    doubts = doubts_of_validation(found, result)
    output.line(verdict_of(found, result, held.earlier))
    for doubt in doubts:
        output.line(f"Warning: {doubt}")
    few = rows_shown(found, result)
    rows = [row for row in found.rows.to_dict("records") if printed.every or row["model"] in few]
    output.table(["model", "AUROC promised", "AUROC kept"], [held_row(row) for row in rows], title=counts_of(found))
    if len(rows) < len(found.rows):
        output.line(f"{len(found.rows) - len(rows)} more models were applied; --all prints them.")
    for row, why in found.missing.items() if printed.every else ():
        output.line(f"Not applied: {row}: {why}.")
    for line in lines_of(found):
        output.line(line)
    output.line(f"The page is {held.page}; open it in a browser. It is research, not a diagnosis.")
    output.result(dataset=held.dataset, page=held.page, **facts_of_validation(found))
    output.result(earlier_looks=held.earlier, second_look=second_look(held.earlier) or None, doubts=doubts)
    output.finish()


@cohort_app.command
def explain(
    patient: str,
    /,
    *,
    study: ExistingStudy,
    dataset: str | None = None,
    out: Path | None = None,
    options: RuntimeOptions | None = None,
    as_json: Json = False,
) -> None:
    """Explain the decision for one patient: concepts, cells and patches whose contributions add up to it.

    Parameters
    ----------
    patient
        As the cell table names the patient.
    dataset
        Data set with the patient.
    out
        HTML page to write, by default STUDY/cohort/DATASET/pages/patient-PATIENT.html.
    """
    from cytosae.pipeline.cohort_pages import page_of, write_one_patient
    from cytosae.pipeline.cohort_work import CohortWork

    output = Output(as_json=as_json)
    work = open_study(study, output, asked_for(options=options))
    config = replace(work.config.cohort, dataset=dataset) if dataset else work.config.cohort
    patients = CohortWork(work, config)
    folder = work.place("cohort_report", patients.dataset).parent / "pages"
    page = write_one_patient(patients, patient, out or folder / page_of(patient))
    output.line(f"The page is {page}; open it in a browser. It is research, not a diagnosis.")
    output.result(patient=patient, page=page)
    output.finish()

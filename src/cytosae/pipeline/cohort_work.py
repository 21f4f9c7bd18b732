"""The work on the patients of a study: which data set has them, what is refused, and the steps in order."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING

from cytosae.common.errors import InputError, UsageError
from cytosae.pipeline import cohort_steps
from cytosae.pipeline.approval_step import approval_step
from cytosae.pipeline.patients import Patients

if TYPE_CHECKING:
    from cytosae.pipeline.step import StepResult
    from cytosae.pipeline.study import Study
    from cytosae.pipeline.study_config import CohortConfig


class CohortWork(Patients):
    """The patients of a study, and the steps that compare them.

    Parameters
    ----------
    study : Study
        With tokens, SAE and atlas of the data set.
    config : CohortConfig or None
        None for what the study's configuration says.

    Raises
    ------
    UsageError
        no or more than one data set has patients and diagnoses and none is named; ``compare`` is not two different
        diagnoses.
    InputError
        the named data set has no patients, or none with a diagnosis.
    """

    study: Study

    def __init__(self, study: Study, config: CohortConfig | None = None) -> None:
        self.study = study
        asked = config or study.config.cohort
        if asked.dataset is not None:
            study.cells(asked.dataset)
        super().__init__(study, asked.dataset or _only_dataset(study, asked), asked)

    def run(self, approved: Sequence[int] = ()) -> list[StepResult]:
        """All steps; where there are ``approved`` concepts, also what these alone tell."""
        self.check_copies()
        steps = cohort_steps.all_steps(self, self.study.config, self.study.context)
        results = self.study.do(islice(steps, 2))  # the colours and the barcodes, which tell who is there
        self.check_diagnoses()
        self.study.save_config()
        results += self.study.do(steps)
        if approved:
            results += self.study.do([approval_step(self, approved)])
        return results + self.study.do([cohort_steps.pages_step(self, self.study.config, self.study.context)])

    def make_barcodes(self) -> StepResult:
        """Sum up the cells of each patient."""
        return self.study.context.run(cohort_steps.barcodes_step(self.dataset, self.config))

    def check_copies(self) -> None:
        """Refuse an image that stands under two patients: it would be trained on and tested."""
        copies = self.study.cells(self.dataset).duplicates
        shared = copies[[self.config.patient in names for names in copies["differs"]]]
        if len(shared):
            first = shared.iloc[0]
            raise InputError(
                f"{len(shared)} images stand under two patients, so that they would be trained on and tested: "
                f"{first['kept']} is {first['dropped']}; remove one of each, or correct the column "
                f"{self.config.patient!r}."
            )

    def check_diagnoses(self) -> None:
        """Refuse a comparison that cannot be made, before hours are spent on it."""
        from cytosae.cohort import REST, near_duplicates

        names = sorted({name for name in self.barcodes.obs["diagnosis"].to_numpy() if isinstance(name, str)})
        for name in self.config.compare:
            if name not in names:
                alike = [b if a == name else a for a, b in near_duplicates([*names, name]) if name in (a, b)]
                hint = f"; did you mean {alike[0]!r}" if alike else ""
                raise UsageError(f"no patient has the diagnosis {name!r}{hint}; there are: {', '.join(names)}.")
        if len(names) > 2 and any(b == REST for _, b in self.comparisons) and self.config.compare:
            raise UsageError(
                f"compare names {REST!r} second, which means all other patients; name it first, or rename the "
                "diagnosis."
            )
        if len(names) < 2:
            only = f"all patients have the diagnosis {names[0]!r}" if names else "no patient has a diagnosis"
            raise InputError(f"{self.dataset}: {only}; nothing can be compared. Add patients of another group.")


def _only_dataset(study: Study, asked: CohortConfig) -> str:
    """The one data set with patients and diagnoses; of several, the one that was learnt from: others came later."""
    columns = (asked.patient, asked.diagnosis)
    frames = {name: study.cells(name).frame for name in study.datasets}
    usable = [
        name for name, frame in frames.items() if all(c in frame and bool(frame[c].notna().any()) for c in columns)
    ]
    if len(usable) == 1:
        return usable[0]
    if not usable:
        raise InputError(
            f"No data set of {study.path} has cells with {columns[0]!r} and {columns[1]!r}; add these columns to its "
            "manifest, or name other columns with --cohort.patient and --cohort.diagnosis."
        )
    learnt = [name for name in usable if name in study.trained_on or study.place("classifier", name).exists()]
    if len(learnt) != 1:
        raise UsageError(f"{', '.join(usable)} all have patients; choose one with --dataset.")
    others = [name for name in usable if name != learnt[0]]
    study.context.note(
        f"The patients of {learnt[0]} are compared; nothing was learnt from those of {', '.join(others)} "
        f"(compare them with --dataset {others[0]})."
    )
    return learnt[0]

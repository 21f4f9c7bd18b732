"""The step that prices approval, and the concepts that reviewers accepted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cytosae.common.errors import UsageError
from cytosae.pipeline.cohort_steps import classified
from cytosae.pipeline.patients import Patients
from cytosae.pipeline.places import Place
from cytosae.pipeline.step import Job, Step
from cytosae.pipeline.study_config import CohortConfig


def approved_concepts(study: Path, reviews_url: str | None = None) -> tuple[int, ...]:
    """Latents whose names reviewers accepted, of the study's own reviews or of those at ``reviews_url``.

    Raises
    ------
    UsageError
        Nobody has accepted any.
    """
    from cytosae.reviews import accepted_names

    accepted = tuple(sorted(accepted_names(study, reviews_url)))
    if not accepted:
        raise UsageError(
            f"No concept of {study} has been approved: accept names under /reviews of cytosae explore {study}, or "
            "leave out --concepts."
        )
    return accepted


def approval_step(work: Patients, approved: Sequence[int]) -> Step:
    """Run the recommended model again on approved concepts alone."""
    roles = ["classification", "cohort", "colours", "atlas", *(["retest"] if work.config.retest_cells else [])]
    slice_ = {"cohort": classified(work.config, work.asked), "approved": list(approved)}
    needs = tuple(Place(role, work.dataset) for role in roles)
    return Step(Place("approval", work.dataset), _price, slice_, needs)


def _price(job: Job) -> None:
    from cytosae.cohort.classification.approval import price_of_approval

    asked: CohortConfig = job.asked["cohort"]
    there = Patients(job, job.of, asked)
    price_of_approval(
        there.barcodes,
        there.atlas,
        job.asked["approved"],
        there.result(),
        colours=there.colours,
        retest=there.retest,
        config=asked.classification,
        patient=asked.patient,
    ).save(job.path, **job.record)

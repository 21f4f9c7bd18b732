"""What a page shows, as plain data that becomes JSON: pictures are references, plots are series, nothing is HTML."""

from __future__ import annotations

from cytosae.views.cohort_view import CohortView, view_of_cohort
from cytosae.views.concept_view import ConceptView, views_of_concepts
from cytosae.views.dataset_view import DatasetView, view_of_dataset
from cytosae.views.disease_view import DiseaseView, Ranking, view_of_disease
from cytosae.views.evidence import Evidence, Group, Shared
from cytosae.views.image_view import ImageView, view_of_image
from cytosae.views.marks import Mark, Marks
from cytosae.views.opened_cohort import OpenedCohort
from cytosae.views.opened_dataset import CellView, MapView, OpenedDataset
from cytosae.views.patient_view import KnownOfPatient, PatientView, view_of_patient
from cytosae.views.study_view import StudyView, view_of_study

__all__ = [
    "CellView",
    "CohortView",
    "ConceptView",
    "DatasetView",
    "DiseaseView",
    "Evidence",
    "Group",
    "ImageView",
    "KnownOfPatient",
    "MapView",
    "Mark",
    "Marks",
    "OpenedCohort",
    "OpenedDataset",
    "PatientView",
    "Ranking",
    "Shared",
    "StudyView",
    "view_of_cohort",
    "view_of_dataset",
    "view_of_disease",
    "view_of_image",
    "view_of_patient",
    "view_of_study",
    "views_of_concepts",
]

from .cells.image_view import ImageView, view_of_image
from .concepts.concept_view import ConceptView, views_of_concepts
from .datasets.atlas_view import AtlasView, view_of_atlas
from .datasets.comparison_view import ComparisonView, view_of_comparison, view_of_matching
from .datasets.dataset_view import DatasetView, view_of_dataset
from .datasets.study_view import StudyView, view_of_study
from .parts.marks import Mark, Marks
from .parts.opened_dataset import CellView, MapView, OpenedAtlas, OpenedDataset
from .patients.cohort_view import CohortView, view_of_cohort
from .patients.disease_view import DiseaseView, Ranking, view_of_disease
from .patients.evidence import Evidence, Group, Shared
from .patients.opened_cohort import OpenedCohort
from .patients.patient_view import KnownOfPatient, PatientView, view_of_patient

__all__ = [
    "AtlasView",
    "CellView",
    "CohortView",
    "ComparisonView",
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
    "OpenedAtlas",
    "OpenedCohort",
    "OpenedDataset",
    "PatientView",
    "Ranking",
    "Shared",
    "StudyView",
    "view_of_atlas",
    "view_of_cohort",
    "view_of_comparison",
    "view_of_dataset",
    "view_of_disease",
    "view_of_image",
    "view_of_matching",
    "view_of_patient",
    "view_of_study",
    "views_of_concepts",
]

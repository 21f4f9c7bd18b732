from .atlas_view import AtlasView, view_of_atlas
from .cohort_view import CohortView, view_of_cohort
from .comparison_view import ComparisonView, view_of_comparison, view_of_matching
from .concept_view import ConceptView, views_of_concepts
from .dataset_view import DatasetView, view_of_dataset
from .disease_view import DiseaseView, Ranking, view_of_disease
from .evidence import Evidence, Group, Shared
from .image_view import ImageView, view_of_image
from .marks import Mark, Marks
from .opened_cohort import OpenedCohort
from .opened_dataset import CellView, MapView, OpenedAtlas, OpenedDataset
from .patient_view import KnownOfPatient, PatientView, view_of_patient
from .study_view import StudyView, view_of_study

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

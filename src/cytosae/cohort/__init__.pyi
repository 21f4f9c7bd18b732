from .classification.classifier import (
    ConceptClassifier,
    fit_classifier,
    fit_configuration,
    model_input,
    open_classifier,
    save_classifier,
)
from .classification.classify import classify
from .classification.confounders import colour_following
from .classification.features import cell_types_of, gather
from .classification.folds import make_folds
from .classification.linear import fit_l2
from .classification.mil import fit_attention
from .classification.models import Configuration
from .classification.predict import predict
from .classification.result import ClassificationResult, open_classification
from .config import AttentionConfig, ClassificationConfig, Kind
from .contrasts.contrast import conclusion, contrast, disease_barcodes, open_contrast, save_contrast
from .explanation.counterfactual import Counterfactual, counterfactual
from .explanation.decision import PatientExplanation, explain_decision
from .explanation.faithfulness import Curve, Stability, cell_curve, concept_curve, stability
from .explanation.pathognomonic import neighbour_scores, pathognomonic_cells
from .explanation.ranking import RankingEvaluation, enrichment, evaluate_rankings, expert_labels, truth_of_labels
from .patients.barcodes import barcodes, cell_matrix, open_cohort, patient_correlation, save_cohort
from .patients.diagnoses import REST, near_duplicates
from .patients.outliers import patient_specific
from .patients.sessions import Sessions, imaging_sessions
from .stain.retest import open_retest, retest_reliability, save_retest, stable_directions

__all__ = [
    "REST",
    "AttentionConfig",
    "ClassificationConfig",
    "ClassificationResult",
    "ConceptClassifier",
    "Configuration",
    "Counterfactual",
    "Curve",
    "Kind",
    "PatientExplanation",
    "RankingEvaluation",
    "Sessions",
    "Stability",
    "barcodes",
    "cell_curve",
    "cell_matrix",
    "cell_types_of",
    "classify",
    "colour_following",
    "concept_curve",
    "conclusion",
    "contrast",
    "counterfactual",
    "disease_barcodes",
    "enrichment",
    "evaluate_rankings",
    "expert_labels",
    "explain_decision",
    "fit_attention",
    "fit_classifier",
    "fit_configuration",
    "fit_l2",
    "gather",
    "imaging_sessions",
    "make_folds",
    "model_input",
    "near_duplicates",
    "neighbour_scores",
    "open_classification",
    "open_classifier",
    "open_cohort",
    "open_contrast",
    "open_retest",
    "pathognomonic_cells",
    "patient_correlation",
    "patient_specific",
    "predict",
    "retest_reliability",
    "save_classifier",
    "save_cohort",
    "save_contrast",
    "save_retest",
    "stability",
    "stable_directions",
    "truth_of_labels",
]

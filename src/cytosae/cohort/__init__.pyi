from .classification.approval import Approval, open_approval, price_of_approval
from .classification.classifier import ConceptClassifier, fit_classifier, open_classifier, save_classifier
from .classification.classify import classify
from .classification.cohort_arrays import Controls, cell_types_of, gather, patient_groups
from .classification.colour_following import colour_following
from .classification.linear import fit_l2
from .classification.mil import fit_attention
from .classification.predict import predict
from .classification.result import ClassificationResult, open_classification
from .classification.settings import Configuration, fit_configuration, model_input
from .config import AttentionConfig, ClassificationConfig, Kind
from .contrasts.contrast import conclusion, contrast, disease_barcodes, open_contrast, save_contrast
from .design import Design, Intervals
from .explanation.attention import attention_scores
from .explanation.counterfactual import Counterfactual, counterfactual
from .explanation.decision import Detail, explain_decision
from .explanation.decision_gaze import where_a_decision_looks
from .explanation.faithfulness import Curve, Stability, cell_curve, concept_curve, stability
from .explanation.pathognomonic import neighbour_scores, pathognomonic_cells
from .explanation.patient_explanation import PatientExplanation
from .explanation.ranking import RankingEvaluation, enrichment, evaluate_rankings, expert_labels, truth_of_labels
from .patients.barcodes import barcodes, cell_matrix, open_cohort, patient_correlation, save_cohort
from .patients.cell_controls import open_cell_controls, save_cell_controls
from .patients.diagnoses import REST, near_duplicates
from .patients.outliers import patient_specific
from .patients.sessions import Sessions, imaging_sessions
from .stain.retest import open_retest, retest_reliability, save_retest, stable_directions
from .validation.joined import PatientData
from .validation.validation import Validation, open_validation, validate

__all__ = [
    "REST",
    "Approval",
    "AttentionConfig",
    "ClassificationConfig",
    "ClassificationResult",
    "ConceptClassifier",
    "Configuration",
    "Controls",
    "Counterfactual",
    "Curve",
    "Design",
    "Detail",
    "Intervals",
    "Kind",
    "PatientData",
    "PatientExplanation",
    "RankingEvaluation",
    "Sessions",
    "Stability",
    "Validation",
    "attention_scores",
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
    "model_input",
    "near_duplicates",
    "neighbour_scores",
    "open_approval",
    "open_cell_controls",
    "open_classification",
    "open_classifier",
    "open_cohort",
    "open_contrast",
    "open_retest",
    "open_validation",
    "pathognomonic_cells",
    "patient_correlation",
    "patient_groups",
    "patient_specific",
    "predict",
    "price_of_approval",
    "retest_reliability",
    "save_cell_controls",
    "save_classifier",
    "save_cohort",
    "save_contrast",
    "save_retest",
    "stability",
    "stable_directions",
    "truth_of_labels",
    "validate",
    "where_a_decision_looks",
]

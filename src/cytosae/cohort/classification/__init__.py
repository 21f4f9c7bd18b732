"""Diagnoses told apart, beside baselines, confounders and controls in the same folds."""

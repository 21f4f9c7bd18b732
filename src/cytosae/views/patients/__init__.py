"""Patients as they are shown: cohorts, diseases, decisions, classifications, and those who came later."""

"""Patients: who they are, what they have, and what their cells show of each concept."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from cohort.synthetic_cohort import QUICK, make_atlas

from cytosae.cohort.explanation import attention


@pytest.fixture
def cohort(monkeypatch):
    """An atlas whose first token dimension is its patient's number, and the patients each network was trained on."""
    atlas, _ = make_atlas(patients=12, cells=5)
    patient = atlas.obs["patient"].astype(str)
    atlas.obsm["X_backbone"][:, 0] = patient.str[1:].astype(int)
    trained: list[set[int]] = []

    def fit(bags, y, *, seed, config, groups):
        seen = {int(bag[0, 0]) for bag in bags}
        assert len(y) == len(groups) == len(seen)
        trained.append(seen)
        return SimpleNamespace(attention=lambda bag: np.full(len(bag), len(trained) - 1) / len(bag))

    monkeypatch.setattr(attention, "fit_attention", fit)
    return atlas, patient.str[1:].astype(int).to_numpy(), trained


def test_a_cell_is_ranked_by_a_network_that_has_not_seen_its_patient_or_its_group(cohort):
    atlas, number, trained = cohort
    groups = pd.Series([f"site{i // 4}" for i in range(12)], index=[f"P{i:03d}" for i in range(12)])
    for given in (None, groups):
        trained.clear()
        scores = attention.attention_scores(atlas, "APL", "AML", groups=given, config=QUICK)
        assert (np.isnan(scores) == (number % 2 == 0)).all()  # patients with even numbers have the other diagnosis
        for i in np.flatnonzero(~np.isnan(scores)):
            seen = trained[round(scores[i])]
            assert number[i] not in seen
            assert given is None or not seen & {p for p in range(12) if p // 4 == number[i] // 4}


def test_where_a_diagnosis_is_in_one_group_its_patients_are_told_from_one_another(cohort):
    atlas, number, trained = cohort
    groups = pd.Series(np.arange(12) % 2, index=[f"P{i:03d}" for i in range(12)])
    scores = attention.attention_scores(atlas, "APL", "AML", groups=groups, config=QUICK)
    assert (np.isnan(scores) == (number % 2 == 0)).all()
    assert all(any(p % 2 for p in seen) for seen in trained)

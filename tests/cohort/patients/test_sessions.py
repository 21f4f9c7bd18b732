"""Patients imaged in one session: found by the numbers of their images, and kept on one side of every split."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from cohort.synthetic_cohort import QUICK, make_atlas

from cytosae.cohort import AttentionConfig, barcodes, classify, fit_classifier, imaging_sessions, patient_groups
from cytosae.common.errors import InputError

CELLS = 10
BRIEF = replace(
    QUICK, kinds=("mean",), kind="mean", shuffles=0, attention=AttentionConfig(hidden=4, most_epochs=1, components=2)
)


def numbered(starts: list[int], step: int = 3, cells: int = CELLS) -> tuple[list[str], np.ndarray]:
    """File names of patients whose images begin at these numbers, and the patient of each."""
    names = [f"images/P{p}/scan2_{start + step * i}.jpg" for p, start in enumerate(starts) for i in range(cells)]
    return names, np.repeat(np.arange(len(starts)), cells)


def starts(*, together: int = 0, alone: int = 40, seed: int = 0) -> list[int]:
    rng = np.random.default_rng(seed)
    return [500_000 + 60 * i for i in range(together)] + rng.integers(0, 10_000_000, alone).tolist()


@pytest.mark.parametrize("seed", range(5))
def test_patients_of_one_session_are_found_and_few_others_taken_for_one(seed: int) -> None:
    found = imaging_sessions(*numbered(starts(together=6, seed=seed)), 46)
    assert found is not None
    assert set(range(6)) <= set(found.together()[0])
    chance = imaging_sessions(*numbered(starts(seed=seed)), 40)
    assert chance is not None
    assert sum(len(rows) for rows in chance.together()) <= 6
    assert sorted(found.order) == list(range(46))


def test_a_few_images_taken_later_do_not_part_a_session() -> None:
    names, patient = numbered(starts(together=4), cells=50)
    names[3] = "images/P0/scan2_9999999.jpg"
    found = imaging_sessions(names, patient, 44)
    assert found is not None
    assert set(range(4)) <= set(found.together()[0])


@pytest.mark.parametrize(
    ("names", "patients"),
    [
        ([f"P{p}/{i}.png" for p in range(9) for i in range(CELLS)], 9),  # begins anew with each patient
        ([f"P{p}/{CELLS * p + i}.png" for p in range(9) for i in range(CELLS)], 9),  # a list that was numbered
        ([f"P{p}/cell.png" for p in range(9) for _ in range(CELLS)], 9),  # no numbers
        ([f"P{p}/{10_000 * p + i}.png" for p in range(2) for i in range(CELLS)], 2),  # two patients
    ],
)
def test_names_that_tell_nothing_say_nothing(names: list[str], patients: int) -> None:
    assert imaging_sessions(names, np.repeat(np.arange(patients), CELLS), patients) is None


def test_a_patient_without_numbers_ends_the_question() -> None:
    names, patient = numbered(starts())
    names[:CELLS] = ["images/P0/cell.jpg"] * CELLS
    assert imaging_sessions(names, patient, 40) is None
    assert imaging_sessions(*numbered(starts()), 41) is None  # one of them has no image


def session_cohort(*, all_of_them: bool = False):
    """Diagnoses that nothing tells, but half of the APL patients were imaged in one session, whose light shows."""
    atlas, colours = make_atlas(patients=40, cells=CELLS, effect=0.0, seed=3)
    apl = np.flatnonzero(np.arange(40) % 2)
    chosen = apl if all_of_them else apl[: len(apl) // 2]
    number = np.random.default_rng(0).integers(0, 10_000_000, 40)
    number[chosen] = 4_000_000 + 60 * np.arange(len(chosen))
    patient = np.repeat(np.arange(40), CELLS)
    names = [f"{number[p] + 3 * i}.png" for p in range(40) for i in range(CELLS)]
    atlas.obs["image"] = pd.Categorical(names)
    atlas.obs["original_size"] = "64x64"
    light = np.isin(patient, chosen)[:, None] * np.random.default_rng(1).exponential(1.0, (len(patient), 2))
    values = sp.lil_matrix(atlas.X)
    values[:, 20:22] = values[:, 20:22].toarray() + light
    atlas.X = values.tocsr().astype(np.float32)
    return barcodes(atlas), atlas, colours


def test_a_session_that_tells_a_diagnosis_is_seen_and_both_figures_are_named() -> None:
    made, atlas, colours = session_cohort()
    config = replace(BRIEF, repeats=3)
    mixed = classify(made, atlas, colours=colours, config=config)
    apart = classify(made, atlas, colours=colours, config=replace(config, sessions=True))
    of = [one.table.set_index("model")["auroc"] for one in (mixed, apart)]
    assert of[0]["concepts (mean)"] > of[1]["concepts (mean)"] + 0.15
    assert of[1]["concepts (mean)"] < 0.65
    asked = mixed.table.set_index("model").dropna(subset="auroc_sessions")
    assert set(asked.index) <= set(mixed.table.query("family == 'concepts'")["model"])
    assert mixed.recommended.name in asked.index
    assert (asked["auroc_sessions"] < asked["auroc"] - 0.1).loc["concepts (mean), few"]  # the choice is told that
    assert "imaging sessions are kept together" in mixed.reason
    assert "auroc_sessions" not in apart.table
    assert "imaging sessions" not in apart.reason
    assert "order of imaging alone" in of[0].index
    for result, beside, other in ((mixed, "kept together", apart), (apart, "mixed", mixed)):
        name = result.recommended.name
        row = f"{name}, imaging sessions {beside}"
        table, there = (one.table.set_index("model") for one in (result, other))
        assert table.loc[row, "auroc"] == pytest.approx(there.loc[name, "auroc"])
        assert table.loc[row, "auroc_low"] == pytest.approx(there.loc[name, "auroc_low"])
        assert table.loc[row, "kept together"] == there.loc[name, "kept together"] != table.loc[name, "kept together"]
        assert not table.loc[row, "recommended"]
        assert row not in set(result.comparisons["model"])
        figures = [f"{table.loc[one, 'auroc']:.2f}" for one in (name, row)]
        assert any(
            note.startswith(f"AUROC of {name} with") and all(f in note for f in figures) for note in result.notes
        )
    assert any("10 APL" in note and "one side of every split" in note for note in apart.notes)
    assert any("10 APL" in note and "may part them" in note for note in mixed.notes)
    fitted = [
        fit_classifier(made, atlas, colours=colours, config=replace(config, sessions=kept)).strength
        for kept in (False, True)
    ]
    assert fitted[1] <= fitted[0]  # the penalty is chosen across sessions, too: a stronger one


@pytest.mark.parametrize("sessions", [False, True])
def test_a_diagnosis_imaged_in_one_session_cannot_be_kept_apart_and_that_is_said(*, sessions: bool) -> None:
    made, atlas, colours = session_cohort(all_of_them=True)
    result = classify(made, atlas, colours=colours, config=replace(BRIEF, sessions=sessions))
    assert any("All patients with APL were imaged in one session" in note for note in result.notes)
    assert (result.table["kept together"] == "").all()


def test_what_keeps_patients_together_is_had_by_patient() -> None:
    made, atlas, _ = session_cohort()
    made.obs["site"] = [f"S{i % 8}" for i in range(made.n_obs)]
    assert patient_groups(made, atlas, BRIEF) is None
    assert patient_groups(made, atlas, replace(BRIEF, group="site")).to_dict() == made.obs["site"].to_dict()
    sessions = patient_groups(made, atlas, replace(BRIEF, sessions=True))
    assert sessions.value_counts().iloc[0] >= 10
    made.obs["site"] = made.obs["site"].where(made.obs_names != "P003")
    with pytest.raises(InputError, match="'P003' has no site"):
        patient_groups(made, atlas, replace(BRIEF, group="site"))


def test_a_named_site_goes_before_sessions() -> None:
    made, atlas, colours = session_cohort()
    made.obs["site"] = [f"S{i % 8}" for i in range(made.n_obs)]
    result = classify(made, atlas, colours=colours, config=replace(BRIEF, group="site", sessions=True))
    assert not any("session" in note for note in result.notes)
    assert (result.table["kept together"] == "site").all()

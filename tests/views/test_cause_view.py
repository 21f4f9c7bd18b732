"""What is said of doses and of pairs, beside random latents: answers known by hand."""

from __future__ import annotations

import numpy as np
import pytest

from cytosae.atlas.explaining.intervention import DOSES, DoseResponse, Effect, Interaction
from cytosae.common.configuration import to_plain
from cytosae.views.cells.cause_view import doses_in_rows, pair_in_rows, view_of_doses, view_of_pair
from cytosae.views.cells.change_view import Watched, view_of_change

AS_IT_IS = np.array([0.9, 0.1, 0.5])
FAR = np.array([0.2, 0.1, 0, 0.1, 0.2])
"""How far the random latents of the test move everything, by dose: one up, one down, one not."""


def responds(values):
    """A response whose first quantity has ``values``, its second the rest, its third half of what the first has."""
    first = np.array(values)
    random = np.stack([FAR, -FAR, 0 * FAR])[:, :, None] * [1, -1, 0.5]
    return DoseResponse(DOSES, np.stack([first, 1 - first, 0.05 + first / 2], axis=1), AS_IT_IS, random)


def shown(values):
    return view_of_doses(responds(values), 12, ["monocyte", "blast"], ["the decision"])


def test_a_dose_that_goes_beyond_every_random_latent_is_told():
    view = shown([0.4, 0.75, 0.9, 0.85, 0.85])
    assert view.verdict.startswith(
        "Removing concept 12 lowers the probability of monocyte from 90.0\u202f% to 40.0\u202f%, further than any of 3 "
        "random latents of equal strength moves it, and so does halving it."
    )
    assert "the patient’s decision from +0.5000 to +0.2500" in view.verdict
    assert [one.words for one in view.types] == ["monocyte", "blast"]
    assert view.types[0].beyond == (True, True, False, False, False)
    assert view.types[0].reach == pytest.approx(FAR)
    assert (view.types[0].random[0].low, view.types[0].random[0].high) == pytest.approx((0.7, 1.1))
    assert doses_in_rows(view)[0][:2] == ["monocyte", "40.0\u202f% *"]
    assert to_plain(view)["types"][0]["values"][0] == 0.4


def test_what_random_latents_do_as_well_is_called_no_more():
    view = shown([0.75, 0.85, 0.9, 0.95, 0.99])
    assert "At no dose does concept 12 move the probability of monocyte further than random latents" in view.verdict
    assert not any(view.types[0].beyond)


def test_what_stays_is_said_to_stay_however_little_random_latents_do():
    found = responds([0.9] * 5)
    still = DoseResponse(found.factors, found.values + 1e-7, found.before, 0 * found.random)
    view = view_of_doses(still, 12, ["monocyte", "blast"], ["the decision"])
    assert "the probability of monocyte stays at 90.0\u202f%" in view.verdict
    assert not any(one for curve in (*view.types, *view.decision) for one in curve.beyond)


def pair_of(both):
    changes = np.array([[-0.1, 0.1, 0], [-0.2, 0.2, 0], [both, -both, 0]])
    random = np.array([[[0.1], [0.1], [0.25]], [[-0.1], [0.0], [-0.15]]]) * [1, -1, 0]
    found = Interaction(AS_IT_IS, changes, random)
    concepts = [(12, "granules", 0.5), (40, "lobes", 0.25)]
    return view_of_pair(found, concepts, "removed", ["monocyte", "blast"], ["the decision"])


def test_what_two_do_beyond_their_sum_is_told_beside_random_pairs():
    """−0.5 by both, −0.3 by the sum: −0.2; the random pairs go 0.05 and −0.05 beyond theirs."""
    view = pair_of(-0.5)
    assert view.types[0].changes == pytest.approx((-0.1, -0.2, -0.5, -0.2))
    assert view.types[0].beyond
    assert (view.types[0].random[3].low, view.types[0].random[3].high) == pytest.approx((-0.05, 0.05))
    assert "changes by −50.0\u202fpoints, with either alone by −10.0\u202fpoints and −20.0\u202fpoints" in view.verdict
    assert "−20.0\u202fpoints beyond the sum, further than any of 2 pairs of random latents" in view.verdict
    assert pair_in_rows(view)[0][4] == "−20.0\u202fpoints (−5.0\u202fpoints to +5.0\u202fpoints)"


def test_a_sum_that_random_pairs_miss_by_as_much_is_no_interaction():
    view = pair_of(-0.34)
    assert not view.types[0].beyond
    assert "is no more than pairs of random latents of equal strength show" in view.verdict
    assert not view.decision[0].beyond


def test_a_concept_that_is_not_there_makes_no_pair():
    view = view_of_pair(None, [(12, "granules", 0.5), (40, "lobes", 0.0)], "removed", ["monocyte"], [])
    assert view.verdict == "Concept 40 is not active in this image, so there is no pair."
    assert view.types == ()


def test_what_does_not_move_within_what_is_shown_is_as_before():
    effect = Effect(np.array([0.9891, 0.0109]), np.array([0.9892, 0.0108]), np.full((5, 2), 0.01))
    view = view_of_change(
        effect, (12, "", 0.0), activation=0.1, types=Watched(("monocyte", "blast")), decision=Watched()
    )
    assert "still takes the cell for monocyte, with 98.9\u202f% as before" in view.verdict
    effect = Effect(np.array([0.9891, 0.0109]), np.array([0.9792, 0.0208]), np.full((5, 2), 0.001))
    view = view_of_change(
        effect, (12, "", 0.0), activation=0.1, types=Watched(("monocyte", "blast")), decision=Watched()
    )
    assert "with 97.9\u202f% instead of 98.9\u202f%" in view.verdict

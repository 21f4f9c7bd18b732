"""One-attribute pairs: made-up encoders that measure what is known of a drawing, so that every answer is known."""

from __future__ import annotations

import hashlib

import numpy as np
import pandas as pd
import pytest

from cytosae.common.errors import UsageError
from cytosae.evaluation.concept_pairs import ask_pairs, follow_counts, open_pairs, save_pairs
from cytosae.evaluation.config import PairsConfig

CONFIG = PairsConfig(pairs=20, size=32, attributes=("nucleus_lobes", "vacuoles", "blur"))
LOBES, VACUOLES, BOTH, FEWER, NOISE, SILENT, SAME, SHARP = range(8)


def chance(drawing) -> float:
    """A number between 0 and 1 that has nothing to do with what is drawn."""
    return int.from_bytes(hashlib.sha256(drawing.image.tobytes()).digest()[:4], "big") / 2**32


def measure(drawings):
    """Lobes, vacuoles, both alike, fewer lobes, chance, nothing, a constant, lobes and sharpness."""
    rows = []
    for drawing in drawings:
        lobes, vacuoles = drawing.attributes["nucleus_lobes"], drawing.attributes["vacuoles"]
        sharpness = float(np.abs(np.diff(drawing.image.astype(float), axis=0)).mean())
        rows.append([lobes, vacuoles, lobes / 2 + vacuoles / 8, 5 - lobes, chance(drawing), 0, 1, lobes + sharpness])
    random = [[chance(drawing), 0.5 * chance(drawing)] for drawing in drawings]
    return {"learned": np.array(rows, float), "random": np.array(random)}


@pytest.fixture(scope="module")
def lobes() -> list[int]:
    """Of every cell that was encoded."""
    return []


@pytest.fixture(scope="module")
def answered(lobes):
    def encode(drawings):
        lobes.extend(drawing.attributes["nucleus_lobes"] for drawing in drawings)
        return measure(drawings)

    return ask_pairs(encode, CONFIG)


@pytest.fixture(scope="module")
def learned(answered):
    return answered.latents[answered.latents["weights"] == "learned"].set_index("latent")


def test_what_measures_one_attribute_follows_it_and_nothing_else(learned):
    for latent, attribute in ((LOBES, "nucleus_lobes"), (VACUOLES, "vacuoles"), (FEWER, "nucleus_lobes")):
        row = learned.loc[latent]
        assert (row["verdict"], row["attribute"], row["specificity"]) == ("one", attribute, 1)
        assert row["second_share"] == 0


def test_the_effect_is_the_mean_difference_in_standard_deviations_of_all_cells(answered, learned, lobes):
    """Two lobes become four in every pair; in the other two kinds of pairs nuclei have one, or two to four."""
    effects = answered.effects.query("weights == 'learned' and attribute == 'nucleus_lobes'").set_index("latent")
    row, back = effects.loc[LOBES], effects.loc[FEWER]
    assert row["moved"] == 20
    assert row["effect"] == row["effect_low"] == row["effect_high"] == pytest.approx(-back["effect"])
    assert row["effect"] == pytest.approx(2 / np.std(lobes))
    assert learned.loc[LOBES, "effect"] == row["effect"]


def test_twenty_of_twenty_in_one_direction_is_a_sign_test(answered):
    """2 / 2^20 each for lobes, vacuoles, ...: seven of 21 tests of the seven latents that live and three attributes."""
    effects = answered.effects.query("weights == 'learned'")
    found = effects[effects["q"] < 0.01]
    assert sorted(zip(found["latent"], found["attribute"], strict=True)) == [
        (LOBES, "nucleus_lobes"),
        (VACUOLES, "vacuoles"),
        (BOTH, "nucleus_lobes"),
        (BOTH, "vacuoles"),
        (FEWER, "nucleus_lobes"),
        (SHARP, "blur"),
        (SHARP, "nucleus_lobes"),
    ]
    np.testing.assert_allclose(found["q"], 2 / 2**20 * 21 / 7)


def test_what_follows_two_alike_has_half_its_response_from_each(learned):
    row = learned.loc[BOTH]
    assert row["specificity"] == row["second_share"] == 0.5  # 2 lobes / 2 and 8 vacuoles / 8
    assert {row["attribute"], row["second"]} == {"nucleus_lobes", "vacuoles"}


def test_what_the_image_moves_too_follows_one_attribute_of_the_cell(learned):
    row = learned.loc[SHARP]
    assert (row["verdict"], row["attribute"], row["cell_attribute"]) == ("of_cell", "blur", "nucleus_lobes")
    assert row["cell_specificity"] > 0.8 > row["specificity"] > 0.2


def test_chance_and_a_constant_follow_nothing_and_what_is_silent_is_left_out(learned):
    assert learned.loc[NOISE, "verdict"] == learned.loc[SAME, "verdict"] == "none"
    assert learned.loc[NOISE, "specificity"] < 0.6
    assert SILENT not in learned.index


def test_random_latents_stand_beside(answered, learned):
    random = answered.latents[answered.latents["weights"] == "random"]
    assert list(random["verdict"]) == ["none", "none"]
    np.testing.assert_allclose(learned["random_specificity"], random["specificity"].median())
    assert (learned["random_one"] == 0).all()
    counts = follow_counts(answered)
    told = {"moved": 4, "one": 2, "of_cell": 1, "random_moved": 0, "random_one": 0, "random_of_cell": 0}
    assert counts.loc["nucleus_lobes"].to_dict() == told
    assert counts.loc["vacuoles", "moved"] == 2
    assert counts.loc["blur", ["moved", "of_cell"]].to_list() == [1, 0]


def test_what_was_told_is_kept(answered, tmp_path):
    again = open_pairs(save_pairs(answered, tmp_path / "pairs"), verify=True)
    pd.testing.assert_frame_equal(again.latents, answered.latents)
    assert again.effects["q"].equals(answered.effects["q"])


def test_too_few_pairs_and_an_unknown_laboratory_are_refused():
    with pytest.raises(UsageError, match="pairs is 5; it must be at least 20"):
        PairsConfig(pairs=5)
    with pytest.raises(UsageError, match="there is no domain 'mars'"):
        ask_pairs(measure, PairsConfig(domain="mars"))
    with pytest.raises(UsageError, match="there is no attribute 'mood'; choose among: nucleus_lobes"):
        ask_pairs(measure, PairsConfig(attributes=("mood",)))

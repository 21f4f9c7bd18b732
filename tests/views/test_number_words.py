from __future__ import annotations

import math

import pandas as pd
import pytest

from cytosae.views.parts.number_words import THIN, duration, listed, number, percent, signed, two, whole
from cytosae.views.parts.page_parts import Number, say, table_of


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0"),
        (0.0123, "0.0123"),
        (12.0, "12.0"),
        (-0.5, "−0.500"),
        (12345.6, f"12{THIN}346"),
        (0.0000123, f"1.23{THIN}×{THIN}10⁻⁵"),
        (math.nan, "–"),
        (None, "–"),
    ],
)
def test_numbers_are_set_as_in_print(value, shown):
    assert number(value) == shown


def test_shares_counts_and_durations_are_set_as_in_print():
    assert [percent(v) for v in (0, 0.00001, -0.00001, 0.0027, 0.123, 1, -12.5)] == [
        f"0{THIN}%",
        f"<{THIN}0.01{THIN}%",
        f">{THIN}−0.01{THIN}%",
        f"0.27{THIN}%",
        f"12.3{THIN}%",
        f"100{THIN}%",
        f"−1{THIN}250{THIN}%",
    ]
    assert whole(1234567) == f"1{THIN}234{THIN}567"
    assert [duration(v) for v in (3.14, 61, 3700)] == [f"3.1{THIN}s", f"1{THIN}min 1{THIN}s", f"1{THIN}h 1{THIN}min"]


def test_numbers_are_signed_as_in_print():
    assert [signed(value) for value in (0.5, -0.5, 0.0, float("nan"))] == ["+0.500", "−0.500", "0", "–"]


def test_values_stand_with_their_interval_where_it_is_known():
    assert say(Number(0.84, 0.76, 0.91)) == "0.84 (0.76 to 0.91)"
    assert say(Number(-0.03, -0.16, None)) == "−0.03"
    assert [say(None), say(""), say("no"), say(0.5, "percent"), say(3, "count")] == ["–", "", "no", f"50.0{THIN}%", "3"]


def test_words_are_listed_as_in_a_sentence():
    assert [listed([]), listed(["a"]), listed(["a", "b"]), listed(["a", "b", "c"])] == [
        "",
        "a",
        "a and b",
        "a, b and c",
    ]


def test_a_frame_becomes_a_table_with_intervals_in_one_column():
    frame = pd.DataFrame(
        {"by": ["x", None], "n_cells": [3, 4], "share": [0.5, math.nan], "share_low": [0.25, math.nan]}
    )
    table = table_of(frame.assign(share_high=[0.75, math.nan]), strong=[False, True], families=["one", "one"])
    assert [(column.words, column.shown) for column in table.columns] == [
        ("by", "text"),
        ("n cells", "count"),
        ("share", "two"),
    ]
    assert [row.values for row in table.rows] == [("x", 3, Number(0.5, 0.25, 0.75)), ("", 4, Number(None))]
    assert [(row.strong, row.family) for row in table.rows] == [(False, "one"), (True, "")]
    assert table_of(pd.DataFrame()) is None


def test_two_places_and_no_zero_below_zero():
    assert [two(v) for v in (0.845, -0.004, -0.25, None, float("nan"))] == ["0.84", "0.00", "−0.25", "–", "–"]

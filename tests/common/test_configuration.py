from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cytosae.common.configuration import from_plain, replace_from_plain, to_plain
from cytosae.common.errors import UsageError


@dataclass(frozen=True)
class Ring:
    radius: float = 1.0


@dataclass(frozen=True)
class Box:
    sides: tuple[int, ...] = (1, 2)
    name: str | None = None


@dataclass(frozen=True)
class Config:
    shape: Ring | Box = field(default_factory=Ring)
    mode: Literal["fast", "exact"] = "fast"
    steps: int = 3
    out: Path | None = None


shapes = st.one_of(
    st.builds(Ring, st.floats(allow_nan=False)),
    st.builds(Box, st.lists(st.integers()).map(tuple), st.none() | st.text()),
)


@given(st.builds(Config, shapes, st.sampled_from(["fast", "exact"]), st.integers(), st.none() | st.just(Path("a/b"))))
def test_plain_values_bring_back_the_configuration(config):
    assert from_plain(Config, to_plain(config)) == config


def test_changes_reach_nested_fields_and_swap_types():
    config = Config(shape=Box(sides=(5,), name="n"))
    assert replace_from_plain(config, {"shape": {"name": "m"}}).shape == Box((5,), "m")
    assert replace_from_plain(config, {"shape": {"type": "Ring", "radius": 2}}).shape == Ring(2.0)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"stepz": 1}, r"study\.toml has no field 'stepz'; the fields are: mode, out, shape, steps\."),
        ({"steps": "many"}, r"study\.toml\.steps is 'many'; a value of type int is needed\."),
        ({"steps": True}, r"study\.toml\.steps is True; a value of type int"),
        ({"mode": "slow"}, r"study\.toml\.mode is 'slow'; choose one of: fast, exact\."),
        ({"shape": {"type": "Ball"}}, r"study\.toml\.shape has the type 'Ball'; choose one of: Ring, Box\."),
        ({"shape": {"type": "Box", "sides": 3}}, r"study\.toml\.shape\.sides is 3; a list is needed\."),
        ({"shape": 3}, r"study\.toml\.shape is 3; one of these types is needed: Ring, Box\."),
    ],
)
def test_wrong_values_name_their_place_and_the_mend(changes, sentence):
    with pytest.raises(UsageError, match=sentence):
        replace_from_plain(Config(), changes, where="study.toml")

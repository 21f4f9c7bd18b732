from __future__ import annotations

import json
import math
from typing import NotRequired, TypedDict

import pytest

from cytosae.common.errors import ArtifactError
from cytosae.common.records import read_record, reading, write_json


class Measured(TypedDict):
    name: str
    loss: float
    counts: dict[str, int]
    parts: list[str]
    more: NotRequired[float]


WHOLE = {"name": "a", "loss": 1, "counts": {"b": 2}, "parts": []}


def read(path, value):
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return read_record(Measured, path, "make it again")


def test_not_a_number_is_null_in_the_file_and_nan_again_in_the_record(tmp_path):
    write_json(tmp_path / "m.json", {**WHOLE, "loss": math.nan, "more": -math.inf, "parts": [(1.5, math.inf)]})
    text = (tmp_path / "m.json").read_text()
    assert json.loads(text, parse_constant=pytest.fail) == {**WHOLE, "loss": None, "more": None, "parts": [[1.5, None]]}
    write_json(tmp_path / "m.json", {**WHOLE, "loss": math.nan, "more": -math.inf})
    back = read_record(Measured, tmp_path / "m.json", "make it again")
    assert math.isnan(back["loss"])
    assert math.isnan(back.get("more", 0))


def test_what_a_newer_version_added_is_kept(tmp_path):
    assert read(tmp_path / "m.json", {**WHOLE, "colour": [1]}) == {**WHOLE, "colour": [1]}


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({k: v for k, v in WHOLE.items() if k != "counts"}, r"m has no 'counts'"),
        ({**WHOLE, "loss": "low"}, r"m\.loss is 'low'; a value of type float is needed"),
        ({**WHOLE, "name": None}, r"m\.name is None; a value of type str is needed"),
        ({**WHOLE, "counts": {"b": True}}, r"m\.counts\.b is True; a value of type int is needed"),
        ({**WHOLE, "counts": [1]}, r"m\.counts is \[1\]; a table is needed"),
        ({**WHOLE, "parts": {"a": "b"}}, r"m\.parts is \{'a': 'b'\}; a list is needed"),
        ({**WHOLE, "parts": ["x" * 1000, 3]}, r"m\.parts\[1\] is 3; a value of type str"),
        ([WHOLE], r"m is \[\{.{50,80}; a table is needed"),
        ("{", "Expecting property name"),
        ('{"name": "\xff"', "decode|Expecting"),
        ("[" * 100_000, "recursion"),
        ("[" * 500 + "]" * 500, "more than 100 levels of nesting"),
        ('{"loss": ' + "9" * 10_000 + "}", "digits"),
    ],
)
def test_what_is_no_such_record_is_refused_in_a_sentence_that_names_the_field(tmp_path, value, reason):
    with pytest.raises(ArtifactError, match=rf"m\.json cannot be read \(.*{reason}.*\); make it again\.$"):
        read(tmp_path / "m.json", value)


def test_a_file_that_is_not_there_is_a_sentence(tmp_path):
    with pytest.raises(ArtifactError, match=r"absent\.json cannot be read .*No such file.*; make it again\."):
        read_record(Measured, tmp_path / "absent.json", "make it again")


def test_a_failed_write_leaves_the_older_record(tmp_path):
    write_json(tmp_path / "m.json", WHOLE)
    with pytest.raises(TypeError):
        write_json(tmp_path / "m.json", {"no": object()})
    assert [path.name for path in tmp_path.iterdir()] == ["m.json"]
    assert read_record(dict, tmp_path / "m.json", "") == WHOLE


def test_whatever_a_foreign_reader_raises_is_one_sentence(tmp_path):
    table, mine = tmp_path / "table", ArtifactError("mine.")
    sentence = r"table cannot be read \(KeyError: 'x'\); make it again\."
    with pytest.raises(ArtifactError, match=sentence), reading(table, "make it again"):
        raise KeyError("x")
    with pytest.raises(ArtifactError) as caught, reading(table, "make it again"):
        raise mine
    assert caught.value is mine

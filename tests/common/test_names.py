from __future__ import annotations

import re

from hypothesis import example, given
from hypothesis import strategies as st

from cytosae.common.names import file_name, short_name


@given(st.sets(st.text(max_size=12), min_size=2, max_size=6))
@example({"FLT3+", "FLT3-", "FLT3", "FLT3_"})
@example({"白血病", "白血球", "", ".", ".."})
@example({"x" * 300, "x" * 301, "x" * 299 + "y"})
@example({"a+", file_name("a+")})
def test_two_names_never_share_a_file(names: set[str]) -> None:
    files = {file_name(name) for name in names}
    assert len(files) == len(names)
    for file in files:
        assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.~-]{0,99}", file)


def test_plain_names_stay() -> None:
    for name in ("control", "P007", "PML_RARA", "v1.2-b", "20190000"):
        assert file_name(name) == short_name(name) == name


@given(st.text(max_size=130))
def test_a_short_name_of_a_short_name_is_the_same(text: str) -> None:
    name = short_name(text)
    assert short_name(name) == name
    assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.~-]{0,99}", name)


def test_a_short_name_is_readable_where_it_can_be() -> None:
    assert short_name("my smears (2024)") == "my_smears_2024"
    assert short_name("白血病") == file_name("白血病")

"""Columns of tables: their names as they can be stored, and their values as text or as numbers that lose nothing."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd

_INVISIBLE = "\0\u00ad\u200b\u200e\u200f\u2060\ufeff"
"""What text may hold without anybody seeing it; a zero-width joiner is not among them, it has a meaning."""
_INTEGER = r"-?(0|[1-9][0-9]*)"
_NUMBER = rf"{_INTEGER}(\.[0-9]+)?([eE][-+][0-9]+)?|{_INTEGER}\.[0-9]+[eE][0-9]+"
_IDENTIFIES = frozenset(
    "id ids case sample slide smear specimen subject patient person donor accession code codes barcode mrn".split()  # noqa: SIM905
)
_RESERVED = frozenset({"_index", "__categories"})


def clean(text: str) -> str:
    """``text`` as it is meant: composed (NFC), without invisible characters, stripped."""
    return unicodedata.normalize("NFC", text.translate(dict.fromkeys(map(ord, _INVISIBLE)))).strip()


def text_of(column: Any, clean: Callable[[str], str] = clean) -> Any:
    """A column as clean text, empty text missing; whole floats, which pandas makes of integers with gaps, lose `.0`."""
    if pd.api.types.is_float_dtype(column.dtype):
        known = [None if pd.isna(value) else str(int(value) if value == value // 1 else value) for value in column]
        column = pd.Series(known, index=column.index, dtype=object)
    if column.dtype == object:
        column = column.map(lambda value: value.decode("utf-8", "backslashreplace") if type(value) is bytes else value)
    text = column.astype("string")
    text = text.map({value: clean(value) for value in text.dropna().unique()}, na_action="ignore").astype("string")
    return text.mask(text == "")


def written_twice(column: Any) -> list[str]:
    """A sentence where values differ only in what `clean` takes away, so that one name was written in two ways."""
    if column.dtype != object and not pd.api.types.is_string_dtype(column):
        return []
    texts = column.dropna().astype(str).str.strip().unique()
    twice = [text for text, count in Counter(map(clean, texts)).items() if text and count > 1]
    if not twice:
        return []
    what = f"{column.name} {twice[0]!r}" + (f" and {len(twice) - 1:,} more" if len(twice) > 1 else "")
    return [f"The {what} is written in two ways that look the same (Unicode forms, invisible signs), taken as one."]


def differing_in_case(column: Any) -> list[str]:
    """A sentence where two values differ in case only, which may be one name or two."""
    alike: dict[str, list[str]] = {}
    for text in column.dropna().unique():
        alike.setdefault(str(text).casefold(), []).append(str(text))
    pairs = [texts for texts in alike.values() if len(texts) > 1]
    more = f", and {len(pairs) - 1:,} more such" if len(pairs) > 1 else ""
    return [f"{a!r} and {b!r} in {column.name} differ in case only and count as two{more}." for a, b, *_ in pairs[:1]]


def typed(column: Any, *, comma: bool = False) -> Any:
    """Numbers where every value of a column of text is one and keeps all its digits; anything else stays text.

    `007`, `1E3` and numbers with more digits than a float keeps are text; so is a column that by its name holds
    identifiers, or in which two texts would become one number. The types are numpy's own where nothing is missing.

    Parameters
    ----------
    column : Series
        Text, or of a type already, which it keeps.
    comma : bool
        Whether `3,5` may be a number.
    """
    if column.dtype != object and not pd.api.types.is_string_dtype(column):
        return _without_needless_types(column)
    text = text_of(column)
    values = text.dropna()
    if not len(values) or _identifies(str(column.name)):
        return text
    # `1,250` alone may be a thousand, with `3,5` beside it no longer.
    comma = comma and not values.str.fullmatch(r"-?\d+(,\d{3})?").all()
    texts = {value: value.replace(",", ".", 1) if comma else value for value in values.unique()}
    if _all_match(_INTEGER, texts.values()) and all(abs(int(value)) < 2**63 for value in texts):
        numbers: dict[str, Any] = {value: int(value) for value in texts}
    elif _all_match(_NUMBER, texts.values()) and all(map(_keeps_digits, texts.values())):
        numbers = {value: float(written) for value, written in texts.items()}
    else:
        return text
    if len(set(numbers.values())) < len(texts):
        return text
    dtype = "Float64" if any(isinstance(number, float) for number in numbers.values()) else "Int64"
    found = pd.Series([numbers.get(value, pd.NA) for value in text], index=text.index, name=column.name, dtype=dtype)
    return _without_needless_types(found)


def of_objects(column: Any) -> Any:
    """A column of a spreadsheet: numbers or truth values where all of its cells are such, else text."""
    if column.dtype != object:
        return typed(column) if not pd.api.types.is_string_dtype(column) else text_of(column)
    kinds = {type(value) for value in column.dropna()}
    if kinds == {bool}:
        return _without_needless_types(column.astype("boolean"))
    if not kinds or not kinds <= {int, float} or _identifies(str(column.name)):
        return text_of(column)
    return _without_needless_types(column.astype("Int64" if kinds == {int} else "Float64"))


def storable_names(names: Iterable[object]) -> dict[object, str]:
    """Names that an AnnData file can hold, for those that it cannot: neither paths in it nor its own, and no two alike.

    Returns
    -------
    dict
        Old name -> new name, of those that change.
    """
    names = list(names)
    changed: dict[object, str] = {}
    taken = {name for name in names if isinstance(name, str)}
    for name in names:
        text = re.sub(r"[/\x00-\x1f\x7f]+", "_", str(name)).strip()[:200]
        if not text.strip(".") or text in _RESERVED:
            text = f"column{'' if text.startswith('_') else '_'}{text}".rstrip("_")
        if text == name:
            continue
        number, new = 2, text
        while new in taken:
            new, number = f"{text}_{number}", number + 1
        taken.add(new)
        changed[name] = new
    return changed


def _all_match(pattern: str, texts: Iterable[str]) -> bool:
    return all(re.fullmatch(pattern, text) for text in texts)


def _keeps_digits(text: str) -> bool:
    """Whether the float nearest to a number is that number, to as many digits as it is written with."""
    digits = len(re.sub(r"[eE].*|\D", "", text).lstrip("0"))
    return Decimal(text) == Decimal(f"{float(text):.{max(digits - 1, 0)}e}")


def _identifies(name: str) -> bool:
    """Whether a column's name ends in what identifies: `SampleID`, `case`, `slide_no`."""
    words = [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)]
    if len(words) > 1 and words[-1] in {"no", "nr", "num", "number"}:
        words.pop()
    return bool(words) and words[-1] in _IDENTIFIES


def _without_needless_types(column: Any) -> Any:
    """Plain numpy types, which every reader takes, where nothing is missing; whole floats with gaps as integers."""
    if pd.api.types.is_float_dtype(column.dtype) and (column.isna().any() or _identifies(str(column.name))):
        column = column.astype("float64")
        values = column.dropna()
        whole = len(values) > 0 and bool((np.mod(values, 1) == 0).all() and (values.abs() < 2**53).all())
        return column.astype("Int64") if whole else column
    numeric = pd.api.types.is_bool_dtype(column.dtype) or pd.api.types.is_numeric_dtype(column.dtype)
    nullable = numeric and pd.api.types.is_extension_array_dtype(column.dtype)
    return column.astype(column.dtype.numpy_dtype) if nullable and not column.isna().any() else column

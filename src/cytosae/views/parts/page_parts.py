"""What every page is made of, as plain data: sentences, numbers with their intervals and controls, tables.

No field holds NaN: what is not known is None, so that a view becomes strict JSON (`cytosae.common.configuration`).
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cytosae.views.parts.number_words import duration, fixed, number, p_value, percent, points, signed, two, whole

SHOWN: dict[str, Callable[[Any], str]] = {
    "text": str,
    "count": whole,
    "number": number,
    "signed": signed,
    "fixed": fixed,
    "two": two,
    "percent": percent,
    "points": points,
    "p": p_value,
    "seconds": duration,
    "bar": fixed,
}
"""How a number is printed, by name."""

Shown = Literal["text", "count", "number", "signed", "fixed", "two", "percent", "points", "p", "seconds", "bar"]


@dataclass(frozen=True)
class Number:
    """A measured value with the ends of its interval, None where they are not known."""

    value: float | None
    low: float | None = None
    high: float | None = None


def spread(values: Sequence[float] | NDArray[np.floating]) -> Number:
    """Median, least and most of values such as those of random latents."""
    return Number(float(np.median(values)), float(np.min(values)), float(np.max(values)))


Value = str | int | float | Number | None
"""What stands in a table or beside a name; None is shown as a dash."""


@dataclass(frozen=True)
class Fact:
    """A named value, and beside it its control where there is one: the same where nothing should be found."""

    words: str
    value: Value
    shown: Shown = "text"
    control: Value = None
    control_words: str = ""


@dataclass(frozen=True)
class Column:
    """A column of a table: its head, and how its numbers are printed."""

    words: str
    shown: Shown = "text"


@dataclass(frozen=True)
class Row:
    """One row; ``strong``: in bold; ``family``: a line above it, naming what follows."""

    values: tuple[Value, ...]
    strong: bool = False
    family: str = ""


@dataclass(frozen=True)
class Table:
    """A table."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    caption: str = ""


@dataclass(frozen=True)
class Definition:
    """A word of the page and what it means."""

    word: str
    meaning: str


@dataclass(frozen=True)
class MadeFrom:
    """An artifact that a page was made from."""

    name: str
    fingerprint: str


@dataclass(frozen=True)
class Head:
    """What a reader meets first: what it is, the finding in one sentence, what speaks against it, what is behind it."""

    kicker: str
    title: str
    byline: str
    verdict: str
    warnings: tuple[str, ...] = ()
    notice: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Page:
    """What every page has: its head, the few numbers that matter, words that are defined, what it was made from."""

    head: Head
    tiles: tuple[Fact, ...] = ()
    definitions: tuple[Definition, ...]
    made_from: tuple[MadeFrom, ...]


def known(value: Any) -> float | None:
    """A number that JSON can hold; None for NaN, infinity and NA."""
    return None if value is None or pd.isna(value) or not np.isfinite(value) else float(value)


def text(value: Any) -> str | None:
    """Words; None where they are missing."""
    return None if value is None or pd.isna(value) else str(value)


def measured(row: Any, name: str) -> Number:
    """``row[name]`` with ``name_low`` and ``name_high`` where it has them."""
    return Number(*(known(row.get(key)) for key in (name, f"{name}_low", f"{name}_high")))


def series(values: Iterable[Any], digits: int = 4) -> tuple[Any, ...]:
    """Numbers of a plot or map, to so many significant digits; None where one is not known."""
    return tuple(None if value is None else float(f"{value:.{digits}g}") for value in map(known, values))


def say(value: Value, shown: Shown = "two") -> str:
    """A value as it is printed, with its interval: 0.84 (0.76 to 0.91)."""
    if isinstance(value, Number):
        ends = (value.low, value.high)
        return say(value.value, shown) + ("" if None in ends else f" ({' to '.join(say(end, shown) for end in ends)})")
    if isinstance(value, str):
        return value
    return "–" if value is None else SHOWN[shown](value)


RANDOM = "random"
"""What a control is of, beside a figure of a latent: random weights, at the same activation frequency."""


def facts_of(
    row: Any, named: Mapping[str, tuple[str, Shown]], control: Callable[[str], float | None] = lambda _: None
) -> tuple[Fact, ...]:
    """What a row has of the named columns: column -> words, how it is printed; ``control``: of random latents."""
    return tuple(
        Fact(words, text(row.get(name)) if shown == "text" else known(row.get(name)), shown, control(name), RANDOM)
        for name, (words, shown) in named.items()
        if row.get(name) is not None
    )


def table_of(
    frame: pd.DataFrame | None,
    caption: str = "",
    *,
    shown: Mapping[str, Shown] | None = None,
    strong: Sequence[bool] | None = None,
    families: Sequence[str] | None = None,
) -> Table | None:
    """A frame as a table, None where it is empty; x with x_low and x_high is one column of numbers with intervals.

    ``shown`` says how columns are printed where it is not by what they hold; the family of a row is said where it
    changes.
    """
    if frame is None or frame.empty:
        return None
    names = [str(name) for name in frame.columns]
    bounds = {f"{name}_{end}" for name in names for end in ("low", "high") if f"{name}_low" in names}
    columns: dict[str, Shown] = {n: (shown or {}).get(n) or _shown(frame, n) for n in names if n not in bounds}
    rows, family = [], ""
    for i, row in enumerate(frame.to_dict("records")):
        begins = families is not None and families[i] != family
        family = families[i] if families is not None else ""
        values = tuple(_value(row, name, way) for name, way in columns.items())
        rows.append(Row(values, bool(strong[i]) if strong is not None else False, family if begins else ""))
    heads = tuple(Column(name.replace("_", " "), way) for name, way in columns.items())
    return Table(heads, tuple(rows), caption)


def define(*words: str, **filled: object) -> tuple[Definition, ...]:
    """What these words of ``definitions.toml`` mean, with what is ``filled`` in."""
    return tuple(Definition(word.split(":")[0], _meanings()[word].format(**filled)) for word in words)


def meaning_of(word: str) -> Definition | None:
    """What a word means, whatever its case; None where it is not defined, or where more has to be filled in."""
    return _by_word().get(word.casefold())


@cache
def _by_word() -> dict[str, Definition]:
    whole = {word: meaning for word, meaning in _meanings().items() if ":" not in word and "{" not in meaning}
    return {word.casefold(): Definition(word, meaning) for word, meaning in whole.items()}


def _shown(frame: pd.DataFrame, name: str) -> Shown:
    if f"{name}_low" in frame:
        return "two"
    if pd.api.types.is_integer_dtype(frame[name]):
        return "count"
    return "number" if pd.api.types.is_numeric_dtype(frame[name]) else "text"


def _value(row: Mapping[Any, Any], name: str, shown: Shown) -> Value:
    value = row[name]
    if isinstance(value, (Number, str)):
        return value
    if shown == "text":
        return text(value) or ""
    return measured(row, name) if f"{name}_low" in row else known(value)


@cache
def _meanings() -> dict[str, str]:
    return tomllib.loads(files("cytosae.views.parts").joinpath("definitions.toml").read_text(encoding="utf-8"))

"""Plots as plain series: points, lines, intervals and matrices with their words; how they are drawn is elsewhere.

``words`` is a plot's caption, which also stands for it where it cannot be seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cytosae.views.parts.page_parts import Number


@dataclass(frozen=True)
class Axis:
    """An axis: what it shows with its unit, whether it is logarithmic, and, for intervals, its two ends."""

    words: str
    log: bool = False
    reach: tuple[float, float] = (0.0, 1.0)


@dataclass(frozen=True)
class Scatter:
    """Latents as points, some of them ringed.

    ``colours`` : a third value of each; ``sides`` : 1 for and -1 against something that was found, 0 for neither.
    ``guide`` : a line to compare with, equal values or zero. ``level`` : the y from which on points are found.
    """

    words: str
    x: Axis
    y: Axis
    latents: tuple[int, ...]
    xs: tuple[float, ...]
    ys: tuple[float, ...]
    ringed: tuple[int, ...] = ()
    colours: tuple[float | None, ...] = ()
    colour_words: str = ""
    sides: tuple[int, ...] = ()
    guide: Literal["diagonal", "middle", "none"] = "none"
    level: float | None = None


@dataclass(frozen=True)
class Series:
    """One line of a chart; ``low`` and ``high`` are a band around it, or intervals of its points."""

    name: str
    xs: tuple[float, ...]
    ys: tuple[float, ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    drawn: Literal["line", "steps", "points", "ticks"] = "line"
    strong: bool = False


@dataclass(frozen=True)
class Chart:
    """Series over one axis; ``unit``: both axes from 0 to 1, with the diagonal; ``level``: a value to compare with."""

    words: str
    x: Axis
    y: Axis
    series: tuple[Series, ...]
    title: str = ""
    unit: bool = False
    level: float | None = None


@dataclass(frozen=True)
class IntervalRow:
    """One value with its interval, and its control."""

    name: str
    number: Number
    control: float | None = None
    strong: bool = False


@dataclass(frozen=True)
class IntervalPanel:
    """Values to compare; ``level``: one that none of them can pass, or that is chance."""

    title: str
    rows: tuple[IntervalRow, ...]
    level: float | None = None


@dataclass(frozen=True)
class Intervals:
    """Values with their intervals, in one panel or several side by side."""

    words: str
    x: Axis
    panels: tuple[IntervalPanel, ...]


@dataclass(frozen=True)
class Matrix:
    """A square of values between named things, those of one group side by side."""

    words: str
    names: tuple[str, ...]
    groups: tuple[str, ...]
    values: tuple[tuple[float | None, ...], ...]
    value_words: str


@dataclass(frozen=True)
class Bar:
    """One bar of a small bar chart."""

    name: str
    value: float | None


Plot = Scatter | Chart | Intervals | Matrix

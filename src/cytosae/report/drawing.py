"""Plots drawn by matplotlib from plain series."""

from __future__ import annotations

import base64
import io
from functools import singledispatch
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cytosae.report.colours import AGAINST, COLORMAP, FOR
from cytosae.views.parts.plots import Axis, Chart, IntervalPanel, Intervals, Matrix, Plot, Scatter, Series

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STRONG, QUIET, GUIDE, CHANCE = "#0b6e69", "#6b7280", "#999999", "#b35806"
OTHERS = ("#d9730d", "#14679e", "#8a5fb0", "#8c6d31", "#6b7280", "#b0356b", "#3b3b3b")
"""Colours of the series beside the strong one, in their order."""

DASHED = (0, (4, 3))
FEW_LINES = 3
"""More lines than these are named below the plot, where the names cover none of them."""
MANY_PANELS = 4
"""From so many panels side by side on, each has few ticks."""
MANY_POINTS = 2000
"""More points than these are drawn as pixels."""

STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 8.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.edgecolor": "#555555",
    "axes.labelcolor": "#222222",
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "svg.fonttype": "path",
    "svg.hashsalt": "cytosae",
}


def plot_uri(plot: Plot) -> tuple[str, int]:
    """``data:`` address of a plot as SVG, and its width in pixels."""
    with mpl.rc_context(STYLE):
        figure = draw(plot)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", facecolor="white", dpi=160, metadata={"Date": None, "Creator": None})
    uri = "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()
    return uri, round(96 * figure.get_figwidth())


@singledispatch
def draw(plot: Plot) -> Figure:
    """A plot as a figure."""
    raise TypeError(f"nothing draws a {type(plot).__name__}")


@draw.register
def _(plot: Scatter) -> Figure:
    if not plot.xs:
        return Figure(figsize=(4.7, 3.9))
    if plot.guide == "none":
        return _density(plot)
    figure = Figure(figsize=(4.7, 3.9), layout="constrained")
    axes = figure.subplots()
    x, y, sides = np.array(plot.xs), np.array(plot.ys), np.array(plot.sides or np.zeros(len(plot.xs)))
    for side, colour, size in ((0, "#a9b0b4", 6), (1, FOR, 14), (-1, AGAINST, 14)):
        here = sides == side
        axes.scatter(x[here], y[here], s=size, color=colour, linewidths=0, rasterized=bool(here.sum() > MANY_POINTS))
    _ring(axes, plot)
    _label(axes, plot.x, plot.y)
    if plot.guide == "middle":
        reach = 1.08 * max(float(np.abs(x).max()), 1e-9)
        axes.axvline(0, color=GUIDE, linewidth=0.7)
        axes.set_xlim(-reach, reach)
    else:
        ends = (min(x.min(), y.min()), max(x.max(), y.max()))
        axes.plot(ends, ends, color=GUIDE, linewidth=0.8, zorder=0)
    if plot.level is not None:
        axes.axhline(plot.level, color=GUIDE, linewidth=0.7, linestyle=DASHED)
    return figure


@draw.register
def _(plot: Chart) -> Figure:
    named = sum(line.drawn in ("line", "steps") for line in plot.series)
    below = 0.17 * -(-named // 2) if named > FEW_LINES else 0.0
    figure = Figure(figsize=(4.0, 3.7) if plot.unit else (4.6, 2.7 + below), layout="constrained")
    axes = figure.subplots()
    if plot.unit:
        axes.plot([0, 1], [0, 1], color=GUIDE, linewidth=0.8, linestyle=DASHED)
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.04, 1.04), aspect="equal")
    else:
        shares = max((x for line in plot.series for x in line.xs), default=0) <= 1
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=not shares))
    others = iter(OTHERS * (1 + len(plot.series) // len(OTHERS)))
    for line in plot.series:
        _draw_series(
            axes, line, STRONG if line.strong else QUIET if line.low or line.drawn == "ticks" else next(others)
        )
    if plot.level is not None:
        axes.axhline(plot.level, color=CHANCE, linewidth=0.8, linestyle=DASHED)
    axes.set_title(plot.title, fontsize=9, loc="left", fontweight="bold")
    _label(axes, plot.x, plot.y)
    if below and not plot.unit:
        figure.legend(frameon=False, fontsize=7, loc="outside lower center", ncols=2)
    elif named > 1:
        axes.legend(frameon=False, fontsize=7, loc="lower right" if plot.unit else "best")
    return figure


@draw.register
def _(plot: Intervals) -> Figure:
    tallest = max((len(panel.rows) for panel in plot.panels), default=1)
    width = 6.6 if len(plot.panels) == 1 else max(7.4, 2.4 + 1.5 * len(plot.panels))
    figure = Figure(figsize=(width, 0.7 + 0.32 * tallest), layout="constrained")
    panels = figure.subplots(1, len(plot.panels), sharex=True, squeeze=False)[0]
    same = len({tuple(row.name for row in panel.rows) for panel in plot.panels}) == 1
    for axes, panel in zip(panels, plot.panels, strict=True):
        _draw_intervals(axes, panel)
        axes.set_xlim(plot.x.reach)
        axes.locator_params(axis="x", nbins=6 if len(plot.panels) < MANY_PANELS else 3)
        axes.set_xlabel(plot.x.words)
        if same and axes is not panels[0]:
            axes.set_yticklabels([])
    return figure


@draw.register
def _(plot: Matrix) -> Figure:
    values = np.array(plot.values, dtype=np.float64)
    off = np.abs(values[~np.eye(len(values), dtype=bool)])
    reach = max(float(np.nanquantile(off, 0.98)), 1e-6) if len(off) else 1.0
    figure = Figure(figsize=(5.8, 4.6), layout="constrained")
    axes = figure.subplots()
    drawn = axes.imshow(values, cmap="PuOr_r", vmin=-reach, vmax=reach, interpolation="nearest")
    names, starts, counts = np.unique(plot.groups, return_index=True, return_counts=True)
    for start in starts[1:]:
        axes.axhline(start - 0.5, color="#222222", linewidth=1.0)
        axes.axvline(start - 0.5, color="#222222", linewidth=1.0)
    middles = starts + counts / 2 - 0.5
    axes.set_xticks(middles, names, rotation=30 if len(names) > 3 else 0, ha="right" if len(names) > 3 else "center")
    axes.set_yticks(middles, names)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(drawn, ax=axes, shrink=0.8, aspect=28)
    bar.set_label(plot.value_words)
    bar.outline.set_visible(False)
    return figure


def _density(plot: Scatter) -> Figure:
    """Hexagonal bins on logarithmic axes, coloured by the mean of a third value, with a histogram at each margin."""
    figure = Figure(figsize=(6.6, 4.3), layout="constrained")
    grid = figure.add_gridspec(2, 2, width_ratios=[1, 0.19], height_ratios=[0.14, 1], wspace=0.02, hspace=0.02)
    main = figure.add_subplot(grid[1, 0])
    above, beside = figure.add_subplot(grid[0, 0], sharex=main), figure.add_subplot(grid[1, 1], sharey=main)
    x, y = np.array(plot.xs), np.array(plot.ys)
    colours = np.array(plot.colours, dtype=np.float64) if plot.colours else None
    drawn = main.hexbin(
        x, y, C=colours, reduce_C_function=_mean, gridsize=(46, 24), xscale="log", yscale="log", mincnt=1,
        bins=None if plot.colours else "log", cmap=COLORMAP, linewidths=0.2,
    )  # fmt: skip
    _ring(main, plot)
    _label(main, plot.x, plot.y)
    above.hist(x, bins=_edges(x), color="#9a9a9a")
    beside.hist(y, bins=_edges(y), color="#9a9a9a", orientation="horizontal")
    for panel in (above, beside):
        panel.axis("off")
    bar = figure.colorbar(drawn, ax=beside, fraction=0.3, pad=0.15, aspect=32, shrink=0.9)
    bar.set_label(plot.colour_words or "latents in a bin")
    bar.outline.set_visible(False)
    return figure


def _mean(values: Any) -> float:
    known = np.asarray(values)[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")


def _edges(values: np.ndarray) -> list[float]:
    return np.geomspace(values.min() / 1.01, values.max() * 1.01, 51).tolist()


def _ring(axes: Axes, plot: Scatter) -> None:
    ringed = np.isin(plot.latents, plot.ringed)
    at = (np.array(plot.xs)[ringed], np.array(plot.ys)[ringed])
    axes.scatter(*at, s=30, facecolors="none", edgecolors="#111111", linewidths=0.8, zorder=3)


def _label(axes: Axes, x: Axis, y: Axis) -> None:
    axes.set(xlabel=x.words, ylabel=y.words)
    if x.log:
        axes.set_xscale("log")
    if y.log:
        axes.set_yscale("log")


def _draw_series(axes: Axes, line: Series, colour: str) -> None:
    width = 2.2 if line.strong else 1.1
    if line.drawn == "ticks":
        axes.plot(line.xs, line.ys, "|", color=colour)
    elif line.drawn == "points":
        below, over = np.array(line.ys) - line.low, np.array(line.high) - line.ys
        axes.errorbar(line.xs, line.ys, yerr=np.abs([below, over]), fmt="o", color=colour, markersize=5, linewidth=1.4)
    else:
        if line.low:
            axes.fill_between(line.xs, line.low, line.high, color="#c9ced1", linewidth=0, alpha=0.7)
        style = "steps-post" if line.drawn == "steps" else "default"
        axes.plot(line.xs, line.ys, drawstyle=style, color=colour, linewidth=width, label=line.name)


def _draw_intervals(axes: Axes, panel: IntervalPanel) -> None:
    rows = panel.rows[::-1]
    for y, row in enumerate(rows):
        colour = STRONG if row.strong else "#555555"
        value, low, high = row.number.value, row.number.low, row.number.high
        if low is not None and high is not None:
            axes.plot([low, high], [y, y], color=colour, linewidth=1.6, solid_capstyle="round")
        if value is not None:
            axes.plot(value, y, "o", color=colour, markersize=5)
        if row.control is not None:
            axes.plot(row.control, y, "|", color=CHANCE, markersize=9, markeredgewidth=1.4)
    if panel.level is not None:
        axes.axvline(panel.level, color=GUIDE, linewidth=0.8, linestyle=DASHED)
    axes.set_yticks(range(len(rows)), [row.name for row in rows])
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.set_title(panel.title, fontsize=9, loc="left", fontweight="bold")

"""What the pages about patients draw: contrasts, curves, matrices and signed maps. Arrays in, pictures out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from PIL import Image
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform

from cytosae.report.figures import STYLE, svg_uri

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from cytosae.cohort.explanation.faithfulness import Curve

FOR, AGAINST = "#d9730d", "#14679e"
"""Speaks for and against; apart in any colour vision, and neither is a colour of the stains."""

GROUPS = ("#d9730d", "#14679e", "#2a8c6a", "#8a5fb0", "#8c6d31", "#6b7280", "#b0356b", "#3b3b3b")
"""Colours of the classes, in their order."""


def signed_overlay(picture: NDArray[np.uint8], contributions: NDArray[np.floating], top: float) -> NDArray[np.uint8]:
    """Contributions of patches over a greyed picture: one colour for, one against, opaque with their size.

    Parameters
    ----------
    picture : [S, S, 3] uint8
    contributions : [side, side], any sign
    top : size of full colour, > 0

    Returns
    -------
    [S, S, 3] uint8
    """
    size = (picture.shape[1], picture.shape[0])
    grid = np.asarray(contributions, dtype=np.float32)
    smooth = np.asarray(Image.fromarray(grid).resize(size, Image.Resampling.BILINEAR))
    share = np.clip(smooth / top, -1, 1)[..., None] if top > 0 else np.zeros((*picture.shape[:2], 1), np.float32)
    grey = (picture.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32))[..., None]
    base = 255 - 0.62 * (255 - grey)
    colour = 255 * np.where(share > 0, np.array(to_rgb(FOR)), np.array(to_rgb(AGAINST)))
    alpha = 0.9 * np.abs(share) ** 0.6
    return np.clip((1 - alpha) * base + alpha * colour, 0, 255).astype(np.uint8)


def signed_bar(value: float, largest: float, *, width: int = 132) -> Markup:
    """A bar to the right (for) or left (against) of a middle line, as an inline SVG; ``largest`` fills its half."""
    half = width / 2
    length = half * min(abs(value) / largest, 1.0) if largest > 0 and np.isfinite(value) else 0.0
    x = half if value >= 0 else half - length
    kind = "for" if value >= 0 else "against"
    return Markup(
        '<svg class="bar" viewBox="0 0 {w} 12" width="{w}" height="12" aria-hidden="true">'
        '<rect class="{kind}" x="{x:.2f}" y="1.5" width="{length:.2f}" height="9"/>'
        '<line x1="{half}" x2="{half}" y1="0" y2="12"/></svg>'
    ).format(w=width, kind=kind, x=x, length=length, half=half)


def volcano(
    effect: NDArray[np.floating], p: NDArray[np.floating], q: NDArray[np.floating], ringed: Sequence[bool],
    *, names: tuple[str, str], level: float = 0.05, label: str = "effect size",
) -> str:  # fmt: skip
    """Effect size against -log10 p of every latent; those whose q is at most ``level`` are coloured by direction.

    ``names`` : (group with the higher values on the right, on the left). ``ringed`` : [m], the concepts shown.
    """
    found = np.isfinite(effect) & np.isfinite(p)
    x, y = effect[found], -np.log10(np.maximum(p[found], 1e-300))
    certain = q[found] <= level
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.9, 3.9), layout="constrained")
        axes = figure.subplots()
        axes.scatter(x[~certain], y[~certain], s=7, color="#b3b8bb", linewidths=0)
        for side, colour in ((x > 0, FOR), (x <= 0, AGAINST)):
            axes.scatter(x[certain & side], y[certain & side], s=12, color=colour, linewidths=0)
        rings = np.asarray(ringed, dtype=bool)[found]
        axes.scatter(x[rings], y[rings], s=34, facecolors="none", edgecolors="#111111", linewidths=0.8)
        axes.axvline(0, color="#999999", linewidth=0.7)
        if certain.any():
            axes.axhline(float(y[certain].min()), color="#999999", linewidth=0.7, linestyle=(0, (4, 3)))
        reach = 1.08 * max(float(np.abs(x).max(initial=0)), 1e-9)
        axes.set_xlim(-reach, reach)
        axes.set_xlabel(f"{label}: lower  ←  in {names[0]}  →  higher")
        axes.set_ylabel("−log₁₀ p")
        return svg_uri(figure)


def diagonal(
    first: NDArray[np.floating], second: NDArray[np.floating], ringed: Sequence[bool], *, names: tuple[str, str],
    unit: str,
) -> str:  # fmt: skip
    """Disease barcodes against each other, latent by latent, on logarithmic axes; ``names`` of (x, y)."""
    positive = np.concatenate([first[first > 0], second[second > 0]])
    floor = float(positive.min()) / 2 if len(positive) else 1e-6
    x, y = np.maximum(first, floor), np.maximum(second, floor)
    shown = (first > 0) | (second > 0)
    rings = np.asarray(ringed, dtype=bool)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.3, 3.9), layout="constrained")
        axes = figure.subplots()
        axes.plot([floor, x.max(initial=floor)], [floor, x.max(initial=floor)], color="#999999", linewidth=0.8)
        plain = shown & ~rings
        axes.scatter(x[plain], y[plain], s=6, color="#9aa3a8", alpha=0.6, linewidths=0)
        for side, colour in ((y > x, FOR), (y <= x, AGAINST)):
            chosen = shown & rings & side
            axes.scatter(x[chosen], y[chosen], s=22, color=colour, edgecolors="#111111", linewidths=0.6)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel(f"{names[0]}, {unit}")
        axes.set_ylabel(f"{names[1]}, {unit}")
        return svg_uri(figure)


def correlation_matrix(correlation: NDArray[np.floating], groups: Sequence[str]) -> str:
    """Correlation of patients [P, P], patients ordered by group and within it by similarity."""
    groups = [str(group) for group in groups]
    names = sorted(set(groups))
    matrix = np.nan_to_num(np.asarray(correlation, dtype=np.float64))
    order = np.concatenate([_by_similarity(matrix, [i for i, g in enumerate(groups) if g == name]) for name in names])
    matrix = matrix[np.ix_(order, order)]
    off = matrix[~np.eye(len(matrix), dtype=bool)]
    reach = float(np.quantile(np.abs(off), 0.98)) if len(off) else 1.0
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5.2, 4.4), layout="constrained")
        axes = figure.subplots()
        drawn = axes.imshow(
            matrix, cmap="PuOr_r", vmin=-max(reach, 1e-6), vmax=max(reach, 1e-6), interpolation="nearest"
        )
        ends = np.cumsum([groups.count(name) for name in names])
        for end in ends[:-1]:
            axes.axhline(end - 0.5, color="#222222", linewidth=1.0)
            axes.axvline(end - 0.5, color="#222222", linewidth=1.0)
        middles = ends - np.array([groups.count(name) for name in names]) / 2 - 0.5
        axes.set_xticks(middles, names)
        axes.set_yticks(middles, names)
        axes.tick_params(length=0)
        for spine in axes.spines.values():
            spine.set_visible(False)
        bar = figure.colorbar(drawn, ax=axes, shrink=0.8, aspect=28)
        bar.set_label("correlation of barcodes")
        bar.outline.set_visible(False)
        return svg_uri(figure)


def roc_plot(curves: Mapping[str, tuple[NDArray[np.floating], NDArray[np.floating]]]) -> str:
    """Receiver operating characteristics: name -> (false positive rate, true positive rate); the first stands out."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.0, 3.7), layout="constrained")
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color="#999999", linewidth=0.8, linestyle=(0, (4, 3)))
        for i, (name, (x, y)) in enumerate(curves.items()):
            style: Any = {"color": "#0b6e69", "linewidth": 2.2, "zorder": 3} if i == 0 else {"linewidth": 1.1}
            if i:
                style["color"] = GROUPS[(i - 1) % len(GROUPS)]
            axes.step(x, y, where="post", label=name, **style)
        axes.set_xlim(-0.01, 1.01)
        axes.set_ylim(-0.01, 1.01)
        axes.set_aspect("equal")
        axes.set_xlabel("1 − specificity")
        axes.set_ylabel("sensitivity")
        axes.legend(frameon=False, fontsize=7, loc="lower right")
        return svg_uri(figure)


def reliability_plot(
    bins: pd.DataFrame, truth: NDArray[np.bool_], probability: NDArray[np.floating], *, name: str
) -> str:
    """Observed share of ``name`` against the predicted probability, with intervals; patients are marks at the edges.

    Parameters
    ----------
    bins : columns predicted, observed, low, high
    truth, probability : [P], of the patients
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.0, 3.7), layout="constrained")
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color="#999999", linewidth=0.8, linestyle=(0, (4, 3)))
        for _, row in bins.iterrows():
            axes.plot([row["predicted"]] * 2, [row["low"], row["high"]], color="#0b6e69", linewidth=1.4)
            axes.plot(row["predicted"], row["observed"], "o", color="#0b6e69", markersize=5)
        for value, edge in ((True, 1.0), (False, 0.0)):
            axes.plot(probability[truth == value], np.full((truth == value).sum(), edge), "|", color="#777777")
        axes.set_xlim(-0.02, 1.02)
        axes.set_ylim(-0.04, 1.04)
        axes.set_aspect("equal")
        axes.set_xlabel(f"predicted probability of {name}")
        axes.set_ylabel(f"observed share of {name}")
        return svg_uri(figure)


def curves_plot(curves: Sequence[Curve], *, target: str, threshold: float | None = 0.0) -> str:
    """Deletion and insertion side by side: the ordered curve, the mean of random orders and their band.

    ``threshold`` : where the decision changes, None where there is no such value.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.5 * len(curves), 2.7), layout="constrained")
        panels = figure.subplots(1, len(curves), sharey=True, squeeze=False)[0]
        for panel, curve in zip(panels, curves, strict=True):
            _draw_curve(panel, curve, threshold)
        panels[0].set_ylabel(f"decision for {target}")
        panels[0].legend(frameon=False, fontsize=7.5)
        return svg_uri(figure)


def _draw_curve(panel: Axes, curve: Curve, threshold: float | None) -> None:
    panel.fill_between(curve.steps, curve.random_low, curve.random_high, color="#c9ced1", linewidth=0, alpha=0.7)
    panel.plot(curve.steps, curve.random_mean, color="#6b7280", linewidth=1.2, label="random order")
    panel.plot(curve.steps, curve.values, color="#0b6e69", linewidth=2, label="by contribution")
    if threshold is not None:
        panel.axhline(threshold, color="#b35806", linewidth=0.8, linestyle=(0, (4, 3)))
    panel.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    panel.set_title(f"{curve.mode.capitalize()} of {curve.what}", fontsize=9, loc="left", fontweight="bold")
    panel.set_xlabel(f"{curve.what} {'taken away' if curve.mode == 'deletion' else 'put in'}")


def _by_similarity(matrix: NDArray[np.float64], rows: list[int]) -> NDArray[np.intp]:
    """Rows in the order of the leaves of average linkage on 1 - correlation."""
    if len(rows) < 3:
        return np.array(rows, dtype=np.intp)
    distance = np.clip(1 - matrix[np.ix_(rows, rows)], 0, None)
    np.fill_diagonal(distance, 0)
    leaves = leaves_list(linkage(squareform((distance + distance.T) / 2, checks=False), "average"))
    return np.array(rows, dtype=np.intp)[leaves]

"""What the report draws: thumbnails, overlaid maps, class profiles and plots. Arrays in, pictures out."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any
from xml.sax.saxutils import escape

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

COLORMAP = "viridis"
"""Perceptually uniform, readable with any colour vision, and far from the purple and pink of the stains."""

THUMBNAIL = 128
"""Pixels on a side; shown at about 80, so that print and dense screens stay sharp."""

SMALL = 80
"""Pixels on a side of the cells shown of other data sets."""

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


def thumbnail(image: NDArray[np.uint8], size: int = THUMBNAIL) -> NDArray[np.uint8]:
    """[size, size, 3] uint8; the whole image, scaled as for the backbone (no crop), so that maps fit on it."""
    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.LANCZOS))


def overlay(picture: NDArray[np.uint8], concept_map: NDArray[np.float32], top: float) -> NDArray[np.uint8]:
    """A map over a greyed and paled picture: colour and opacity rise with the activation.

    Parameters
    ----------
    picture : [S, S, 3] uint8
    concept_map : [side, side] activations >= 0
    top : activation of full colour, > 0

    Returns
    -------
    [S, S, 3] uint8
    """
    size = (picture.shape[1], picture.shape[0])
    smooth = np.asarray(Image.fromarray(concept_map.astype(np.float32)).resize(size, Image.Resampling.BILINEAR))
    share = np.clip(smooth / top, 0, 1)[..., None] if top > 0 else np.zeros((*picture.shape[:2], 1), np.float32)
    grey = (picture.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32))[..., None]
    # Paled, so that even the dark end of the colour scale stands out from a dark nucleus.
    base = 255 - 0.62 * (255 - grey)
    colour = mpl.colormaps[COLORMAP](share[..., 0])[..., :3].astype(np.float32) * 255
    alpha = 0.92 * share**0.6
    return np.clip((1 - alpha) * base + alpha * colour, 0, 255).astype(np.uint8)


def outline(picture: NDArray[np.uint8], structure: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """``picture`` [S, S, 3] with the edge of ``structure`` [H, W] (any size, scaled to it) drawn in orange."""
    size = (picture.shape[1], picture.shape[0])
    inside = np.asarray(Image.fromarray(structure).resize(size, Image.Resampling.NEAREST))
    padded = np.pad(inside, 1, mode="edge")
    interior = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    drawn = picture.copy()
    drawn[inside & ~interior] = (224, 94, 20)
    return drawn


def picture_uri(picture: NDArray[np.uint8], quality: int = 74) -> str:
    """``data:`` address of a small picture (WebP)."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "WEBP", quality=quality, method=4)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def colour_bar_uri() -> str:
    """``data:`` address of the colour scale of the maps as they appear over a mid-grey cell."""
    ramp = np.tile(np.linspace(0, 1, 128, dtype=np.float32), (12, 1))
    return picture_uri(overlay(np.full((12, 128, 3), 190, np.uint8), ramp, 1.0), quality=90)


def class_profile(names: Sequence[str], means: Sequence[float], *, width: int = 230, most: int = 8) -> str:
    """Bars of the mean activation per class, largest first, as an inline SVG; classes beyond ``most`` are summed up.

    Text takes the colour of its surroundings, so that it is readable on a light and on a dark page.
    """
    order = sorted(range(len(names)), key=lambda i: (-np.nan_to_num(means[i]), names[i]))
    top = max([float(np.nan_to_num(means[i])) for i in order], default=0.0)
    row, left = 15, 104
    lines = []
    for place, i in enumerate(order[:most]):
        value = float(np.nan_to_num(means[i]))
        length = (width - left - 4) * value / top if top > 0 else 0.0
        y = place * row
        name = names[i] if len(names[i]) <= 18 else names[i][:17] + "…"
        kind = "bar first" if place == 0 and value > 0 else "bar"
        lines.append(
            f'<text x="{left - 6}" y="{y + 11}" text-anchor="end">{escape(name)}</text>'
            f'<rect class="{kind}" x="{left}" y="{y + 2.5}" width="{max(length, 0.8):.1f}" height="10"/>'
        )
    rest = len(order) - most
    if rest > 0:
        lines.append(f'<text x="{left}" y="{most * row + 11}">and {rest} with less</text>')
    height = row * (min(len(order), most) + (rest > 0)) + 2
    spoken = ", ".join(f"{names[i]} {float(np.nan_to_num(means[i])):.2g}" for i in order[:most])
    title = escape(f"Mean activation per class: {spoken}", {'"': "&quot;"})
    return (
        f'<svg class="profile" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        f'aria-label="{title}">{"".join(lines)}</svg>'
    )


def frequency_plot(var: pd.DataFrame, chosen: Sequence[str], max_entropy: float) -> str:
    """Density of latents over activation frequency and mean activation, coloured by label entropy; ``data:`` SVG.

    Parameters
    ----------
    var : latents of one atlas
    chosen : index values of the latents in the gallery, ringed
    max_entropy : upper end of the colour scale, nats
    """
    alive = pd.DataFrame(var[(var["cells_active"] > 0) & (var["mean_activation"] > 0)])
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.6, 4.3), layout="constrained")
        if len(alive):
            _draw_density(figure, alive, chosen, max_entropy)
        return svg_uri(figure)


def interval_plot(table: pd.DataFrame, ceiling: dict[str, float]) -> str:
    """IoU of each family with its interval, chance and the ceiling of whole patches, a panel per structure; SVG."""
    structures = list(dict.fromkeys(table["structure"]))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.4, 2.0), layout="constrained")
        axes = figure.subplots(1, len(structures), sharex=True, squeeze=False)[0]
        for panel, structure in zip(axes, structures, strict=True):
            rows = table[table["structure"] == structure].iloc[::-1].reset_index(drop=True)
            for y, row in rows.iterrows():
                mine = row["family"] == "SAE latent"
                colour = "#0b6e69" if mine else "#555555"
                panel.plot([row["low"], row["high"]], [y, y], color=colour, linewidth=1.6, solid_capstyle="round")
                panel.plot(row["iou"], y, "o", color=colour, markersize=5)
                panel.plot(row["chance"], y, "|", color="#b35806", markersize=9, markeredgewidth=1.4)
            panel.axvline(ceiling[structure], color="#999999", linewidth=0.8, linestyle=(0, (4, 3)))
            panel.set_yticks(range(len(rows)), list(rows["family"]))
            panel.set_ylim(-0.6, len(rows) - 0.4)
            panel.set_xlim(0, 1)
            panel.set_xlabel("IoU on held-out cells")
            panel.set_title(structure, fontsize=9, loc="left", fontweight="bold")
        return svg_uri(figure)


def _draw_density(figure: Figure, alive: pd.DataFrame, chosen: Sequence[str], max_entropy: float) -> None:
    x, y = (np.log10(alive[name].to_numpy(float)) for name in ("activation_frequency", "mean_activation"))
    entropy = alive["label_entropy"].to_numpy(float)
    labelled = bool(np.isfinite(entropy).any())
    grid = figure.add_gridspec(2, 2, width_ratios=[1, 0.19], height_ratios=[0.14, 1], wspace=0.02, hspace=0.02)
    main = figure.add_subplot(grid[1, 0])
    above, beside = figure.add_subplot(grid[0, 0], sharex=main), figure.add_subplot(grid[1, 1], sharey=main)
    centres, counts, colours = _bins(x, y, entropy)
    size = 5 + 34 * np.sqrt(counts / counts.max())
    kind = {"c": colours, "cmap": COLORMAP, "vmin": 0, "vmax": max_entropy} if labelled else {"color": "#3b6ea5"}
    drawn = main.scatter(centres[:, 0], centres[:, 1], s=size, marker="h", linewidths=0, **kind)  # type: ignore[arg-type]
    ringed = alive.index.isin([str(latent) for latent in chosen])
    main.scatter(x[ringed], y[ringed], s=26, facecolors="none", edgecolors="#111111", linewidths=0.8)
    for axis, values in ((main.xaxis, x), (main.yaxis, y)):
        axis.set_ticks(*_log_ticks(float(values.min()), float(values.max())))
    main.set_xlabel("activation frequency (share of cells)")
    main.set_ylabel("mean activation (cells on which it is active)")
    above.hist(x, bins=50, color="#9a9a9a")
    beside.hist(y, bins=50, color="#9a9a9a", orientation="horizontal")
    for panel in (above, beside):
        panel.axis("off")
    if labelled:
        bar = figure.colorbar(drawn, ax=beside, fraction=0.3, pad=0.15, aspect=32, shrink=0.9)
        bar.set_label("label entropy (nats, mean of bin)")
        bar.outline.set_visible(False)


def _log_ticks(low: float, high: float) -> tuple[list[float], list[str]]:
    """Places (log10) and labels: powers of ten, with 2 and 5 between them where the range is short."""
    steps = (1, 2, 5) if high - low < 2 else (1,)
    powers = range(int(np.floor(low)), int(np.ceil(high)) + 1)
    ticks = [(float(np.log10(step) + power), step, power) for power in powers for step in steps]
    ticks = [tick for tick in ticks if low - 0.05 <= tick[0] <= high + 0.05]
    times = {1: "", 2: "2\\cdot", 5: "5\\cdot"}
    labels = [f"{step * 10.0**p:g}" if p >= -3 else f"${times[step]}10^{{{p}}}$" for _, step, p in ticks]
    return [place for place, _, _ in ticks], labels


def _bins(x: NDArray[np.float64], y: NDArray[np.float64], z: NDArray[np.float64], n: int = 48) -> tuple[NDArray, ...]:
    """Centres [b, 2], counts [b] and mean z [b] of the filled bins of a hexagonal grid."""
    step_x, step_y = (max(np.ptp(v), 1e-6) / n for v in (x, y * 1.0))
    step_y *= 1.4
    row = np.round((y - y.min()) / step_y).astype(int)
    shift = 0.5 * (row % 2)
    column = np.round((x - x.min()) / step_x - shift).astype(int)
    frame = pd.DataFrame({"row": row, "column": column, "z": z})
    grouped = frame.groupby(["row", "column"])["z"].agg(["size", "mean"]).reset_index()
    centre_x = x.min() + (grouped["column"] + 0.5 * (grouped["row"] % 2)) * step_x
    centre_y = y.min() + grouped["row"] * step_y
    return np.column_stack([centre_x, centre_y]), grouped["size"].to_numpy(), grouped["mean"].to_numpy()


def svg_uri(figure: Figure) -> str:
    """A figure as a ``data:`` address of an SVG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", facecolor="white", metadata={"Date": None, "Creator": None})
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()

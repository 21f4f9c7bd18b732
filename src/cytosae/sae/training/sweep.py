"""What a sweep over SAEs leaves: a table and a plot of explained variance against L0."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from cytosae.common.errors import UsageError
from cytosae.sae.model.autoencoder import SparseAutoencoder
from cytosae.sae.training.metrics import Metrics

CURVES = {
    "explained_variance": "explained variance",
    "explained_variance_after_position": "… of what position means leave",
    "explained_variance_whitened": "… in whitened units",
}


def write_sweep(out: str | Path, saes: Mapping[str, SparseAutoencoder], metrics: Sequence[Metrics]) -> pd.DataFrame:
    """Write ``sweep.csv``, ``sweep.png`` and ``sweep.svg`` into the folder ``out``.

    Parameters
    ----------
    saes : mapping of str to SparseAutoencoder
        Name -> trained SAE.
    metrics : sequence of Metrics
        Of each, in the same order, measured on the same tokens.

    Returns
    -------
    DataFrame
        The table: one row an SAE, with name, d_sae, sparsity, its parameters, normalisation and all `Metrics`.
    """
    if len(saes) != len(metrics) or not saes:
        raise UsageError(f"a sweep needs the metrics of each of its SAEs, not {len(metrics)} for {len(saes)}.")
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    table = pd.DataFrame(
        [_row(name, *pair) for name, pair in zip(saes, zip(saes.values(), metrics, strict=True), strict=True)]
    )
    table = table.sort_values(["sparsity", "d_sae", "l0"], kind="stable", ignore_index=True)
    table.to_csv(out / "sweep.csv", index=False)
    _plot(table, out)
    return table


def _row(name: str, sae: SparseAutoencoder, metrics: Metrics) -> dict[str, Any]:
    sparsity = {key: str(v) if isinstance(v, tuple) else v for key, v in asdict(sae.sparsity).items()}
    return {
        "name": name,
        "d_sae": sae.d_sae,
        "sparsity": type(sae.sparsity).__name__,
        **sparsity,
        "normalisation": type(sae.normalisation).__name__,
        "seed": sae.seed,
        **asdict(metrics),
    }


def _plot(table: pd.DataFrame, out: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(CURVES), sharex=True)
    for axis, (column, title) in zip(axes, CURVES.items(), strict=True):
        for label, part in table.groupby(table["sparsity"] + table["d_sae"].map(", {:,} latents".format), sort=False):
            axis.plot(part["l0"], part[column], marker="o", markersize=4, label=label)
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("L0 (active latents a token)")
        axis.grid(visible=True, alpha=0.3)
        if (table["l0"] > 0).all() and table["l0"].max() > 4 * table["l0"].min():
            axis.set_xscale("log", base=2)
            axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes[0].set_ylabel("share")
    axes[-1].legend(fontsize=8, loc="lower right")
    for suffix in ("png", "svg"):
        figure.savefig(out / f"sweep.{suffix}", dpi=150)

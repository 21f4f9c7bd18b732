"""How long, how sparse, how wide, normalised how, and why latents fall silent: the default recipe, one thing changed.

    python benchmarks/recipe_size.py --data DATA --out runs/recipe_size

SAEs are trained on the tokens (bundled backbone) of `acevedo_more` and measured on those of `acevedo`, which they have
not seen:

* `silent`: latents active on none of 32,768 tokens; `frequency`: median share of cells on which a latent is active;
* EV: explained variance, relative to the mean token;
* type entropy: mean entropy (nats) of the cell types among reference cells, at equal activation frequency: the mean
  over the bins in which every SAE of the table has latents enough, all bins alike;
* IoU of the best latent with masks of nucleus and cytoplasm, and AUC in the human attributes of the best latent and of
  a linear probe, as in `recipes.py`; and
* active: latents active on a tenth of the tokens or more, and their share of all activity.

With `--random`, an SAE with random weights is measured for each k as well. Prints a Markdown table for each question.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from recipes import measure

from cytosae import build_atlas, extract, load_backbone, load_sae, read_cells
from cytosae.cells import CellTable
from cytosae.sae import RECIPES, PositionMean, Recipe, SparseAutoencoder, TopK, Trainer, Whitening, save_sae
from cytosae.sae.model.randomised import randomised
from cytosae.sae.training.dead_latents import auxk_loss
from cytosae.tokens import ReaderConfig, TokenReader, TokenStore

EDGES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.01)
"""Bins of activation frequency, the share of cells on which a latent is active."""
LEAST = 10
"""Latents that a bin needs of every SAE of a table."""
OFTEN = 0.1
"""Share of tokens from which a latent counts as active everywhere."""


@dataclass(frozen=True)
class FadingTopK(TopK):
    """TopK whose term for dead latents is in the tokens' units, so that it fades as the reconstruction improves."""

    def auxiliary(self, sae: Any, x: torch.Tensor, residual: torch.Tensor, dead: torch.Tensor | None) -> torch.Tensor:
        """The term without the ratio of tokens to residual by which it is weighted otherwise."""
        if dead is None:
            return x.new_zeros(())
        return self.aux_coefficient * auxk_loss(sae, x, -residual, dead, self.aux_k)


def changed(sparsity: TopK | None = None, train: Mapping[str, Any] | None = None, **recipe: Any) -> Recipe:
    """The default recipe, some of it changed."""
    default = RECIPES["default"]
    return replace(
        default, sparsity=sparsity or default.sparsity, train=replace(default.train, **(train or {})), **recipe
    )


SHORT: Mapping[str, Any] = {"steps": 1500, "batch_tokens": 1024}
"""Trainings that ask why latents fall silent; long enough for it, and a third of the tokens of the others."""
QUESTIONS: Mapping[str, Mapping[str, Recipe]] = {
    "steps": {f"{steps:,} steps": changed(train={"steps": steps}) for steps in (250, 1000, 4000)},
    "k": {f"k = {k}": changed(TopK(k, 64)) for k in (8, 16, 32, 64)},
    "width": {f"m = {e} d": changed(expansion=e) for e in (4, 16, 32)},
    "normalisation": {
        "mean norm": changed(),
        "position means out": changed(normalisation=PositionMean()),
        "whitened": changed(normalisation=Whitening()),
    },
    "silent": {
        "as it is (window 32, coefficient 1/32)": changed(train=SHORT),
        "no term for dead latents": changed(TopK(32, 0), SHORT),
        "window 200": changed(train={**SHORT, "dead_window": 200}),
        "term in the tokens' units": changed(FadingTopK(32, 64), SHORT),
        "term in the tokens' units, window 200": changed(FadingTopK(32, 64), {**SHORT, "dead_window": 200}),
        "learning rate 3e-4": changed(train={**SHORT, "learning_rate": 3e-4}),
    },
}


def main() -> None:
    """Train what was not trained yet, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=Path("runs/recipe_size"), help="folder for tokens and SAEs")
    parser.add_argument("--questions", nargs="*", choices=list(QUESTIONS), default=list(QUESTIONS))
    parser.add_argument("--random", action="store_true", help="measure SAEs with random weights as well")
    options = parser.parse_args()
    backbone = load_backbone("tiny")
    names = ("acevedo_more", "acevedo", "tecom_wbc", "cellavision_wbc")
    cells = {name: read_cells(options.data / name, name=name) for name in names}
    stores = {name: extract(table, backbone, options.out / "tokens" / name) for name, table in cells.items()}
    masked = [(stores[name], cells[name]) for name in names[2:]]
    measured: dict[Recipe, dict[str, Any]] = {}
    for question in options.questions:
        rows = {}
        for name, recipe in QUESTIONS[question].items():
            if recipe not in measured:
                sae, seconds = trained(recipe, stores["acevedo_more"], options.out / "saes")
                measured[recipe] = of_sae(sae, stores["acevedo"], cells["acevedo"], masked, options.data) | seconds
            rows[name] = measured[recipe]
            print(name, {k: v for k, v in rows[name].items() if k != "purity"}, flush=True)
            if options.random and question == "k":
                control = randomised(trained(recipe, stores["acevedo_more"], options.out / "saes")[0])
                rows[f"{name}, random weights"] = of_sae(
                    control, stores["acevedo"], cells["acevedo"], masked, options.data
                )
        print(f"\n{table(rows)}\n", flush=True)


def trained(recipe: Recipe, store: TokenStore, folder: Path) -> tuple[SparseAutoencoder, dict[str, Any]]:
    """The SAE of a recipe, from the folder where it was trained before; seconds a step."""
    sparsity = recipe.sparsity
    train = recipe.train
    numbers = [*vars(sparsity).values(), train.steps, train.batch_tokens, train.dead_window, train.learning_rate]
    kinds = [type(sparsity).__name__, f"{recipe.expansion}d"]
    if recipe.normalisation != RECIPES["default"].normalisation:
        kinds.append(type(recipe.normalisation).__name__)
    place = folder / "-".join([*kinds, *(f"{number:g}" for number in numbers)])
    if not place.is_dir():
        sae = recipe.build(store.width)
        start = time.perf_counter()
        Trainer(sae, recipe.train).fit(TokenReader([store], ReaderConfig(batch_tokens=recipe.train.batch_tokens)))
        if isinstance(sparsity, FadingTopK):
            sae.sparsity = TopK(*vars(sparsity).values())  # what it does after training is the same
        save_sae(sae.eval(), place)
        (place.parent / f"{place.name}.json").write_text(json.dumps(time.perf_counter() - start))
    seconds = json.loads((place.parent / f"{place.name}.json").read_text())
    return load_sae(place), {"s a step": seconds / recipe.train.steps}


def of_sae(
    sae: SparseAutoencoder,
    store: TokenStore,
    cells: CellTable,
    masked: list[tuple[TokenStore, CellTable]],
    data: Path,
) -> dict[str, Any]:
    """Every figure of one SAE on cells that it has not seen."""
    atlas = build_atlas(sae, store, cells, tau=0.0)
    frequency = atlas.var["activation_frequency"].to_numpy(float)
    found = measure(sae, store, cells, masked, data)
    return {
        "L0": found["L0"],
        "silent": found["dead"],
        "frequency": float(np.median(frequency)),
        "EV": found["EV"],
        "purity": (frequency, atlas.var["label_entropy"].to_numpy(float)),
        **{name: found[name] for name in ("nucleus IoU", "cytoplasm IoU", "best latent AUC", "linear AUC")},
        **everywhere(sae, store),
    }


def everywhere(sae: SparseAutoencoder, store: TokenStore) -> dict[str, float]:
    """How many latents are active on a tenth of all tokens, and which share of the activity is theirs."""
    counts, n = np.zeros(sae.d_sae), 0
    reader = TokenReader([store], ReaderConfig(memory_bytes=0))
    for x in reader.sample(1 << 15, 0).tokens.split(4096):
        counts += np.bincount(sae.encode_sparse(x).col_indices().numpy(), minlength=sae.d_sae)
        n += len(x)
    often = counts > OFTEN * n
    return {"everywhere": int(often.sum()), "of all activity": float(counts[often].sum() / counts.sum())}


def table(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """Markdown, with label entropy at equal frequency in the bins that all rows have."""
    entropies = equal_frequency({name: row["purity"] for name, row in rows.items()})
    shown = {name: {**row, "type entropy": entropies[name]} for name, row in rows.items()}
    columns = [c for c in next(iter(shown.values())) if c != "purity"]
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name, row in shown.items():
        cells = [
            f"{row[c]:.4f}"
            if c == "frequency"
            else f"{row[c]:.3f}"
            if isinstance(row.get(c), float)
            else str(row.get(c, ""))
            for c in columns
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def equal_frequency(purity: Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]]) -> dict[str, float]:
    """Mean entropy over the bins of frequency in which every SAE has latents, all bins alike."""
    bins: dict[str, list[NDArray[np.float64]]] = {}
    for name, (frequency, entropy) in purity.items():
        place = np.digitize(frequency, EDGES)
        bins[name] = [entropy[(place == b) & np.isfinite(entropy)] for b in range(1, len(EDGES))]
    common = [b for b in range(len(EDGES) - 1) if min(len(of[b]) for of in bins.values()) >= LEAST]
    return {name: float(np.mean([of[b].mean() for b in common])) if common else np.nan for name, of in bins.items()}


if __name__ == "__main__":
    main()

"""What an SAE finds that is trained on all tokens, on those of the cell, or on those of its nucleus.

    python benchmarks/focus_default.py --data DATA --out focus_default

For each focus an SAE is trained by the default recipe (the same number of steps) on the cells of `acevedo`, and an
atlas is made; beside it stands the same SAE with random weights and the same focus. Printed are, as they come and as a
table at the end:

* IoU of the best single latent's map with masks of nucleus and cytoplasm (`tecom_wbc`, `cellavision_wbc`, over the
  whole image; latent and threshold chosen on half of the cells, measured on the other),
* label entropy of the latents' reference cells, in equal bins of activation frequency,
* AUROC of the best single latent for each cell type and each value of an attribute given by people (chosen on half of
  the cells, measured on the other; mean over them),
* dead latents, size of the atlas, and seconds of training and of making the atlas,
* where concepts look (`cytosae.atlas.where_it_looks`): the share of the activation that goes with what the map marks,
  and with as many random patches of the cell and of the image.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from numpy.typing import NDArray

from cytosae.atlas import (
    GazeConfig,
    LocalisationConfig,
    localisation,
    open_atlas,
    reference_table,
    where_it_looks,
    write_atlas,
)
from cytosae.backbones import load_backbone
from cytosae.cells import CellTable, load_image, read_cells
from cytosae.evaluation.unit_scores import aucs
from cytosae.sae import RECIPES, SparseAutoencoder, Trainer, choose_tau
from cytosae.sae.model.randomised import randomised
from cytosae.tokens import (
    FocusedStore,
    ReaderConfig,
    TokenReader,
    TokenStore,
    extract,
    find_tokens_in_focus,
)

MASKED = ("tecom_wbc", "cellavision_wbc")
BINS = (0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8)
FEWEST_LATENTS, FEWEST_CELLS = 10, 50
GAZED, GAZED_CELLS = 12, 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--steps", type=int, default=RECIPES["default"].train.steps, help="training steps")
    parser.add_argument("--cells", type=int, default=None, help="cells of acevedo, evenly spread; all by default")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    backbone = load_backbone("tiny")
    cells = {name: read_cells(options.data / name) for name in ("acevedo", *MASKED)}
    if options.cells is not None:
        spread = np.unique(np.linspace(0, len(cells["acevedo"]) - 1, options.cells).astype(int))
        cells["acevedo"] = cells["acevedo"].subset(spread)
    stores = {name: extract(table, backbone, options.out / "tokens" / name) for name, table in cells.items()}
    targets = targets_of(cells["acevedo"], stores["acevedo"], options.data / "acevedo" / "attributes.csv")
    rows = []
    for focus in ("all", "cell", "nucleus"):
        store = stores["acevedo"]
        if focus != "all":
            store = FocusedStore(store, find_tokens_in_focus(cells["acevedo"], focus, store.grid))
        sae, seconds = train(store, options.steps, options.seed)
        for name, one in (("learned", sae), ("random weights", randomised(sae, options.seed).eval())):
            row: dict[str, Any] = {"focus": focus, "weights": name, "training s": seconds if one is sae else np.nan}
            atlas, of_atlas = make_atlas(one, store, cells["acevedo"], options.out / f"{focus}.h5ad")
            row |= of_atlas | measure_latents(atlas, targets)
            row |= measure_maps(one, [(stores[n], cells[n]) for n in MASKED])
            row |= measure_gaze(one, atlas, store, cells["acevedo"], backbone)
            rows.append(row)
            print(row, flush=True)
    table = pd.DataFrame(rows)
    table.to_csv(options.out / "focus_default.csv", index=False)
    print_table(table)


def train(store: TokenStore, steps: int, seed: int) -> tuple[SparseAutoencoder, float]:
    recipe = RECIPES["default"]
    config = replace(recipe.train, steps=steps, seed=seed)
    sae = recipe.build(store.width, seed=seed)
    start = time.perf_counter()
    Trainer(sae, config).fit(TokenReader([store], ReaderConfig(batch_tokens=config.batch_tokens, seed=seed)))
    return sae.eval(), time.perf_counter() - start


def make_atlas(
    sae: SparseAutoencoder, store: TokenStore, cells: CellTable, path: Path
) -> tuple[AnnData, dict[str, float]]:
    reader = TokenReader([store], ReaderConfig(memory_bytes=0))
    tau = choose_tau(sae, [reader.sample(1 << 15, 0)])
    start = time.perf_counter()
    write_atlas(path, sae, store, cells, tau=tau)
    seconds = time.perf_counter() - start
    atlas = open_atlas(path)
    return atlas, {
        "atlas s": seconds,
        "atlas MB": path.stat().st_size / 1e6,
        "dead": float((atlas.var["cells_active"] == 0).mean()),
        "active latents a cell": float(np.diff(atlas.X.indptr).mean()),
    }


def measure_latents(atlas: AnnData, targets: dict[str, NDArray[Any]]) -> dict[str, float]:
    frequency, found = atlas.var["activation_frequency"].to_numpy(), {}
    for low, high in pairwise(BINS):
        entropy = atlas.var["label_entropy"].to_numpy()[(frequency >= low) & (frequency < high)]
        entropy = entropy[np.isfinite(entropy)]
        found[f"entropy {low:g}-{high:g}"] = float(entropy.mean()) if len(entropy) >= FEWEST_LATENTS else np.nan
    scores = best_latents(atlas.X.toarray(), targets)
    for kind in ("label", "attribute"):
        found[f"AUROC {kind}"] = float(np.mean([score for name, score in scores.items() if name.startswith(kind)]))
    return found


def targets_of(cells: CellTable, store: TokenStore, attributes: Path) -> dict[str, NDArray[Any]]:
    """Name -> for each cell of the store 1, 0, or NaN where nobody said."""
    frame = cells.frame.set_index("cell_id").loc[list(store.cell_ids)]
    found = {f"label {name}": (frame["label"] == name).to_numpy(float) for name in cells.labels}
    said = pd.read_csv(attributes)
    said.index = pd.Index([Path(name).name for name in said.iloc[:, 0].astype(str)])
    said = said[~said.index.duplicated()].reindex([Path(name).name for name in frame["image"]])
    for column in [name for name in said.columns[1:] if said[name].nunique() <= FEWEST_LATENTS]:
        for value, count in said[column].value_counts().items():
            if FEWEST_CELLS <= count <= said[column].notna().sum() - FEWEST_CELLS:
                known = said[column].notna().to_numpy()
                found[f"attribute {column} {value}"] = np.where(known, (said[column] == value).to_numpy(float), np.nan)
    return found


def best_latents(activations: NDArray[np.float32], targets: dict[str, NDArray[Any]]) -> dict[str, float]:
    """AUROC on one half of the cells of the latent that is best on the other, either sign."""
    half = np.random.default_rng(0).random(len(activations)) < 0.5
    found = {}
    for name, target in targets.items():
        search, test = (np.flatnonzero(part & np.isfinite(target)) for part in (half, ~half))
        aurocs = aucs(activations[search], target[search] > 0)
        best = int(np.abs(aurocs - 0.5).argmax())
        held_out = float(aucs(activations[test][:, [best]], target[test] > 0)[0])
        found[name] = held_out if aurocs[best] >= 0.5 else 1 - held_out
    return found


def measure_maps(sae: SparseAutoencoder, sources: list[tuple[TokenStore, CellTable]]) -> dict[str, float]:
    found = localisation(sae, sources, config=LocalisationConfig(bootstrap=200, permutations=2)).table
    latents = found[found["family"].str.startswith("SAE")]
    return {f"IoU {row.structure}": float(row.iou) for row in latents.itertuples()}


def measure_gaze(
    sae: SparseAutoencoder, atlas: AnnData, store: TokenStore, cells: CellTable, backbone: Any
) -> dict[str, float]:
    """Of some latents of middling frequency, on their first reference cells."""

    def encode(images: Any) -> torch.Tensor:
        with torch.no_grad():
            return backbone(backbone.prepare(images)).float()

    frequency = atlas.var["activation_frequency"].to_numpy()
    usable = np.flatnonzero((frequency > 0.02) & (frequency < 0.3))
    shares: list[tuple[float, float, float, float]] = []
    place = cells.frame.reset_index(drop=True).reset_index().set_index("cell_id")["index"]
    row_of = {cell: row for row, cell in enumerate(store.cell_ids)}
    for latent in np.random.default_rng(0).permutation(usable)[:GAZED]:
        ids = list(reference_table(atlas, int(latent)).index[:GAZED_CELLS])
        images = [np.asarray(load_image(cells.image_path(int(place[cell])))) for cell in ids]
        counted = None if store.counted is None else store.counted[[row_of[cell] for cell in ids]]
        for gaze in where_it_looks(
            images, int(latent), sae=sae, encode=encode, counted=counted, config=GazeConfig(draws=2)
        ):
            in_cell = float(gaze.in_cell.mean()) if len(gaze.in_cell) else np.nan
            shares.append((gaze.marked, float(gaze.random.mean()), in_cell, gaze.left))
    names = ("goes with the marked", "with random patches", "with patches of the cell", "left with the marked alone")
    return dict(zip(names, np.nanmedian(np.array(shares), axis=0).tolist(), strict=True)) if shares else {}


def print_table(table: pd.DataFrame) -> None:
    bins = [name for name in table.columns if name.startswith("entropy")]
    known = table[bins].notna().all()
    table = table.assign(**{"label entropy": table[[name for name in bins if known[name]]].mean(axis=1)})
    print(f"\nlabel entropy over the bins of frequency {[name[8:] for name in bins if known[name]]}")
    shown = table.drop(columns=bins).set_index(["focus", "weights"]).T
    print("| | " + " | ".join(f"{focus}, {weights}" for focus, weights in shown.columns) + " |")
    print("|---" * (len(shown.columns) + 1) + "|")
    for name, values in shown.iterrows():
        print(f"| {name} | " + " | ".join(f"{float(value):.3g}" for value in values) + " |")


if __name__ == "__main__":
    main()

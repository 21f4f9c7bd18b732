"""Beside the published model, on the same Acevedo images: `python benchmarks/published.py --data DATA ...`.

    python benchmarks/published.py --data DATA --reference REFERENCE --out runs/published

An SAE is trained by the default recipe on the tokens (bundled backbone) of all Acevedo cells at hand; its reference
cells are put beside those that the published statistics name for each of 49,152 latents (`acevedo_order.csv` says which
file is image k), and beside those of the same SAE with random weights:

* entropy of the cell types (13) among a latent's reference cells, as published; and
* agreement of the reference cells in each of the eleven human attributes (WBCAtt), above chance: the share of pairs of
  a latent's annotated reference cells that have the same value, 0 for random annotated cells and 1 for perfect
  agreement.

With `--study`, a finished study's tokens and SAE are taken instead (its cells with Acevedo's file names).

Both also at equal activation frequency: a mean of every bin of the published model's frequencies in which all three
have latents, the bins weighted as the published latents that are in them. Intervals are of 500 resamples of latents
within bins; they hold for other latents of the same SAEs, not for other SAEs. Prints Markdown tables.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from cytosae import SparseAutoencoder, Study, build_atlas, extract, load_backbone, load_sae, read_cells
from cytosae.atlas import label_entropy
from cytosae.cells import CellTable
from cytosae.sae import RECIPES, Trainer, save_sae
from cytosae.sae.model.randomised import randomised
from cytosae.tokens import ReaderConfig, TokenReader, TokenStore

EDGES = np.array([0, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0001])
"""Bins of activation frequency, the share of cells on which a latent is active."""
LEAST = 20
"""Latents that a bin needs of every model."""
PAIRED = 4
"""Annotated reference cells that a latent needs for its agreement to count."""


@dataclass(frozen=True)
class References:
    """What is compared of one model.

    Attributes
    ----------
    files : ndarray of str, shape (m, k)
        Reference cells by the names under which Acevedo's images were published; "" where there is none.
    values : ndarray of float, shape (m, k)
        Their mean activations.
    frequency : ndarray of float, shape (m,)
        Share of all cells on which the latent is active.
    """

    files: NDArray[np.str_]
    values: NDArray[np.float64]
    frequency: NDArray[np.float64]


def main() -> None:
    """Train where that was not done, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds acevedo/ and acevedo_more/")
    parser.add_argument("--reference", type=Path, required=True, help="folder of acevedo_order.csv and the statistics")
    parser.add_argument("--out", type=Path, default=Path("runs/published"), help="folder for tokens and SAE")
    parser.add_argument("--study", type=Path, help="take tokens and SAE of this study of Acevedo's cells")
    options = parser.parse_args()
    order = pd.read_csv(options.reference / "acevedo_order.csv")
    table = attribute_table(options.data)
    models = {
        "published": published(options.reference / "official_feature_data" / "acevedo", order),
        **(of_study(options.study) if options.study else ours(options.data, order, options.out)),
    }
    types = dict(zip(order["file"], order["class"], strict=True))
    measures = {"type entropy (nats)": {name: type_entropy(model, types) for name, model in models.items()}}
    for attribute in table:
        known = table[attribute].dropna().to_dict()
        measures[attribute.replace("_", " ")] = {name: agreement(m, known) for name, m in models.items()}
    print(purity_table(measures["type entropy (nats)"], models), "\n")
    print(matched_table(measures, models))


def published(folder: Path, order: pd.DataFrame) -> References:
    """The published model's latents, from its authors' statistics."""

    def read(name: str) -> NDArray[np.float64]:
        return torch.load(folder / name, map_location="cpu", weights_only=True).double().numpy()

    values = read("max_activating_image_values.pt")
    file_of = order.set_index("shuffled_index")["file"].to_dict()
    numbers = read("max_activating_image_indices.pt").astype(int)
    files = np.array([[file_of.get(i, "") for i in row] for row in numbers])
    return References(np.where(values > 0, files, ""), values, read("sae_sparsity.pt"))


def acevedo_manifest(data: Path, order: pd.DataFrame, out: Path) -> pd.DataFrame:
    """Write a manifest of all Acevedo cells at hand, with the 13 types; by image below ``data`` its published name."""
    first = sorted((data / "acevedo" / "PBC_dataset_normal_DIB").glob("*/*.jpg"))
    more = pd.read_csv(data / "acevedo_more" / "manifest.csv")
    paths = [*first, *(data / "acevedo_more" / image for image in more["image"])]
    cells = pd.DataFrame(
        {"image": [str(p.resolve()) for p in paths], "file": [*(p.name for p in first), *more["original"]]}
    )
    cells["label"] = cells["file"].map(order.set_index("file")["class"])
    out.mkdir(parents=True, exist_ok=True)
    cells[["image", "label"]].to_csv(out / "manifest.csv", index=False)
    return cells.set_index(cells["image"].map(lambda image: Path(image).relative_to(data.resolve()).as_posix()))


def attribute_table(data: Path) -> pd.DataFrame:
    """The eleven attributes of every annotated cell at hand, by the published file name."""
    first = pd.read_csv(data / "acevedo" / "attributes.csv").drop(columns="label")
    first.index = first.pop("image").map(lambda image: Path(image).name)
    more = pd.read_csv(data / "acevedo_more" / "manifest.csv").set_index("original").drop(columns=["image", "label"])
    table = pd.concat([first, more.dropna(how="all")])
    return table[~table.index.duplicated()]


def ours(data: Path, order: pd.DataFrame, out: Path) -> dict[str, References]:
    """Reference cells of an SAE by the default recipe, and of the same one with random weights."""
    names = acevedo_manifest(data, order, out)["file"]
    cells = read_cells(out / "manifest.csv", name="acevedo_all", images_root=data.resolve())
    backbone, recipe = load_backbone("tiny"), RECIPES["default"]
    store = extract(cells, backbone, out / "tokens")
    if not (out / "sae").is_dir():
        sae = recipe.build(backbone.width)
        Trainer(sae, recipe.train).fit(TokenReader([store], ReaderConfig(batch_tokens=recipe.train.batch_tokens)))
        save_sae(sae.eval(), out / "sae")
    file_of = [names[image] for image in store_images(cells, store)]
    return with_control(load_sae(out / "sae"), store, cells, file_of)


def of_study(place: Path) -> dict[str, References]:
    """The same from a finished study whose cells have the published file names."""
    study = Study(place)
    name = study.config.datasets[0].name
    cells, store = study.cells(name), study.tokens(name)
    return with_control(study.sae(), store, cells, [Path(image).name for image in store_images(cells, store)])


def store_images(cells: CellTable, store: TokenStore) -> list[str]:
    """Images of a token store's cells, in its order."""
    images = cells.frame.set_index("cell_id")["image"]
    images = images[~images.index.duplicated()]
    return [str(images[cell]) for cell in store.cell_ids]


def with_control(
    trained: SparseAutoencoder, store: TokenStore, cells: CellTable, files: list[str]
) -> dict[str, References]:
    """Reference cells of an SAE, and of the same one with random weights."""
    found = {}
    for name, sae in (("cytosae tiny", trained), ("random weights", randomised(trained))):
        atlas = build_atlas(sae, store, cells, tau=0.0)
        reference = atlas.uns["reference_cells"]
        rows, values = np.asarray(reference["rows"]), np.asarray(reference["values"], dtype=float)
        frequency = atlas.var["activation_frequency"].to_numpy(float)
        found[name] = References(np.array([*files, ""])[rows], values, frequency)
    return found


def type_entropy(model: References, types: dict[str, str]) -> NDArray[np.float64]:
    """Entropy (m,) of the types of reference cells, in nats; NaN for latents without any."""
    return label_entropy(model.values, codes(model.files, types), len(set(types.values())))


def agreement(model: References, known: dict[str, str]) -> NDArray[np.float64]:
    """Agreement (m,) above chance of a latent's annotated reference cells; NaN where they are fewer than `PAIRED`."""
    values = codes(model.files, known)
    kinds = range(len(set(known.values())))
    counts = np.stack([(values == kind).sum(1) for kind in kinds], 1)
    n = counts.sum(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        same = (counts * (counts - 1)).sum(1) / (n * (n - 1))
    shares = np.bincount(codes(np.array(list(known)), known), minlength=len(kinds)) / len(known)
    chance = float((shares**2).sum())
    return np.where(n >= PAIRED, (same - chance) / (1 - chance), np.nan)


def codes(files: NDArray[np.str_], known: dict[str, str]) -> NDArray[np.int64]:
    """Number of each file's value, -1 where it has none."""
    number = {kind: i for i, kind in enumerate(sorted(set(known.values())))}
    return np.vectorize(lambda file: number[known[file]] if file in known else -1, otypes=[np.int64])(files)


def at_equal_frequency(
    measure: dict[str, NDArray[np.float64]], frequency: dict[str, NDArray[np.float64]], first: str
) -> dict[str, tuple[float, float, float]]:
    """Mean and interval of every model's measure, over bins of frequency weighted as the latents of `first` are."""
    bins = {name: np.digitize(frequency[name], EDGES) for name in measure}
    usable = {name: ~np.isnan(measure[name]) & (frequency[name] > 0) for name in measure}
    members = {
        b: {name: measure[name][usable[name] & (bins[name] == b)] for name in measure} for b in range(1, len(EDGES))
    }
    common = [b for b, of in members.items() if min(map(len, of.values())) >= LEAST]
    if not common:
        return dict.fromkeys(measure, (np.nan, np.nan, np.nan))
    weights = np.array([len(members[b][first]) for b in common], dtype=float)
    weights /= weights.sum()
    rng = np.random.default_rng(0)
    found = {}
    for name in measure:
        parts = [members[b][name] for b in common]
        draws = [sum(w * rng.choice(p, len(p)).mean() for w, p in zip(weights, parts, strict=True)) for _ in range(500)]
        mean = float(sum(w * p.mean() for w, p in zip(weights, parts, strict=True)))
        found[name] = (mean, *map(float, np.quantile(draws, [0.025, 0.975])))
    return found


def purity_table(entropy: dict[str, NDArray[np.float64]], models: dict[str, References]) -> str:
    """Entropies as they are, without regard to frequency."""
    lines = [
        "| latents of | active | median frequency | median type entropy | below 1.0 | below 0.5 |",
        "|---|---|---|---|---|---|",
    ]
    for name, values in entropy.items():
        known = values[~np.isnan(values)]
        frequency = np.median(models[name].frequency[models[name].frequency > 0])
        lines.append(
            f"| {name} | {len(known):,} of {len(values):,} | {frequency:.4f} | {np.median(known):.2f} | "
            f"{(known < 1.0).mean():.0%} | {(known < 0.5).mean():.0%} |"
        )
    return "\n".join(lines)


def matched_table(measures: dict[str, dict[str, NDArray[np.float64]]], models: dict[str, References]) -> str:
    """Every measure at equal activation frequency."""
    names = list(models)
    lines = ["| at equal frequency | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    frequency = {name: model.frequency for name, model in models.items()}
    for title, measure in measures.items():
        found = at_equal_frequency(measure, frequency, names[0])
        cells = [f"{mean:.3f} ({low:.3f} to {high:.3f})" for mean, low, high in found.values()]
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()

"""How well the central cell is found from the image alone, against masks by people, and where it is not.

    python benchmarks/focus.py --data DATA --out focus

Of every data set below --data: the share of images in which a cell is found and the share of the image that it covers,
by label; where cells have masks, the IoU of cell and nucleus, the share of the masked nucleus that the found cell
catches, and the cells of which less than half is right. Written are `focus.csv` (one row a cell) and an overlay page
of each data set (`<name>.png`: image, and the outlines of the found cell in green, of its nucleus in yellow, of the
mask in magenta; the worst first where there are masks).
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from cytosae.cells import CellTable, load_image, load_mask, read_cells
from cytosae.cells.decoding.masks import NUCLEUS
from cytosae.cells.focus.cell_mask import find_cell
from cytosae.cells.focus.painting import leave_alone, paint_out

SETS = ("tecom_wbc", "cellavision_wbc", "acevedo", "apl_cohort", "bccd_cells")
TILE = 128


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--images", type=int, default=600, help="images of each data set, drawn at random")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    rows = []
    for name in SETS:
        cells = read_cells(options.data / name)
        chosen = np.sort(np.random.default_rng(0).permutation(len(cells))[: options.images])
        rows.append(found := pd.DataFrame([measure(cells, int(row)) for row in chosen]).assign(dataset=name))
        order = found.sort_values(by="cell IoU")["row"] if found["cell IoU"].notna().any() else chosen
        write_overlays(cells, [int(row) for row in order[:40]], options.out / f"{name}.png")
    table = pd.concat(rows, ignore_index=True)
    table.to_csv(options.out / "focus.csv", index=False)
    print_tables(table)


def measure(cells: CellTable, row: int) -> dict[str, object]:
    image = np.asarray(load_image(cells.image_path(row)))
    start = time.perf_counter()
    found = find_cell(image)
    facts = {"row": row, "image": str(cells.frame["image"].iat[row]), "label": cells.frame["label"].iat[row]}
    facts |= {
        "found": bool(found.any()),
        "share": float((found > 0).mean()),
        "ms": 1000 * (time.perf_counter() - start),
    }
    path = cells.mask_path(row)
    scores = (np.nan,) * 3
    if path is not None:
        mask = load_mask(path)
        nucleus = mask == NUCLEUS
        caught = float((found[nucleus] > 0).mean()) if nucleus.any() else np.nan
        scores = (iou(found > 0, mask > 0), iou(found == NUCLEUS, nucleus), caught)
    return facts | dict(zip(("cell IoU", "nucleus IoU", "nucleus caught"), scores, strict=True))


def iou(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    return float((a & b).sum() / max((a | b).sum(), 1))


def write_overlays(cells: CellTable, rows: list[int], path: Path, *, columns: int = 5) -> None:
    tiles = [overlay(cells, row) for row in rows]
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % columns)
    lines = [np.concatenate(tiles[first : first + columns], 1) for first in range(0, len(tiles), columns)]
    Image.fromarray(np.concatenate(lines)).save(path)


def overlay(cells: CellTable, row: int) -> NDArray[np.uint8]:
    """The image, its outlines, the cell painted out, the cell alone."""
    image = np.asarray(load_image(cells.image_path(row)))
    found, path = find_cell(image), cells.mask_path(row)
    regions = [(found > 0, (0, 170, 0)), (found == NUCLEUS, (255, 255, 0))]
    if path is not None:
        regions.append((load_mask(path) > 0, (255, 0, 255)))
    drawn = _tile(image).copy()
    for region, colour in regions:
        small = _tile(region.astype(np.uint8) * 255, Image.Resampling.NEAREST) > 0
        drawn[small & ~ndimage.binary_erosion(small)] = colour
    return np.concatenate([_tile(image), drawn, _tile(paint_out(image, found)), _tile(leave_alone(image, found))], 1)


def _tile(image: NDArray[np.uint8], how: Image.Resampling = Image.Resampling.BILINEAR) -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(image).resize((TILE, TILE), how))


def print_tables(table: pd.DataFrame) -> None:
    masked = table.dropna(subset=["cell IoU"])
    print("| data set | cells | cell IoU, mean (median) | nucleus IoU | nucleus caught | cell IoU below 0.5 |")
    print("|---|---|---|---|---|---|")
    for name, own in masked.groupby("dataset", sort=False):
        mean, median = own["cell IoU"].mean(), own["cell IoU"].median()
        nucleus, caught = own["nucleus IoU"].mean(), own["nucleus caught"].mean()
        bad = (own["cell IoU"] < 0.5).sum()
        print(f"| {name} | {len(own)} | {mean:.2f} ({median:.2f}) | {nucleus:.2f} | {caught:.1%} | {bad} |")
    print("\n| data set | label | images | found | share of the image, median of those found |\n|---|---|---|---|---|")
    for (name, label), own in table.groupby(["dataset", "label"], sort=False):
        share = own.loc[own["found"], "share"].median()
        print(f"| {name} | {label} | {len(own)} | {own['found'].mean():.0%} | {share:.0%} |")
    print(f"\n{table['ms'].median():.0f} ms an image (median)")
    print("\nleast right: " + ", ".join(masked.sort_values(by="cell IoU")["image"].head(10)))


if __name__ == "__main__":
    main()

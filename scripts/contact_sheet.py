"""Draw the contact sheet of docs/synthetic.md: every type in one laboratory, and one cell in all laboratories.

python scripts/contact_sheet.py docs/images/synthetic.png
python scripts/contact_sheet.py beside.png --data DATA   # real cells beside synthetic ones, to look at
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw, ImageFile

from cytosae.cells.synthetic import BITS, DOMAINS, TYPES, Domain, draw_cell

TILE, LABEL, EACH, COLUMNS = 96, 16, 3, 3
COLOURS = {
    "cytoplasm": (170, 200, 235), "nucleus": (70, 60, 150), "nucleolus": (150, 170, 255),
    "neutrophil_granules": (255, 160, 190), "eosinophil_granules": (240, 90, 60), "basophil_granules": (20, 10, 60),
    "azurophil_granules": (190, 0, 150), "abnormal_granules": (20, 160, 90), "giant_granules": (255, 190, 40),
    "auer_rods": (255, 0, 60), "vacuoles": (255, 255, 255), "projections": (60, 200, 200), "cup": (250, 230, 90),
    "hof": (230, 240, 255), "surroundings": (225, 205, 205),
}  # fmt: skip
"""Colours of structures, painted in this order."""
PAIRS = [
    ("neutrophil_segmented", "reference", "acevedo", "SNE"),
    ("neutrophil_band", "reference", "acevedo", "BNE"),
    ("eosinophil", "reference", "acevedo", "eosinophil"),
    ("basophil", "reference", "acevedo", "basophil"),
    ("monocyte", "reference", "acevedo", "monocyte"),
    ("lymphocyte", "reference", "acevedo", "lymphocyte"),
    ("erythroblast", "reference", "acevedo", "erythroblast"),
    ("platelet", "reference", "acevedo", "platelet"),
    ("promyelocyte", "reference", "acevedo", "PMY"),
    ("myelocyte", "reference", "acevedo", "MY"),
    ("metamyelocyte", "reference", "acevedo", "MMY"),
    ("myeloblast", "rose", "apl_cohort", "Blast, no lineage spec"),
    ("plasma_cell", "rose", "apl_cohort", "Plasma cells"),
    ("smudge_cell", "rose", "apl_cohort", "Smudge cells"),
    ("neutrophil_segmented", "blue", "bccd_cells", "neutrophil"),
    ("lymphocyte", "rapid", "tecom_wbc", "lymphocyte"),
    ("monocyte", "purple", "cellavision_wbc", "monocyte"),
]
"""Type, laboratory, real data set, its label."""


def main() -> None:
    """Write the sheet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", type=Path, help="folder of the real data sets: draw pairs instead")
    options = parser.parse_args()
    ImageFile.LOAD_TRUNCATED_IMAGES = True  # three files of apl_cohort lack their last bytes
    options.out.parent.mkdir(parents=True, exist_ok=True)
    if options.data is None:
        # a palette keeps the page light
        picture = sheet().quantize(256, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
        picture.save(options.out, optimize=True)
    else:
        pairs(options.data).save(options.out)


def sheet() -> Image.Image:
    """Every type with the masks of its structures, then four types in every laboratory."""
    near = replace(DOMAINS["rose"], zoom=1.35)
    blocks = [block(label.replace("_", " "), [(label, near)] * EACH, masks=True) for label in TYPES]
    four = ("neutrophil_segmented", "eosinophil", "monocyte", "lymphocyte")
    blocks += [block(f"laboratory {name}", [(label, domain) for label in four]) for name, domain in DOMAINS.items()]
    rows = [np.concatenate(blocks[i : i + COLUMNS], axis=1) for i in range(0, len(blocks), COLUMNS)]
    return Image.fromarray(np.concatenate(rows))


def block(title: str, cells: list[tuple[str, Domain]], *, masks: bool = False) -> np.ndarray:
    """Cells side by side under a title, with the last one's structures if ``masks``; noise is left out, for size."""
    drawings = [
        draw_cell(label, replace(domain, noise=0.0, jpeg=95), np.random.default_rng(20 + i), size=TILE, difficulty=0.0)
        for i, (label, domain) in enumerate(cells)
    ]
    tiles = [drawing.image for drawing in drawings]
    if masks:
        picture = np.full((TILE, TILE, 3), 245, dtype=np.uint8)
        for name, colour in COLOURS.items():
            picture[(drawings[-1].structures & BITS[name]) > 0] = colour
        tiles.append(picture)
    banner = Image.new("RGB", (TILE * (EACH + 1), LABEL), "white")
    ImageDraw.Draw(banner).text((4, 3), title, fill="black")
    framed = np.concatenate([np.asarray(banner), np.concatenate(tiles, axis=1)])
    return np.pad(framed, ((0, 4), (0, 8), (0, 0)), constant_values=255)


def pairs(data: Path) -> Image.Image:
    """Synthetic cells on the left, real ones of the same type on the right."""
    rows = []
    for label, laboratory, dataset, name in PAIRS:
        drawn = [draw_cell(label, DOMAINS[laboratory], np.random.default_rng(i), size=2 * TILE).image for i in range(6)]
        real = [np.asarray(Image.open(path).convert("RGB")) for path in real_cells(data, dataset, name)]
        tiles = [
            np.asarray(Image.fromarray(image).resize((TILE, TILE), Image.Resampling.BOX)) for image in drawn + real
        ]
        rows.append(np.concatenate(tiles, axis=1))
    return Image.fromarray(np.concatenate(rows))


def real_cells(data: Path, dataset: str, label: str) -> list[Path]:
    """Six cells of one label."""
    if dataset == "acevedo":
        paths = sorted((data / dataset).glob("PBC_dataset_normal_DIB/*/*.jpg"))
        chosen = [path for path in paths if label in (path.parent.name, path.name.split("_")[0])]
    else:
        frame = pd.read_csv(data / dataset / "manifest.csv")
        chosen = [data / dataset / image for image in frame.loc[frame["label"] == label, "image"]]
    return [chosen[i] for i in np.random.default_rng(0).permutation(len(chosen))[:6]]


if __name__ == "__main__":
    main()

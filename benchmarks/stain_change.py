"""How far `change_stain` changes colours, beside how far they differ between laboratories.

    python benchmarks/stain_change.py --data DATA

For every folder of images below --data, the means of l, alpha and beta of 100 images are computed as they are and after
a change of stain. Printed are the standard deviation between the folders' means, and that of the change of an image.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from cytosae.cells import load_image, read_cells
from cytosae.cells.stain.normalisation import change_stain, colour_statistics

SETS = ("acevedo", "apl_cohort", "bccd_cells", "cellavision_wbc", "tecom_wbc")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--images", type=int, default=100, help="images of each")
    options = parser.parse_args()
    means, changes = [], []
    for name in SETS:
        cells = read_cells(options.data / name)
        chosen = np.random.default_rng(0).permutation(len(cells))[: options.images]
        images = [load_image(cells.image_path(int(row))) for row in chosen]
        here = np.array([colour_statistics(image)[0] for image in images])
        changed = [change_stain(image, np.random.default_rng(seed)) for seed, image in enumerate(images)]
        means.append(here.mean(0))
        changes.append(np.std(np.array([colour_statistics(image)[0] for image in changed]) - here, axis=0))
    print("| standard deviation of the mean of | l | alpha | beta |\n|---|---|---|---|")
    for words, values in (
        (f"{len(SETS)} laboratories", np.std(means, axis=0, ddof=1)),
        ("an image in another stain", np.mean(changes, axis=0)),
    ):
        print(f"| {words} | " + " | ".join(f"{value:.4f}" for value in values) + " |")


if __name__ == "__main__":
    main()

"""The rule by which the bundled backbone is chosen among candidates, and the table of all of them.

    python scripts/trials_rule.py runs/trials/*.json

Written down before the long training was started. A candidate's yardsticks (`scripts/trials_yardsticks.py`) are:

* few: balanced accuracy of the cell type from five cells a type, mean over five domains;
* full: the same from four fifths of the cells, cross-validated;
* transfer: four shared cell types, the probe fitted on the other domains;
* attributes: AUC over the eleven human attributes of Acevedo;
* nucleus, cytoplasm: IoU of the best single latent of a sparse autoencoder on the tokens, in cells on which it was not
  chosen, mean over two domains;
* stain: share of cells whose predicted type is the same in changed colours, mean over five domains;
* position, colour: share of the patch tokens' variance by their place in the image, and linearly by the patch's mean
  colour; less is better.

Candidates are ranked in each (equal values share the mean of their ranks), and **the one with the smallest mean rank is
chosen**; where two are level, the smaller one. The classification of patients (APL) is not looked at. Nets that are too
large or too slow to be bundled (more than 8 MB of weights, less than half of the former one's images a second) are
shown in the table but are not ranked.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pandas as pd

YARDSTICKS = ("few", "full", "transfer", "attributes", "nucleus", "cytoplasm", "stain", "position", "colour")
LESS_IS_BETTER = ("position", "colour")
MOST_MEGABYTES, LEAST_SPEED = 8.0, 0.5


def rank_candidates(values: pd.DataFrame) -> pd.DataFrame:
    """Rank of every candidate (row) in every yardstick (column), 1 for the best, and their mean; best first."""
    signed = values.loc[:, list(YARDSTICKS)].copy()
    signed[list(LESS_IS_BETTER)] *= -1
    ranks = signed.rank(ascending=False, method="average")
    return ranks.assign(mean=ranks.mean(axis=1)).sort_values("mean", kind="stable")


def eligible(values: pd.DataFrame) -> pd.Series:
    """Which candidates can be bundled: by the size of their weights and by speed beside the former one's."""
    return (values["megabytes"] <= MOST_MEGABYTES) & (values["relative_speed"] >= LEAST_SPEED)


def main() -> None:
    """Read the candidates' figures, print the table and the choice."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path, help="one JSON file a candidate")
    options = parser.parse_args()
    values = pd.DataFrame({file.stem: json.loads(file.read_text()) for file in options.files}).T
    allowed = eligible(values)
    ranks = rank_candidates(values[allowed])
    table = values[[*YARDSTICKS, "megabytes", "relative_speed"]].astype(float).round(3)
    table["mean rank"] = ranks["mean"].round(2)
    table = table.sort_values("mean rank")
    print("| candidate | " + " | ".join(table.columns) + " |\n" + "|---" * (len(table.columns) + 1) + "|")
    for name, row in table.iterrows():
        print(f"| {name} | " + " | ".join("" if pd.isna(v) else f"{v:g}" for v in row) + " |")
    print(f"\nchosen: {ranks.index[0]}")


if __name__ == "__main__":
    main()

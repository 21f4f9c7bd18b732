"""Artefacts suppressed in the tokens of a study, and in those of the same SAE with random weights.

    cytosae data synthesize SMEARS --patients 36 --cells 50 --seed 101 --domain mixed --difficulty 0.3
    cytosae extract SMEARS --study DIR && cytosae train --study DIR --sae.train.steps 1000 && cytosae atlas --study DIR
    python benchmarks/suppression.py DIR [DIR ...]

Printed are the measures of `cytosae atlas suppress` for each study: before, after, and without as many other latents of
equal activation frequency.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import cytosae
from cytosae.atlas import write_atlas
from cytosae.evaluation.config import SuppressionConfig
from cytosae.evaluation.suppression import MEASURES, Suppression
from cytosae.pipeline.artefact_work import suppress_artefacts
from cytosae.sae.model.randomised import randomised


def main() -> None:
    """Print two tables for each study."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", type=Path, nargs="+")
    parser.add_argument("--controls", type=int, default=20)
    options = parser.parse_args()
    config = SuppressionConfig(controls=options.controls)
    for path in options.studies:
        study = cytosae.Study(path)
        name = study.datasets[0]
        show(f"{path.name}, the SAE", suppress_artefacts(study.place("atlas", name), study.sae(), config))
        with tempfile.TemporaryDirectory() as folder:
            control = randomised(study.sae())
            atlas = Path(folder) / "atlas" / f"{name}.h5ad"
            atlas.parent.mkdir()
            (Path(folder) / "cells").symlink_to((path / "cells").resolve())
            write_atlas(atlas, control, study.tokens(name), study.cells(name))
            show(f"{path.name}, the SAE with random weights", suppress_artefacts(atlas, control, config))


def show(title: str, found: Suppression) -> None:
    """A table of all measures."""
    facts = found.facts
    print(f"\n{title}: {facts['latents']:.0f} latents, active on {facts['frequency']:.0%} of the cells "
          f"(the others: {facts['random_frequency']:.0%}); {facts['cells']:.0f} cells asked, "
          f"{len(facts['types'])} types, {len(facts['stains'])} stains\n")  # fmt: skip
    print("| | as they are | without artefacts | without as many others | beyond |\n|---|---|---|---|---|")
    for row in found.table.to_dict("records"):
        numbers = [f"{row[s]:.2f} ({row[f'{s}_low']:.2f} to {row[f'{s}_high']:.2f})" for s in ("before", "after")]
        numbers.append(f"{row['random']:.2f} ({row['random_low']:.2f} to {row['random_high']:.2f})")
        print(f"| {MEASURES[row['measure']]} | " + " | ".join(numbers) + f" | {row['beyond']} |", flush=True)


if __name__ == "__main__":
    main()

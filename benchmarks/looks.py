"""Have the concepts of a study more words of colour and texture than latents of random weights?

    cytosae atlas looks --study runs/demo
    python benchmarks/looks.py runs/demo

Both are counted on the same cells, by the rule of the drafts of names (`looks_of`, `views/concepts/concept_names.py`).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cytosae
from cytosae.atlas import build_atlas, latent_places
from cytosae.atlas.places.patch_looks import measure_looks
from cytosae.sae.model.randomised import randomised
from cytosae.views.concepts.concept_names import looks_of
from cytosae.views.parts.opened_dataset import OpenedAtlas


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    parser.add_argument("--dataset")
    parser.add_argument("--seed", type=int, default=0, help="of the random directions")
    options = parser.parse_args()
    study = cytosae.Study(options.study)
    name = options.dataset or study.datasets[0]
    store, cells = study.tokens(name), study.cells(name)
    control = randomised(study.sae(), options.seed).eval()
    atlas = build_atlas(control, store, cells, tau=0.0)  # places and reference cells do not hang on tau
    places = latent_places(control, store, cells)
    if places is not None:
        atlas.var["lives_in"] = places["lives_in"].to_numpy()
    looks = measure_looks(control, store, cells, atlas)
    print("| latents | active | with a word of colour or texture |\n|---|---|---|")
    for words, opened in (
        ("learned", OpenedAtlas(study.atlas(name), cells, looks=study.looks(name))),
        ("random weights", OpenedAtlas(atlas, cells, looks=looks)),
    ):
        live = [int(latent) for latent in opened.live.index]
        print(f"| {words} | {len(live):,} | {sum(bool(looks_of(opened, latent)) for latent in live):,} |", flush=True)


if __name__ == "__main__":
    main()

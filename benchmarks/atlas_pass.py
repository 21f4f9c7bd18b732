"""The pass of an atlas beside encoding alone, on the same tokens in one run: of all tokens, and of the cell's.

    python benchmarks/atlas_pass.py DIR [--cells 2000] [--latents 49152] [--wide-cells 500] [--rounds 2]

DIR is a study with tokens and an SAE. Its SAE is measured, and on ``--wide-cells`` cells a TopK SAE of ``--latents``
latents with weights drawn at random. *Encoding alone* reads the tokens from the store and encodes them as an atlas
does, and keeps nothing; the *pass* is `write_atlas`, file and all. Both take turns. The table is Markdown; ratios are
medians over the rounds.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import cytosae
from cytosae.atlas import write_atlas
from cytosae.atlas.encoding.token_activations import encode_cells
from cytosae.atlas.making.streaming import BATCH_CELLS
from cytosae.sae import SparseAutoencoder, TopK
from cytosae.tokens import FocusedStore, TokenStore, find_tokens_in_focus
from cytosae.tokens.store.subset import SelectedCells


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    parser.add_argument("--cells", type=int, default=2000)
    parser.add_argument("--latents", type=int, default=49_152)
    parser.add_argument("--wide-cells", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    study = cytosae.Study(options.study)
    name = study.datasets[0]
    cells, tokens = study.cells(name), study.tokens(name)
    wide = SparseAutoencoder(d_in=tokens.width, d_sae=options.latents, sparsity=TopK(k=32)).eval()
    print("| SAE | cells | tokens | encoding alone, s | pass, s | encoding as a share of the pass |")
    print("|---|---|---|---|---|---|")
    for title, sae, n in (("of the study", study.sae(), options.cells), ("random weights", wide, options.wide_cells)):
        store = SelectedCells(tokens, range(min(n, len(tokens))))
        used = cells.subset(cells.frame["cell_id"].isin(store.cell_ids))
        focused = FocusedStore(store, find_tokens_in_focus(used, "cell", store.grid))
        share = f"the cell's, {float(np.mean(focused.counted)):.0%} of all"
        for words, view in (("all", store), (share, focused)):
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "atlas.h5ad"

                def make(sae=sae, view=view, path=path) -> None:
                    path.unlink(missing_ok=True)
                    write_atlas(path, sae, view, cells, tau=0.2)

                alone, passes = in_turns(lambda sae=sae, view=view: encode(sae, view), make, options.rounds)
            ratio = np.median(np.divide(alone, passes))
            row = f"| {title}, {sae.d_sae:,} latents | {len(store):,} | {words} |"
            print(f"{row} {np.median(alone):.2f} | {np.median(passes):.2f} | {ratio:.2f} |", flush=True)


def encode(sae: SparseAutoencoder, store: TokenStore) -> None:
    """Read and encode all cells of a store, and keep nothing."""
    start = 0
    for tokens in (batch for _, batch in store.batches(BATCH_CELLS)):
        counted = None if store.counted is None else store.counted[start : start + len(tokens)]
        encode_cells(sae, tokens, counted)
        start += len(tokens)


def in_turns(one: Callable[[], None], other: Callable[[], None], rounds: int) -> tuple[list[float], list[float]]:
    """Seconds of each in every round, after one that does not count."""
    taken: tuple[list[float], list[float]] = ([], [])
    for turn in range(rounds + 1):
        for act, seconds in zip((one, other), taken, strict=True):
            start = time.perf_counter()
            act()
            if turn:
                seconds.append(time.perf_counter() - start)
    return taken


if __name__ == "__main__":
    main()

"""What storing tokens as float16, bfloat16 or 8 bits costs a trained SAE: explained variance on the float32 tokens.

    python benchmarks/storage.py --images DIR [--cells N] [--steps S] [--seeds K] [--backbone NAME] [--dir DIR]

The tokens are computed once, in float32, and stored four times. On each store an SAE is trained by the same recipe,
from the same seed and in the same order of tokens; all are measured on the same float32 tokens. The spread over seeds
says which differences mean anything. The table is Markdown.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from cytosae.backbones import load_backbone
from cytosae.cells import read_cells
from cytosae.sae import RECIPES, Trainer, evaluate
from cytosae.tokens import ReaderConfig, TokenReader, TokenStore, extract, open_tokens
from cytosae.tokens.extraction.extract import ExtractConfig
from cytosae.tokens.extraction.work import Recipe, Work, plan_shards
from cytosae.tokens.store import encoding, token_store
from cytosae.tokens.store.encoding import bytes_per_token, encoding_of

KINDS = ("float32", "float16", "bfloat16", "uint8")
EVALUATED = 1 << 16


@dataclass(frozen=True)
class Result:
    """Of one storage type: share of variance lost by rounding, and explained variance of each seed's SAE."""

    lost: float
    explained: list[float]
    own: list[float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--cells", type=int, default=2000)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=RECIPES["default"].train.batch_tokens)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--backbone", default="tiny")
    parser.add_argument("--dir", type=Path)
    options = parser.parse_args()
    # No store of the package holds float32: here it is the yardstick.
    encoding._ENCODINGS["float32"] = encoding.Floating(torch.float32)
    token_store.Manifest.__annotations__["dtype"] = str
    with tempfile.TemporaryDirectory(dir=options.dir) as folder:
        stores = make_stores(options, Path(folder))
        results = {kind: measure(store, stores["float32"], options) for kind, store in stores.items()}
        print(table(results, stores["float32"], options))


def make_stores(options: argparse.Namespace, folder: Path) -> dict[str, TokenStore]:
    table = read_cells(options.images)
    rows = np.random.default_rng(0).permutation(len(table))[: options.cells]
    config = ExtractConfig(dtype="float32")  # type: ignore[arg-type]
    exact = extract(table.subset(np.sort(rows)), load_backbone(options.backbone), folder / "float32", config=config)
    return {"float32": exact, **{kind: stored_again(exact, folder / kind, kind) for kind in KINDS[1:]}}


def stored_again(exact: TokenStore, path: Path, kind: str) -> TokenStore:
    """The same tokens in another type, without another forward pass."""
    about = exact.manifest
    recipe = Recipe(
        about["backbone"],
        about["weights_hash"],
        exact.n_tokens,
        exact.width,
        exact.manifest["side"],
        kind,
        about["precision"],
    )
    work = Work(path, recipe, plan_shards(exact.cell_ids, 512, recipe))
    work.tidy()
    for shard in work.shards:
        tokens = exact.read(shard.start, shard.start + len(shard.cell_ids))
        work.write(shard, encoding_of(kind).encode(tokens))
    work.publish(path.name, 512, config={}, inputs={})
    return open_tokens(path, verify=False)


def measure(store: TokenStore, exact: TokenStore, options: argparse.Namespace) -> Result:
    explained, own = [], []
    for seed in range(options.seeds):
        recipe = RECIPES["default"]
        train = replace(recipe.train, steps=options.steps, batch_tokens=options.batch, seed=seed)
        sae = recipe.build(store.width, seed=seed)
        Trainer(sae, train).fit(TokenReader([store], ReaderConfig(options.batch, seed=seed)))
        sae.eval()
        for source, kept in ((exact, explained), (store, own)):
            sample = TokenReader([source], ReaderConfig(memory_bytes=0)).sample(EVALUATED, 1)
            kept.append(evaluate(sae, [sample]).explained_variance)
    return Result(lost_by_rounding(store, exact), explained, own)


def lost_by_rounding(store: TokenStore, exact: TokenStore) -> float:
    """Sum of squared rounding errors relative to the tokens' variance about their mean."""
    mean = torch.stack([tokens.mean((0, 1)) for _, tokens in exact.batches(64)]).mean(0)
    error = variance = 0.0
    for (_, one), (_, other) in zip(exact.batches(64), store.batches(64), strict=True):
        error += float((one - other).double().square().sum())
        variance += float((one - mean).double().square().sum())
    return error / variance


def table(results: dict[str, Result], exact: TokenStore, options: argparse.Namespace) -> str:
    lines = [
        f"{options.backbone}, {len(exact):,} cells, {options.steps:,} steps of {options.batch:,} tokens, "
        f"{options.seeds} seeds",
        "",
        "| stored as | bytes a token | variance lost by rounding | explained variance (float32 tokens) "
        "| relative to float32, seed by seed | explained variance (as stored) |",
        "|---|---|---|---|---|---|",
    ]
    base = results["float32"].explained
    for kind, result in results.items():
        differences = [a - b for a, b in zip(result.explained, base, strict=True)]
        columns = (
            kind,
            str(bytes_per_token(encoding_of(kind), exact.width)),
            f"{result.lost:.1e}",
            spread(result.explained, "{:.5f}"),
            spread(differences, "{:+.1e}") if kind != "float32" else "",
            spread(result.own, "{:.5f}"),
        )
        lines.append(f"| {' | '.join(columns)} |")
    return "\n".join(lines)


def spread(values: list[float], words: str) -> str:
    low, middle, high = (words.format(v) for v in (min(values), statistics.median(values), max(values)))
    return middle if len(values) == 1 else f"{middle} ({low} to {high})"


if __name__ == "__main__":
    main()

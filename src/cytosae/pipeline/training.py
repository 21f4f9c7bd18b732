"""Training inside a study: token stores in, an SAE artifact out; killed, it goes on where it stopped."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cytosae.common.artifact import recipe_of, write_artifact
from cytosae.common.errors import UsageError
from cytosae.common.unfinished import remove_work
from cytosae.pipeline.study_config import ReadingConfig
from cytosae.sae import Metrics, Recipe, SparseAutoencoder, Trainer, choose_tau, evaluate, save_sae, write_sweep
from cytosae.sae.model.level import level_of
from cytosae.tokens import ReaderConfig, TokenReader, TokenStore

if TYPE_CHECKING:
    import pandas as pd
    from lightning_fabric import Fabric

EVALUATED_TOKENS = 1 << 18
"""Tokens on which a finished SAE is measured, drawn from all that it was trained on."""

TAU_TOKENS = 1 << 15
"""Tokens that set the threshold of the barcodes, drawn likewise."""


def train_sae(
    stores: Sequence[TokenStore],
    recipe: Recipe,
    out: Path,
    *,
    reading: ReadingConfig,
    fabric: Fabric,
    config: Any,
    inputs: Mapping[str, str],
) -> None:
    """Train one SAE and write it to ``out``; the work lies in ``.<name>.partial`` beside it until then."""
    sae = recipe.build(stores[0].width)
    sae.level = level_of(stores[0].manifest["backbone"])
    work = _work_folder(out, recipe_of("sae", config, inputs))
    trainer = Trainer(sae, recipe.train, fabric=fabric, out=work, names=["sae"])
    trainer.fit(open_reader(stores, recipe, reading, fabric))
    if fabric.is_global_zero:
        metrics = measure(sae, stores, reading)
        tau = measure_tau(sae, stores, reading)
        details: dict[str, Any] = {"steps": recipe.train.steps, "tokens_seen": recipe.train.total_tokens, "tau": tau}
        details |= {"focus": stores[0].focus}
        details |= summary(metrics)
        files = {"metrics.csv": work / "metrics.csv"}
        save_sae(sae, out, config=config, inputs=inputs, metrics=metrics, details=details, files=files)
        shutil.rmtree(work)
    fabric.barrier()


def train_sweep(
    stores: Sequence[TokenStore],
    recipes: Mapping[str, tuple[Recipe, int]],
    out: Path,
    *,
    reading: ReadingConfig,
    fabric: Fabric,
    config: Any,
    inputs: Mapping[str, str],
) -> pd.DataFrame | None:
    """Train several SAEs on one reading of the tokens; ``out`` holds each of them, a table and a plot.

    Returns
    -------
    DataFrame or None
        The table (one row an SAE) on the first rank, None on others.
    """
    first, _ = next(iter(recipes.values()))
    saes = {name: recipe.build(stores[0].width, seed=seed) for name, (recipe, seed) in recipes.items()}
    work = _work_folder(out, recipe_of("sweep", config, inputs))
    trainer = Trainer(list(saes.values()), first.train, fabric=fabric, out=work, names=list(saes))
    trainer.fit(open_reader(stores, first, reading, fabric))
    table = None
    if fabric.is_global_zero:
        metrics = [measure(sae, stores, reading) for sae in saes.values()]
        with write_artifact(out, "sweep", config=config, inputs=inputs, details={"saes": len(saes)}) as folder:
            table = write_sweep(folder, saes, metrics)
            shutil.copyfile(work / "metrics.csv", folder / "metrics.csv")
            for (name, sae), measured in zip(saes.items(), metrics, strict=True):
                sae.level = level_of(stores[0].manifest["backbone"])
                tau = measure_tau(sae, stores, reading)
                details = {"steps": first.train.steps, "tau": tau, "focus": stores[0].focus, **summary(measured)}
                save_sae(sae, folder / name, config=recipes[name][0], inputs=inputs, metrics=measured, details=details)
        shutil.rmtree(work)
    fabric.barrier()
    return table


def sweep_recipes(recipe: Recipe, values: Mapping[str, Sequence[Any]]) -> dict[str, tuple[Recipe, int]]:
    """All combinations of ``values`` over a recipe: name -> recipe and seed of the initial weights.

    Parameters
    ----------
    values : mapping of str to sequence of object
        Field -> values; ``expansion``, ``seed`` or a field of the sparsity (``k``, ``l1_coefficient``), e.g. ``{"k":
        [16, 32], "expansion": [8, 16]}``.
    """
    found = {"": (recipe, recipe.train.seed)}
    for field, options in values.items():
        found = {
            f"{name}{'-' if name else ''}{field}{option:g}": _with(*old, field, option)
            for name, old in found.items()
            for option in options
        }
    return found


def open_reader(stores: Sequence[TokenStore], recipe: Recipe, reading: ReadingConfig, fabric: Fabric) -> TokenReader:
    """Shuffled batches of the size that the recipe asks for, split over the ranks."""
    tokens, ranks = recipe.train.batch_tokens, fabric.world_size
    if tokens % ranks:
        raise UsageError(f"batch_tokens is {tokens}, which {ranks} processes cannot share evenly; choose a multiple.")
    config = ReaderConfig(
        batch_tokens=tokens // ranks,
        which=reading.which,
        seed=recipe.train.seed,
        memory_bytes=reading.memory_bytes,
        buffer_tokens=max(reading.buffer_tokens, tokens // ranks),
    )
    return TokenReader(stores, config, rank=fabric.global_rank, ranks=ranks)


def measure(sae: SparseAutoencoder, stores: Sequence[TokenStore], reading: ReadingConfig) -> Metrics:
    """Figures of an SAE on tokens drawn from ``stores``."""
    reader = TokenReader(stores, ReaderConfig(which=reading.which, memory_bytes=0))
    return evaluate(sae.eval(), [reader.sample(EVALUATED_TOKENS, 0)])


def measure_tau(sae: SparseAutoencoder, stores: Sequence[TokenStore], reading: ReadingConfig) -> float:
    """Threshold of an SAE by the rule of `choose_tau`, on tokens drawn from ``stores`` with a fixed seed."""
    reader = TokenReader(stores, ReaderConfig(which=reading.which, memory_bytes=0))
    return choose_tau(sae.eval(), [reader.sample(TAU_TOKENS, 0)])


def summary(metrics: Metrics) -> dict[str, float]:
    """`Metrics` with the share of variance that the means of the positions explain by themselves.

    From 1 - EV = E / V and 1 - EV' = E / (V - V_positions), with E the squared error, follows V_positions / V.
    """
    left = 1 - metrics.explained_variance_after_position
    alone = 1 - (1 - metrics.explained_variance) / left if left > 0 else float("nan")
    return {**asdict(metrics), "variance_of_positions": alone}


def _work_folder(out: Path, recipe: str) -> Path:
    """Folder of the unfinished training of this recipe; the remains of others are removed."""
    work = out.with_name(f".{out.name}-{recipe[:16]}.partial")
    remove_work(out, but=work)
    work.mkdir(parents=True, exist_ok=True)
    return work


def _with(recipe: Recipe, seed: int, field: str, value: float) -> tuple[Recipe, int]:
    names = [f.name for f in fields(recipe.sparsity)]
    whole = int(value) if float(value).is_integer() else value
    if field == "seed":
        return recipe, int(value)
    if field == "expansion":
        return replace(recipe, expansion=int(value)), seed
    if field in names:
        return replace(recipe, sparsity=replace(recipe.sparsity, **{field: whole})), seed
    choices = ", ".join(["expansion", "seed", *names])
    raise UsageError(f"--sweep has no field {field!r}; choose among: {choices}.")

"""Does a concept follow one attribute and nothing else? Asked of drawn cells of which one attribute is changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.stats import binom, false_discovery_control, t

from cytosae.cells.synthetic import DOMAINS, PAIRED_ATTRIBUTES, Drawing, draw_pair
from cytosae.cells.synthetic.domains import find_domain
from cytosae.common.artifact import read_artifact, write_artifact
from cytosae.common.errors import UsageError
from cytosae.common.progress import progress
from cytosae.common.records import reading
from cytosae.evaluation.config import PairsConfig

Array = NDArray[np.float64]
Encode = Callable[[Sequence[Drawing]], Mapping[str, Any]]
"""From drawings to the cell activation of every latent, csr (n, m), of "learned" and of "random" weights."""
LEVEL = 0.01
"""False discovery rate up to which an attribute is said to move a concept."""
ALMOST_ALL, MOST = 0.8, 0.5
"""Specificity from which on a concept follows an attribute and little else, and from which on mainly that."""
NEAREST = 101
"""Random latents of the nearest activation frequency that stand beside a concept."""
VERDICTS: dict[str, str] = {
    "one": "follows one attribute and little else",
    "of_cell": "of the cell’s attributes follows one and little else; the image moves it, too",
    "mainly": "follows mainly one attribute",
    "several": "is moved by several",
    "none": "is moved by none consistently",
}
"""Verdict -> words."""
LATENTS, EFFECTS = "latents.parquet", "effects.parquet"


@dataclass(frozen=True)
class Answered:
    """What pairs tell of the latents that are active on a drawn cell.

    Attributes
    ----------
    latents : DataFrame
        One row each: ``latent``, ``weights`` ("learned" or "random"), ``frequency`` (share of the drawn cells on which
        it is active), ``verdict`` (a key of `VERDICTS`), ``attribute`` (the strongest), ``specificity``, its ``effect``
        with ends and ``q``, ``second`` and ``second_share`` (what moves it next, share of its response),
        ``cell_attribute`` and ``cell_specificity`` (the strongest of the cell's attributes, its share among them);
        of learned ones ``random_specificity``, ``random_cell_specificity`` (medians), ``random_one`` and
        ``random_of_cell`` (shares with these verdicts) of the `NEAREST` random latents.
    effects : DataFrame
        One row for each latent and attribute: ``latent``, ``weights``, ``attribute``, ``moved`` (pairs in which it
        differs), ``effect``, ``effect_low``, ``effect_high``, ``q``, ``share``.
    """

    latents: pd.DataFrame
    effects: pd.DataFrame


def ask_pairs(encode: Encode, config: PairsConfig | None = None) -> Answered:
    """Draw pairs that differ in one attribute, encode both cells of each, and tell what each latent follows.

    With d the activation with much less that with little of an attribute, over the n pairs of it, and s the standard
    deviation of the activation over all drawn cells:

    effect = mean(d) / s, with Student's 95 % interval. q: sign test of d over the pairs that differ, Benjamini and
    Hochberg over all latents and attributes of the same weights. share: of an attribute a, mean(d_a²) / sum over
    attributes of mean(d²), whatever the direction. specificity: the largest share.

    A latent whose strongest attribute moves it at q <= `LEVEL` follows that one "and little else" from a specificity of
    `ALMOST_ALL` on; where the same is true among the attributes of the cell alone, it follows one "of_cell"; else
    "mainly" one from a specificity of `MOST` on; else "several" move it where any does, or "none".

    Parameters
    ----------
    encode : callable
        See `Encode`; latent j of random weights need not stand for latent j.
    config : PairsConfig or None
        See there.

    Raises
    ------
    UsageError
        An attribute or a laboratory that there is not.
    """
    config = config or PairsConfig()
    names = list(config.attributes) or list(PAIRED_ATTRIBUTES)
    for name in names:
        if name not in PAIRED_ATTRIBUTES:
            raise UsageError(f"there is no attribute {name!r}; choose among: {', '.join(PAIRED_ATTRIBUTES)}.")
    domains = list(DOMAINS.values()) if config.domain == "mixed" else [find_domain(config.domain)]
    little: dict[str, list[Any]] = {}
    much: dict[str, list[Any]] = {}
    with progress("Drawn pairs", len(names) * config.pairs, "pairs") as bar:
        for name in names:
            # the next laboratory with every round, so that each type meets them all
            pairs = [
                draw_pair(
                    *(name, i, domains[(i + i // len(domains)) % len(domains)], config.seed),
                    size=config.size,
                    difficulty=config.difficulty,
                )
                for i in range(config.pairs)
            ]
            for found, ends in ((little, [pair[0] for pair in pairs]), (much, [pair[1] for pair in pairs])):
                for weights, values in encode(ends).items():
                    matrix = sp.csr_array(values, dtype=np.float64)
                    matrix.eliminate_zeros()
                    found.setdefault(weights, []).append(matrix)
            bar.advance(config.pairs)
    parts = {weights: _answer(names, little[weights], much[weights]) for weights in little}
    latents = {weights: found.latents.assign(weights=weights) for weights, found in parts.items()}
    latents["learned"] = latents["learned"].join(_beside_random(latents["learned"], latents["random"]))
    effects = [found.effects.assign(weights=weights) for weights, found in parts.items()]
    return Answered(pd.concat(latents.values(), ignore_index=True), pd.concat(effects, ignore_index=True))


def follow_counts(found: Answered) -> pd.DataFrame:
    """How many learned latents each attribute moves, and how many follow it and little else, beside random weights.

    Returns
    -------
    DataFrame
        Index attribute; ``moved``, ``one``, ``of_cell`` (learned latents with the verdict), and the same with
        ``random_``: of as many random latents, as often active (shares among the `NEAREST` of each learned one, added
        up).
    """
    parts: dict[str, Any] = {name: found.latents[found.latents["weights"] == name] for name in ("learned", "random")}
    near = _nearest(*(part["frequency"].to_numpy(float) for part in parts.values()))
    moves: Any = found.effects[found.effects["q"] <= LEVEL]
    rows: dict[str, dict[str, float]] = {}
    for attribute in dict.fromkeys(map(str, found.effects["attribute"])):
        rows[attribute] = {}
        for weights, part in parts.items():
            here = moves.loc[(moves["attribute"] == attribute) & (moves["weights"] == weights), "latent"]
            told = {
                "moved": part["latent"].isin(here),
                "one": part["verdict"].eq("one") & part["attribute"].eq(attribute),
                "of_cell": part["verdict"].eq("of_cell") & part["cell_attribute"].eq(attribute),
            }
            for name, said in told.items():
                values = said.to_numpy(float)
                key, of = (name, values) if weights == "learned" else (f"random_{name}", near(values))
                rows[attribute][key] = float(of.sum())
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("attribute")


def save_pairs(found: Answered, path: Path, *, config: Any = None, inputs: Mapping[str, str] | None = None) -> Path:
    """Write what pairs told as an artifact of kind "pairs": a folder with two Parquet files."""
    counts = found.latents.loc[found.latents["weights"] == "learned", "verdict"].value_counts()
    details = {"latents": int(counts.sum()), **{name: int(counts.get(name, 0)) for name in VERDICTS}}
    with write_artifact(path, "pairs", config=config, inputs=inputs, details=details) as folder:
        found.latents.to_parquet(folder / LATENTS)
        found.effects.to_parquet(folder / EFFECTS)
    return path


def open_pairs(path: Path | str, *, verify: bool = False) -> Answered:
    """Open what `save_pairs` wrote."""
    path = read_artifact(path, "pairs", verify=verify).path
    with reading(path, "make them again with: cytosae atlas pairs --study STUDY"):
        return Answered(pd.read_parquet(path / LATENTS), pd.read_parquet(path / EFFECTS))


def _answer(names: Sequence[str], little: Sequence[Any], much: Sequence[Any]) -> Answered:
    """What pairs tell of latents of one kind; (pairs, m) of each attribute."""
    cells: Any = sp.csc_array(sp.vstack([*little, *much]))
    frequency = np.diff(cells.indptr) / cells.shape[0]
    live = np.flatnonzero(frequency)
    spread = np.sqrt(np.maximum(_mean(cells.power(2)) - _mean(cells) ** 2, 0))[live]
    with np.errstate(divide="ignore", invalid="ignore"):
        told = [_move((b - a)[:, live], spread) for a, b in zip(little, much, strict=True)]
    table = {key: np.stack([one[key] for one in told], axis=1) for key in told[0]}  # (live, attributes)
    table["q"] = false_discovery_control(table.pop("p").ravel()).reshape(table["square"].shape)
    whole = table["square"].sum(1, keepdims=True)
    table["share"] = np.divide(table["square"], whole, out=np.zeros_like(table["square"]), where=whole > 0)
    keys = {"latent": np.repeat(live, len(names)), "attribute": pd.Categorical(np.tile(names, len(live)))}
    shown = ("moved", "effect", "effect_low", "effect_high", "q", "share")
    effects = pd.DataFrame(keys | {key: table[key].ravel() for key in shown})
    return Answered(_judge(names, live, table).assign(frequency=frequency[live]), effects)


def _move(difference: Any, spread: Array) -> dict[str, Array]:
    """What one attribute does to each latent: differences (n, m), standard deviations over cells (m,)."""
    n = difference.shape[0]
    mean, square = _mean(difference), _mean(difference.power(2))
    more, less = (np.asarray((sign * difference > 0).sum(0)).ravel() for sign in (1, -1))
    error = np.sqrt(np.maximum(square - mean**2, 0) / (n - 1))
    half = float(t.ppf(0.975, n - 1)) * error
    p = np.minimum(2 * binom.sf(np.maximum(more, less) - 1, more + less, 0.5), 1)
    ends = {"effect": mean, "effect_low": mean - half, "effect_high": mean + half}
    effects = {key: np.where(spread > 0, value / spread, 0.0) for key, value in ends.items()}
    return {**effects, "moved": more + less, "p": np.where(more + less > 0, p, 1.0), "square": square}


def _judge(names: Sequence[str], live: NDArray[np.intp], table: Mapping[str, Array]) -> pd.DataFrame:
    row, of = np.arange(len(live)), np.array(names, object)
    cells = np.array([PAIRED_ATTRIBUTES[name].about == "cell" for name in names])
    share, q = table["share"], table["q"]
    order = np.argsort(-share, axis=1, kind="stable")
    top, second = order[:, 0], order[:, min(1, len(names) - 1)]
    own = np.where(cells, share, -1).argmax(1)
    whole = (share * cells).sum(1)
    of_cell = np.divide(share[row, own], whole, out=np.zeros(len(live)), where=whole > 0)
    specificity, sure = share[row, top], q[row, top] <= LEVEL
    rules = {
        "one": sure & (specificity >= ALMOST_ALL),
        "of_cell": (q[row, own] <= LEVEL) & (of_cell >= ALMOST_ALL),
        "mainly": sure & (specificity >= MOST),
        "several": (q <= LEVEL).any(1),
    }
    said = np.select(list(rules.values()), list(rules), "none")
    columns: dict[str, Any] = {"latent": live, "verdict": said, "attribute": of[top], "specificity": specificity}
    columns |= {key: table[key][row, top] for key in ("effect", "effect_low", "effect_high", "q")}
    columns |= {"second": of[second], "second_share": share[row, second]}
    return pd.DataFrame(columns | {"cell_attribute": of[own], "cell_specificity": of_cell})


def _beside_random(learned: pd.DataFrame, random: pd.DataFrame) -> pd.DataFrame:
    frequency = learned["frequency"].to_numpy(float), random["frequency"].to_numpy(float)
    mean, median = _nearest(*frequency), _nearest(*frequency, median=True)
    columns = {f"random_{name}": median(random[name].to_numpy(float)) for name in ("specificity", "cell_specificity")}
    columns |= {f"random_{name}": mean(random["verdict"].eq(name).to_numpy(float)) for name in ("one", "of_cell")}
    return pd.DataFrame(columns, index=learned.index)


def _nearest(frequency: Array, known: Array, *, median: bool = False) -> Callable[[Array], Array]:
    """A function from a value of each random latent to its mean among those nearest in frequency to each latent."""
    order: NDArray[np.intp] = np.argsort(known, kind="stable")
    at = np.clip(np.searchsorted(known[order], frequency), 0, len(known) - 1)

    def gather(values: Array) -> Array:
        window = pd.Series(values[order]).rolling(NEAREST, center=True, min_periods=1)
        return np.asarray(window.median() if median else window.mean())[at]

    return gather


def _mean(matrix: Any) -> Array:
    return np.asarray(matrix.mean(0)).ravel()

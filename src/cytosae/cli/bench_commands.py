"""``cytosae bench``: how fast training and encoding are here, measured against what this machine can do at all."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from cytosae.cli.concept_commands import concepts
from cytosae.cli.output import Json, Output
from cytosae.common.errors import InputError
from cytosae.evaluation.config import SpeedConfig

if TYPE_CHECKING:
    from torch import Tensor

    from cytosae.evaluation import Lap

bench_app: App = App(name="bench")
bench_app.command(concepts)
DEFAULT = SpeedConfig()


@bench_app.default
def bench(
    *,
    config: Annotated[SpeedConfig, Parameter(name="*", negative_iterable=())] = DEFAULT,
    tokens: Path | None = None,
    markdown: Annotated[bool, Parameter(negative="")] = False,
    as_json: Json = False,
) -> None:
    """Measure training steps and encoding on this machine as ratios to its own limits.

    The float32 product of a batch of tokens with the encoder is what a dense trainer cannot go without; a ratio above 1
    is faster than it. The limits and our own work take turns, so that a busy machine disturbs all of them alike.

    Parameters
    ----------
    tokens
        An .npy file [N, d] of your own tokens instead of random ones.
    markdown
        Print a Markdown table.
    """
    from cytosae import evaluation as speed_of

    output = Output(as_json=as_json)
    speed = speed_of.measure_speed(config, tokens=None if tokens is None else _read(tokens, config.n))
    if markdown:
        output.line(f"{speed.machine}\n\n{speed_of.markdown(speed)}")
    else:
        output.line(str(speed.machine))
        rows = [
            [lap.name, statistics.median(lap.seconds), *(f"{value:.2f}" for value in lap.ratio)] for lap in speed.laps
        ]
        title = f"{config.variant}, d = {speed.config.d}, m = {config.m:,}, N = {speed.config.n:,}, L0 = {speed.l0:.1f}"
        output.table(["", "seconds", "ratio to the float32 product", "least", "most"], rows, title=title)
        for path, mean in speed.candidates.items():
            output.line(f"{path}: {mean:.0f} candidates a token, {speed.overruns[path]} overruns")
    output.result(
        machine=speed.machine,
        config=speed.config,
        laps=[_plain(lap) for lap in speed.laps],
        candidates=dict(speed.candidates),
        overruns=dict(speed.overruns),
        l0=speed.l0,
    )
    output.finish()


def _plain(lap: Lap) -> dict[str, object]:
    middle, least, most = lap.ratio
    return {
        "name": lap.name,
        "seconds": list(lap.seconds),
        "ratio": {"median": middle, "min": least, "max": most},
    }


def _read(path: Path, n: int) -> Tensor:
    """The first n tokens of an .npy file."""
    import numpy as np
    import torch

    try:
        tokens = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as problem:
        raise InputError(
            f"{path} cannot be read as an .npy file ({problem}); save tokens with numpy.save."
        ) from problem
    if tokens.ndim != 2 or tokens.dtype.kind != "f":
        raise InputError(f"{path} holds {tokens.dtype} {list(tokens.shape)}; it needs floats of the shape [N, d].")
    return torch.from_numpy(np.array(tokens[:n], np.float32))

"""Speed of training and encoding as ratios to this machine's own limits, everything in turns in one run.

A ratio is the time of the float32 product x W of the same round divided by that of the thing measured: above 1 is
faster than the product that a dense trainer cannot go without.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace

import torch
from torch import Generator, Tensor

from cytosae.common.devices import require_device
from cytosae.common.errors import InputError
from cytosae.evaluation.config import SpeedConfig
from cytosae.evaluation.machine import Machine, describe_machine
from cytosae.sae import AnySparsity, JumpRelu, ReluL1, SparseAutoencoder, TrainConfig, Trainer
from cytosae.sae.screening.paths import Path, Screening
from cytosae.sae.variants import VARIANTS

WALL = "float32 product"
"""What ratios are relative to."""
SAMPLE = 64
"""Tokens from which thresholds are set so that about k latents are active."""


@dataclass(frozen=True)
class Lap:
    """Times of one thing.

    Attributes
    ----------
    name : str
        What was measured.
    seconds : tuple of float
        Of each round.
    ratios : tuple of float
        Of each round, the float32 product's time divided by this.
    """

    name: str
    seconds: tuple[float, ...]
    ratios: tuple[float, ...]

    @property
    def ratio(self) -> tuple[float, float, float]:
        """Median, smallest and largest ratio."""
        return statistics.median(self.ratios), min(self.ratios), max(self.ratios)


@dataclass(frozen=True)
class Speed:
    """A measurement.

    Attributes
    ----------
    config : SpeedConfig
        What was asked, with the sizes of the tokens that were given.
    machine : Machine
        What it was measured on.
    laps : tuple of Lap
        The machine's limits, then our own work.
    candidates : mapping of str to float
        By path, latents per token whose exact scores were computed.
    overruns : mapping of str to int
        By path, tokens for which all scores had to be computed.
    l0 : float
        Active latents of a token in the last step.
    """

    config: SpeedConfig
    machine: Machine
    laps: tuple[Lap, ...]
    candidates: Mapping[str, float] = field(default_factory=dict)
    overruns: Mapping[str, int] = field(default_factory=dict)
    l0: float = float("nan")

    def lap(self, name: str) -> Lap:
        """The lap called ``name``."""
        return next(lap for lap in self.laps if lap.name == name)


def measure_speed(
    config: SpeedConfig | None = None,
    *,
    tokens: Tensor | None = None,
    sae: SparseAutoencoder | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Speed:
    """Measure this machine's limits and our own speed in turns.

    Parameters
    ----------
    config : SpeedConfig or None
        Sizes and variant.
    tokens : Tensor, shape (N, d), float32, or None
        To work on; None for random ones. Their sizes take the place of the configuration's.
    sae : SparseAutoencoder or None
        An SAE to start from (copied); None for an untrained one with about k active latents.
    clock : callable
        Seconds; `time.process_time` where the machine is busy with other work.

    Raises
    ------
    InputError
        where the tokens are no matrix of finite numbers.
    """
    config = config or SpeedConfig()
    require_device(config.device)
    x = random_tokens(config.n, config.d) if tokens is None else _checked(tokens)
    on_gpu = config.device != "cpu" and torch.cuda.is_available()
    device = torch.device("cuda" if on_gpu else "cpu")
    config = replace(config, n=x.shape[0], d=x.shape[1], device=device.type)
    x = x.to(device)
    with _threads(config.threads):
        work, trainers = _limits(config, x), {}
        for path in dict.fromkeys(config.paths):
            trainers[path], reader = _own(config, x, path, sae)
            work[f"step, {path}"] = lambda path=path: trainers[path].step(x)
            work[f"encode, {path}"] = lambda reader=reader: reader.encode_sparse(x)
        seconds = in_turns(work, config.rounds, _when_done(clock) if on_gpu else clock)
        walls = seconds[WALL]
        laps = tuple(
            Lap(name, tuple(times), tuple(wall / t for wall, t in zip(walls, times, strict=True)))
            for name, times in seconds.items()
        )
        counters = {p: t.saes[0].screening.screen.counters for p, t in trainers.items() if t.saes[0].screening.screen}
        active = [trainer.step(x).l0 for trainer in list(trainers.values())[:1]]
        return Speed(
            config,
            describe_machine(),
            laps,
            {path: count.candidates / max(count.tokens, 1) for path, count in counters.items()},
            {path: count.overruns for path, count in counters.items()},
            active[0] if active else float("nan"),
        )


def in_turns(
    work: Mapping[str, Callable[[], object]], rounds: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Seconds of each piece of work in each of ``rounds``, after one to warm up; every round begins with another."""
    names = list(work)
    for call in work.values():  # compiles, fills caches
        call()
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds):
        start = turn % len(names)
        for name in names[start:] + names[:start]:
            began = clock()
            work[name]()
            seconds[name].append(max(clock() - began, 1e-9))
    return seconds


def random_tokens(n: int, d: int, seed: int = 0) -> Tensor:
    """Tokens (n, d) of independent normal numbers."""
    return torch.randn(n, d, generator=Generator().manual_seed(seed))


def markdown(speed: Speed, targets: Mapping[str, float] | None = None) -> str:
    """The measurement as a Markdown table, with a column of ``targets`` where there are any."""
    config, aims = speed.config, targets or {}
    head = ["", "seconds (min, median, max)", f"speed relative to the {WALL} (min, median, max)", "tokens/s"]
    rows = [head + (["target"] if aims else []), ["---"] * (len(head) + bool(aims))]
    for lap in speed.laps:
        middle, least, most = lap.ratio
        median = statistics.median(lap.seconds)
        rate = f"{config.n / median:,.0f}" if lap.name.startswith(("step", "encode")) else ""
        row = [
            lap.name,
            f"{min(lap.seconds):.4g}, {median:.4g}, {max(lap.seconds):.4g}",
            f"{least:.2f}, {middle:.2f}, {most:.2f}",
            rate,
        ]
        rows.append(row + ([f"{aims[lap.name]:g}" if lap.name in aims else ""] if aims else []))
    title = f"{config.variant}, d = {config.d}, m = {config.m:,}, N = {config.n:,}, L0 = {speed.l0:.1f}"
    met = "; ".join(
        f"{path}: {mean:.0f} candidates a token, {speed.overruns[path]} overruns"
        for path, mean in speed.candidates.items()
    )
    table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    return f"{title}{'; ' + met if met else ''}\n\n{table}"


def tuned_sae(config: SpeedConfig, x: Tensor, seed: int = 0) -> SparseAutoencoder:
    """An untrained SAE with tied weights of which about k latents are active on tokens x (N, d)."""
    sparsity = _sparsity(config)
    sae = SparseAutoencoder(config.d, config.m, sparsity, seed=seed)
    with torch.no_grad():
        sae.W_enc.copy_(sae.W_dec.T)
        sae.b_dec.copy_(x.mean(0))
        if isinstance(sparsity, (ReluL1, JumpRelu)):
            scores = (x[:SAMPLE] - sae.b_dec) @ sae.W_enc
            kept = torch.topk(scores.flatten(), max(min(config.k * len(scores), scores.numel()), 1)).values
            threshold = kept[-1].clamp_min(1e-6)
            if isinstance(sparsity, ReluL1):
                sae.b_enc.sub_(threshold)
            else:
                sae.state.log_threshold.fill_(float(threshold.log()))
    return sae


def _sparsity(config: SpeedConfig) -> AnySparsity:
    """The variant with k active latents where it fixes them, without remedies for dead ones."""
    kind = VARIANTS[config.variant]
    known = {f.name for f in fields(kind)}
    wanted = {"k": config.k, "aux_k": 0, "prefixes": (0.25, 0.5, 1.0)}
    return kind(**{name: value for name, value in wanted.items() if name in known})


def _limits(config: SpeedConfig, x: Tensor) -> dict[str, Callable[[], object]]:
    rows = (torch.randn(config.m, config.d, generator=Generator().manual_seed(1)) / config.d**0.5).to(x.device)
    out, low = x.new_empty(config.n, config.m), x.new_empty(config.n, config.m, dtype=torch.bfloat16)
    x16, rows16, copy = x.bfloat16(), rows.bfloat16(), torch.empty_like(rows)

    def product(precision: str) -> None:
        with _products(precision):
            torch.mm(x, rows.T, out=out)

    tf32 = {"TF32 product": lambda: product("high")} if x.is_cuda else {}
    return {
        WALL: lambda: product("highest"),
        **tf32,
        "bfloat16 product": lambda: torch.mm(x16, rows16.T, out=low),
        "copy of the encoder": lambda: copy.copy_(rows),
    }


def _own(
    config: SpeedConfig, x: Tensor, path: Path, given: SparseAutoencoder | None
) -> tuple[Trainer, SparseAutoencoder]:
    """A trainer, and an SAE for encoding that it does not change."""
    saes = [(tuned_sae(config, x.cpu()) if given is None else _like(given)).to(x.device) for _ in range(2)]
    # small steps: what is measured should not drift from round to round
    train = TrainConfig(path=path, batch_tokens=config.n, learning_rate=1e-6, decoder_bias="keep")
    trainer = Trainer(saes[0], train)
    saes[1].screening = Screening(path)
    return trainer, saes[1]


def _like(sae: SparseAutoencoder) -> SparseAutoencoder:
    copy = SparseAutoencoder(sae.d_in, sae.d_sae, sae.sparsity, sae.normalisation, seed=sae.seed)
    copy.load_state_dict(sae.state_dict())
    return copy


def _checked(tokens: Tensor) -> Tensor:
    if tokens.ndim != 2 or not len(tokens):
        raise InputError(f"tokens must have the shape [N, d], not {list(tokens.shape)}; flatten images and positions.")
    tokens = tokens.float().contiguous()
    if not bool(torch.isfinite(tokens).all()):
        raise InputError("the tokens have values that are not finite; extract them again.")
    return tokens


def _when_done(clock: Callable[[], float]) -> Callable[[], float]:
    """A clock that first waits for what the GPU still has to do."""

    def read() -> float:
        torch.cuda.synchronize()
        return clock()

    return read


@contextmanager
def _products(precision: str) -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    if count:
        torch.set_num_threads(count)
    yield
    torch.set_num_threads(before)

"""Training of one or several SAEs on one reading of the tokens."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from cytosae.common.artifact import digest
from cytosae.common.errors import TrainingError, UsageError
from cytosae.common.progress import progress
from cytosae.sae.model.autoencoder import SparseAutoencoder
from cytosae.sae.training.config import TrainConfig
from cytosae.sae.training.initial_fit import fit_to_sample
from cytosae.sae.training.log import TrainingLog
from cytosae.sae.training.optimisation import Optimisation, StepLog
from cytosae.sae.training.state import latest_state, list_states, write_state

if TYPE_CHECKING:
    from lightning_fabric import Fabric

SMOOTHING = 0.98
"""Memory of the running loss to which an exploding one is compared."""


class Batch(Protocol):
    """Tokens (N, d) float32 and their positions (N,) int64."""

    @property
    def tokens(self) -> Tensor: ...  # noqa: D102
    @property
    def positions(self) -> Tensor: ...  # noqa: D102


class Reader(Protocol):
    """What `Trainer.fit` reads from (`cytosae.tokens.TokenReader`)."""

    def __next__(self) -> Batch: ...
    def sample(self, n: int, seed: int) -> Batch: ...  # noqa: D102
    def state_dict(self) -> dict[str, Any]: ...  # noqa: D102
    def load_state_dict(self, state: dict[str, Any]) -> None: ...  # noqa: D102


@dataclass(frozen=True)
class FitResult:
    """How a training ended.

    Attributes
    ----------
    steps : int
        Steps of the whole training.
    resumed_from : int
        The step at which this call went on, 0 if it began.
    seconds : float
        Duration of this call.
    logs : tuple of StepLog
        The last step's log of each SAE; empty where nothing was left to do.
    """

    steps: int
    resumed_from: int
    seconds: float
    logs: tuple[StepLog, ...]


class Trainer:
    """Trains SAEs in place; tokens are read, moved and normalised once for all of them.

    Parameters
    ----------
    sae : SparseAutoencoder or sequence of SparseAutoencoder
        One SAE, or several (other widths, sparsities, seeds).
    config : TrainConfig
        Of the training, the same for all.
    fabric : Fabric or None
        Where to compute (`cytosae.common.runtime.make_fabric`); None for plain PyTorch.
    out : Path or None
        Folder for ``metrics.csv`` and ``checkpoints/``; None for neither.
    names : tuple of str
        What to call the SAEs in the log, by default their numbers.
    """

    single: bool
    config: TrainConfig
    out: Path | None
    names: tuple[str, ...]
    runs: tuple[Optimisation, ...]
    steps: int

    def __init__(
        self,
        sae: SparseAutoencoder | Sequence[SparseAutoencoder],
        config: TrainConfig | None = None,
        *,
        fabric: Fabric | None = None,
        out: str | Path | None = None,
        names: Sequence[str] | None = None,
    ) -> None:
        self.single = isinstance(sae, SparseAutoencoder)
        self.saes: tuple[SparseAutoencoder, ...] = (sae,) if isinstance(sae, SparseAutoencoder) else tuple(sae)
        if not self.saes or len({s.d_in for s in self.saes}) > 1:
            widths = sorted({s.d_in for s in self.saes})
            raise UsageError(f"one training needs at least one SAE, all of the same token width, not of {widths}.")
        self.config = config or TrainConfig()
        self.fabric = fabric
        self.out = None if out is None else Path(out)
        self.names = tuple(names) if names else tuple(str(i) for i in range(len(self.saes)))
        if len(set(self.names)) != len(self.saes):
            raise UsageError(f"{len(self.saes)} SAEs need as many different names, not {list(self.names)}.")
        self.runs = tuple(Optimisation(s, self.config, fabric) for s in self.saes)
        if len(places := {str(s.device) for s in self.saes}) > 1:
            raise UsageError(f"one training needs all SAEs on one device, not on {' and '.join(sorted(places))}.")
        self.steps = 0
        self._smoothed = [math.nan] * len(self.saes)
        self._groups = _equal_normalisers(self.saes)

    def step(self, tokens: Tensor, positions: Tensor | None = None) -> Any:
        """One update of every SAE.

        Parameters
        ----------
        tokens : Tensor
            (N, d) or (B, T, d) float32 raw tokens.
        positions : Tensor, shape (N,), int64, or None
            Needed for (N, d) tokens where a normalisation works by position.

        Returns
        -------
        object
            The log of the step; a list of logs if the trainer was given several SAEs.

        Raises
        ------
        TrainingError
            where the loss is no finite number or has exploded; says what to try.
        """
        logs = self._step(tokens, positions)
        return logs[0] if self.single else logs

    def fit(self, reader: Reader) -> FitResult:
        """Train for ``config.steps`` steps, from the last checkpoint in ``out`` if there is one.

        Fits the normalisations and sets b_dec (and weights from data) from a sample first. A killed training that is
        started again ends, on a CPU, with bitwise the same weights as an undisturbed one. At the end the decoders' rows
        have unit norm, whatever path the steps took.
        """
        began = time.monotonic()
        resumed = self._resume(reader)
        if not resumed and self.steps == 0:
            self._begin(reader)
        log = TrainingLog(self.out if self._writes else None, self.names, self.fabric, upto=self.steps)
        tokens = self.config.batch_tokens
        logs: list[StepLog] = []
        total, done = self.config.total_tokens, self.steps * tokens
        with progress(_title(self.saes), total, "tokens", done=done) as bar, log:
            while self.steps < self.config.steps:
                batch = next(reader)
                self._check_size(len(batch.tokens))
                logs = self._step(batch.tokens, batch.positions)
                bar.advance(tokens, self._note(logs))
                last = self.steps == self.config.steps
                if self.steps % self.config.log_every == 0 or last:
                    log.write(self.steps, self.steps * tokens, logs, [s.d_sae for s in self.saes])
                if self.steps % self.config.checkpoint_every == 0 or last:
                    self._checkpoint(reader)
        if logs or resumed:
            for sae in self.saes:
                sae.normalise_decoder()
        return FitResult(self.steps, resumed, time.monotonic() - began, tuple(logs))

    def _step(self, tokens: Tensor, positions: Tensor | None) -> list[StepLog]:
        if tokens.ndim == 3 and positions is None:
            positions = torch.arange(tokens.shape[1]).repeat(len(tokens))
        device = self.saes[0].device
        x = tokens.reshape(-1, tokens.shape[-1]).to(device, non_blocking=device.type == "cuda")
        logs: dict[int, StepLog] = {}
        for group in self._groups:
            with torch.no_grad():
                normalised = self.saes[group[0]].normaliser(x, positions)
            for i in group:
                logs[i] = self.runs[i].step(normalised)
                self._check(i, logs[i], x)
        self.steps += 1
        return [logs[i] for i in range(len(self.saes))]

    def _check(self, i: int, log: StepLog, x: Tensor) -> None:
        usual = self._smoothed[i]
        exploded = self.runs[i].steps > 10 and log.loss > self.config.explosion * usual
        if math.isfinite(log.loss) and not exploded:
            self._smoothed[i] = log.loss if math.isnan(usual) else SMOOTHING * usual + (1 - SMOOTHING) * log.loss
            return
        if not bool(torch.isfinite(x).all()):
            raise TrainingError(
                f"The tokens of step {self.steps} contain values that are not finite; extract them again, in bfloat16 "
                "if float16 overflowed."
            )
        saved = list_states(self.out / "checkpoints") if self.out else []
        good = f"the last good checkpoint is {saved[-1]}" if saved else "there is no checkpoint yet"
        which = "" if self.single else f" of SAE {self.names[i]!r}"
        raise TrainingError(
            f"Training{which} diverged at step {self.steps} (loss {log.loss:.4g}, before about {usual:.4g}); {good}; "
            f"try a learning_rate below {self.config.learning_rate:g}, more warmup_steps than "
            f"{self.config.warmup_steps}, or gradient_clip=1.0."
        )

    def _check_size(self, tokens: int) -> None:
        ranks = 1 if self.fabric is None else self.fabric.world_size
        if tokens * ranks != self.config.batch_tokens:
            wanted = self.config.batch_tokens
            raise UsageError(
                f"the reader gives {tokens} tokens a batch to each of {ranks} processes, but the training's "
                f"batch_tokens is {wanted}; make the reader's batch_tokens {wanted // ranks}."
            )

    def _begin(self, reader: Reader) -> None:
        fit_to_sample(self.saes, reader, self.config, self.fabric)
        self._groups = _equal_normalisers(self.saes)

    @property
    def _writes(self) -> bool:
        if any(run.split for run in self.runs) and torch.distributed.get_rank() > 0:
            return False
        return self.out is not None and (self.fabric is None or self.fabric.is_global_zero)

    @property
    def _recipe(self) -> str:
        what = [[s.describe(), s.seed] for s in self.saes]
        return digest([self.config, what, list(self.names)])

    def _checkpoint(self, reader: Reader) -> None:
        states = _gather(reader.state_dict(), self.fabric)
        split = any(run.split for run in self.runs)
        if self.out is None or not (self._writes or split) or not all(run.finite() for run in self.runs):
            return
        # of a split SAE every rank has to give its part
        tensors = {f"{i}.{name}": t for i, run in enumerate(self.runs) for name, t in run.tensors().items()}
        if not self._writes:
            return
        values = {"recipe": self._recipe, "reader": states, "smoothed": self._smoothed}
        keep = self.config.keep_checkpoints
        write_state(self.out / "checkpoints", self.steps, tensors, values, keep=keep)

    def _resume(self, reader: Reader) -> int:
        if self.out is None or self.steps:
            return 0
        state = latest_state(self.out / "checkpoints")
        if state is None:
            return 0
        if state.values["recipe"] != self._recipe:
            raise UsageError(
                f"{state.path} belongs to a training with another configuration; choose another folder or delete "
                f"{state.path.parent}."
            )
        states = state.values["reader"]
        rank, ranks = (0, 1) if self.fabric is None else (self.fabric.global_rank, self.fabric.world_size)
        if len(states) != ranks:
            raise UsageError(
                f"{state.path} was written by {len(states)} processes, but {ranks} are running; start as many as "
                "before."
            )
        reader.load_state_dict(states[rank])
        for i, run in enumerate(self.runs):
            prefix = f"{i}."
            run.load_tensors({k.removeprefix(prefix): t for k, t in state.tensors.items() if k.startswith(prefix)})
        self._smoothed = list(state.values["smoothed"])
        self.steps = state.values["step"]
        self._groups = _equal_normalisers(self.saes)
        return self.steps

    def _note(self, logs: Sequence[StepLog]) -> str:
        log, sae = logs[0], self.saes[0]
        more = f" (+{len(logs) - 1} SAEs)" if len(logs) > 1 else ""
        return (
            f"loss {log.loss:.4f}  L0 {log.l0:.1f}  explained variance {log.explained_variance:.3f}  "
            f"dead {log.dead / sae.d_sae:.1%}{more}"
        )


def _equal_normalisers(saes: Sequence[SparseAutoencoder]) -> list[list[int]]:
    """Numbers of the SAEs that normalise tokens in exactly the same way, group by group."""
    groups: list[list[int]] = []
    for i, sae in enumerate(saes):
        for group in groups:
            other = saes[group[0]].normaliser
            mine, theirs = sae.normaliser.state_dict(), other.state_dict()
            if sae.normalisation == other.config and all(torch.equal(mine[k], theirs[k]) for k in mine):
                group.append(i)
                break
        else:
            groups.append([i])
    return groups


def _gather(state: dict[str, Any], fabric: Fabric | None) -> list[dict[str, Any]]:
    """The readers' states of all ranks, in their order."""
    if fabric is None or fabric.world_size == 1:
        return [state]
    states: list[Any] = [None] * fabric.world_size
    torch.distributed.all_gather_object(states, state)
    return states


def _title(saes: Sequence[SparseAutoencoder]) -> str:
    return "Training the SAE" if len(saes) == 1 else f"Training {len(saes)} SAEs"

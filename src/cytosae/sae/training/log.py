"""The log of a training: ``metrics.csv`` always, TensorBoard and Weights & Biases through Fabric's loggers."""

from __future__ import annotations

import csv
import time
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from cytosae.common.unfinished import written_whole
from cytosae.sae.training.optimisation import StepLog

if TYPE_CHECKING:
    from lightning_fabric import Fabric

COLUMNS = ("step", "tokens", "sae", *(f.name for f in fields(StepLog)), "dead_share", "tokens_per_second")


class TrainingLog:
    """Appends rows to ``out/metrics.csv``; rows after step ``upto``, of a training that was killed, are dropped first.

    Parameters
    ----------
    out : Path or None
        Folder, None to write no file.
    names : sequence of str
        Of the SAEs.
    fabric : Fabric or None
        Its loggers, if any, get the same numbers.
    upto : int
        Step from which the training goes on.
    """

    def __init__(self, out: Path | None, names: Sequence[str], fabric: Fabric | None, *, upto: int) -> None:
        self._path = None if out is None else out / "metrics.csv"
        self._names, self._fabric, self._upto = tuple(names), fabric, upto
        self._file: IO[str] | None = None
        self._last = (time.monotonic(), 0)

    def __enter__(self) -> TrainingLog:
        if self._path is not None:
            kept = _rows_upto(self._path, self._upto)
            with written_whole(self._path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
                csv.writer(file).writerows([COLUMNS, *kept])
            self._file = self._path.open("a", encoding="utf-8", newline="")
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def write(self, step: int, tokens: int, logs: Sequence[StepLog], widths: Sequence[int]) -> None:
        """One row for each SAE."""
        now = time.monotonic()
        before, tokens_before = self._last
        rate = (tokens - tokens_before) / max(now - before, 1e-9) if tokens_before else float("nan")
        self._last = now, tokens
        for name, log, width in zip(self._names, logs, widths, strict=True):
            values: dict[str, Any] = {**asdict(log), "dead_share": log.dead / width, "tokens_per_second": rate}
            if self._file is not None:
                row = [step, tokens, name, *(f"{v:.8g}" if isinstance(v, float) else v for v in values.values())]
                csv.writer(self._file).writerow(row)
            if self._fabric is not None and self._fabric.loggers:
                prefix = f"{name}/" if len(self._names) > 1 else ""
                self._fabric.log_dict({prefix + key: value for key, value in values.items()}, step=step)
        if self._file is not None:
            self._file.flush()


def _rows_upto(path: Path, step: int) -> list[list[str]]:
    if not path.is_file() or step == 0:
        return []
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    # the last line of a killed run may be cut off
    return [r for r in rows if len(r) == len(COLUMNS) and r[0].isdecimal() and int(r[0]) <= step]

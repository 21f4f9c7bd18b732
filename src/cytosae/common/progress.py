"""Progress of long work on standard error: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from cytosae.common.ranks import is_first

LINE_EVERY = 30.0
"""Seconds between two lines where standard error is no terminal."""


class Bar:
    """Handle of one piece of work in progress; `advance` it and it shows itself."""

    description: str
    total: int | None
    unit: str
    done: int
    note: str

    def __init__(self, description: str, total: int | None, unit: str) -> None:
        self.description, self.total, self.unit = description, total, unit
        self.done = 0
        self.note = ""
        self._start = self._last = time.monotonic()

    def advance(self, n: int = 1, note: str | None = None) -> None:
        """Count ``n`` more units; ``note`` is a short text beside the bar (loss, L0, ...)."""
        self.done += n
        self.note = self.note if note is None else note
        now = time.monotonic()
        if now - self._last >= LINE_EVERY and is_first():
            self._last = now
            sys.stderr.write(self._line(now) + "\n")
            sys.stderr.flush()

    def _line(self, now: float) -> str:
        rate = self.done / max(now - self._start, 1e-9)
        of = f" of {self.total:,}" if self.total else ""
        left = f", {_duration((self.total - self.done) / rate)} left" if self.total and rate > 0 else ""
        note = f"  {self.note}" if self.note else ""
        return f"{self.description}: {self.done:,}{of} {self.unit}, {rate:,.0f}/s{left}{note}"


class _RichBar(Bar):
    def __init__(self, description: str, total: int | None, unit: str, display: Progress) -> None:
        super().__init__(description, total, unit)
        self._display = display
        self._task = display.add_task(description, total=total, unit=unit, note="")

    def advance(self, n: int = 1, note: str | None = None) -> None:
        self.done += n
        self.note = self.note if note is None else note
        self._display.update(self._task, advance=n, note=self.note)


class _RateColumn(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed or 0.0:,.0f} {task.fields['unit']}/s", style="dim")


@contextmanager
def progress(description: str, total: int | None = None, unit: str = "steps", *, done: int = 0) -> Iterator[Bar]:
    """Show progress while the block runs, of several processes that of the first (`ranks.is_first`).

    Parameters
    ----------
    description : str
        What is being done, e.g. ``"Extracting tokens of acevedo"``.
    total : int or None
        Units in all, None when unknown.
    unit : str
        Plural noun of what is counted.
    done : int
        Units that an earlier, interrupted run has already done.
    """
    if not (sys.stderr.isatty() and is_first()):
        bar = Bar(description, total, unit)
        bar.done = done
        yield bar
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,.0f}/{task.total:,.0f}" if total else "{task.completed:,.0f}"),
        _RateColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=False) as display:
        bar = _RichBar(description, total, unit, display)
        if done:
            bar.advance(done)
        yield bar


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"

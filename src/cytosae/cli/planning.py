"""How ``cytosae run --dry-run`` tells what a run would do."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING

from rich.filesize import decimal

from cytosae.cli.output import Output

if TYPE_CHECKING:
    from cytosae.pipeline.plan import RunPlan


def show_plan(plan: RunPlan, output: Output) -> None:
    """Print a plan, its sums, and whether the disk has room."""
    rows = [
        (
            step.step,
            "up to date" if step.current else _duration(step.seconds),
            "" if step.disk is None else decimal(step.disk),
            "" if step.memory is None else decimal(step.memory),
            f"{step.why}; {step.basis}".strip("; "),
        )
        for step in plan.steps
    ]
    output.table(["step", "time", "disk", "memory", "made from"], rows)
    if all(step.current for step in plan.steps):
        output.line("Everything is up to date; a run would do nothing.")
    else:
        output.line(
            f"About {_duration(plan.seconds)} on {plan.device} without what is not timed, from a few seconds of "
            f"measurement; {decimal(plan.disk)} on disk, of {decimal(plan.free)} free. Nothing was written."
        )
    if plan.disk > plan.free:
        output.line("That is more than is free: make room, or name another place with --study.")
    output.result(steps=plan.steps, seconds=plan.seconds, disk=plan.disk, free=plan.free, device=plan.device)
    output.finish()


def _duration(seconds: float | None) -> str:
    return "not timed" if seconds is None else str(datetime.timedelta(seconds=max(1, round(seconds))))

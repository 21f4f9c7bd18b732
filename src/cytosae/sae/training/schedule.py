"""Learning rate over the steps of a training."""

from __future__ import annotations

from dataclasses import dataclass

from cytosae.common.errors import UsageError


@dataclass(frozen=True)
class Constant:
    """The learning rate stays (after the warm-up); the paper's."""


@dataclass(frozen=True)
class LinearDecay:
    """The learning rate falls linearly to 0 at the end (Gao et al. 2024).

    Attributes
    ----------
    share : float
        Of the steps, over which it falls.
    """

    share: float = 0.2

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise UsageError(f"LinearDecay needs a share in (0, 1], not {self.share}.")


Schedule = Constant | LinearDecay


def rate_factor(schedule: Schedule, step: int, *, steps: int, warmup_steps: int) -> float:
    """Share of the learning rate that step ``step`` (from 0) of ``steps`` uses.

    The linear warm-up gives (step + 1) / warmup_steps, as the published code does.
    """
    factor = min(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0
    if isinstance(schedule, LinearDecay):
        factor *= min(1.0, max(steps - step, 0) / (schedule.share * steps))
    return factor

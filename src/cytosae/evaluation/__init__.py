"""Speed on this machine, as ratios to its own limits."""

from cytosae.evaluation.machine import Machine, describe_machine
from cytosae.evaluation.speed import Lap, Speed, SpeedConfig, Variant, markdown, measure_speed, random_tokens

__all__ = [
    "Lap",
    "Machine",
    "Speed",
    "SpeedConfig",
    "Variant",
    "describe_machine",
    "markdown",
    "measure_speed",
    "random_tokens",
]

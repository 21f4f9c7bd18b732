from .config import SpeedConfig, Variant
from .machine import Machine, describe_machine
from .speed import Lap, Speed, markdown, measure_speed, random_tokens

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
